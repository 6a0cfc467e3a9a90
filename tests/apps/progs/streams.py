#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""streams.py asyncio|uvloop serve ADDR PORT
streams.py asyncio|uvloop ask ADDR PORT CLIENTS ROUNDS

The server answers each message (a length, then so many bytes) with its SHA-256 and the message."""
import asyncio
import hashlib
import random
import struct
import sys

LOOP, WHAT, ADDR, PORT = sys.argv[1:5]


async def serve_one(reader, writer):
    try:
        while head := await reader.read(4):
            size, = struct.unpack("!I", head + await reader.readexactly(4 - len(head)))
            data = await reader.readexactly(size)
            writer.write(hashlib.sha256(data).digest() + data)
            await writer.drain()
    finally:
        writer.close()


async def serve():
    async with await asyncio.start_server(serve_one, ADDR, int(PORT), backlog=200) as server:
        await server.serve_forever()


async def ask_one(seed, rounds):
    rnd = random.Random(seed)
    reader, writer = await asyncio.open_connection(ADDR, int(PORT))
    for _ in range(rounds):
        data = rnd.randbytes(rnd.choice([1, 100, 1448, 20_000, 100_000]))
        writer.write(struct.pack("!I", len(data)) + data)
        await writer.drain()
        assert await reader.readexactly(32) == hashlib.sha256(data).digest()
        assert await reader.readexactly(len(data)) == data
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    return rounds


async def ask():
    clients, rounds = map(int, sys.argv[5:7])
    done = await asyncio.wait_for(asyncio.gather(*(ask_one(i, rounds) for i in range(clients))), 40)
    print(sum(done), "answers")


if LOOP == "uvloop":
    import uvloop
    uvloop.install()
asyncio.run(serve() if WHAT == "serve" else ask())
