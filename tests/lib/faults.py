# SPDX-License-Identifier: Apache-2.0
"""Fault points of a binary (include/nstack/fault_point.h): which there are, and to let a process die
at one of them. The process that dies runs the very binary that users run."""
import os
import platform
import signal
import struct

#: what is written over a point, and how a process ends there
TRAP = {"x86_64": b"\xcc", "aarch64": struct.pack("<I", 0xd4200000)}[platform.machine()]
DIED = -signal.SIGTRAP


def _sections(image):
    """{name: (file offset, size)} of a 64-bit ELF file."""
    shoff, = struct.unpack_from("<Q", image, 40)
    size, count, names = struct.unpack_from("<HHH", image, 58)
    rows = [struct.unpack_from("<IIQQQQ", image, shoff + i * size) for i in range(count)]
    base = rows[names][4]
    return {image[base + r[0]:image.index(b"\0", base + r[0])].decode(): (r[4], r[5]) for r in rows}


def _file_offset(image, address):
    phoff, = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    for i in range(count):
        kind, _, offset, vaddr, _, filesz = struct.unpack_from("<IIQQQQ", image, phoff + i * size)
        if kind == 1 and vaddr <= address < vaddr + filesz:
            return offset + address - vaddr
    raise ValueError(f"{address:#x} is in no segment")


def points(path):
    """{name: [file offsets]}"""
    with open(path, "rb") as f:
        image = f.read()
    at, size = _sections(image)[".nstack.faults"]
    end, out = at + size, {}
    while at < end:
        address, = struct.unpack_from("<Q", image, at)
        stop = image.index(b"\0", at + 8)
        out.setdefault(image[at + 8:stop].decode(), []).append(_file_offset(image, address))
        at = stop + 1
    return out


def arm(pid, path, name):
    """From here on the process, which has path mapped, dies when it comes by that point."""
    with open(f"/proc/{pid}/maps", encoding="utf8") as f:
        maps = [line.split(maxsplit=5) for line in f]
    code = [(m[0].split("-"), int(m[2], 16)) for m in maps
            if len(m) == 6 and m[5].strip() == os.path.realpath(path) and "x" in m[1]]
    mem = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    try:
        for offset in points(path)[name]:
            where = [int(lo, 16) + offset - start for (lo, hi), start in code
                     if start <= offset < start + int(hi, 16) - int(lo, 16)]
            assert len(where) == 1, f"{name} is not mapped in {pid}"
            os.pwrite(mem, TRAP, where[0])
    finally:
        os.close(mem)
