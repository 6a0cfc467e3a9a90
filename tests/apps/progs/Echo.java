// SPDX-License-Identifier: Apache-2.0
// Echo serve ADDR PORT: one selector, non-blocking channels, echoes
// Echo ask ADDR PORT CLIENTS ROUNDS: blocking sockets in threads, each answer is checked
import java.io.DataInputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Echo {
	static void serve(InetSocketAddress at) throws IOException {
		Selector selector = Selector.open();
		ServerSocketChannel server = ServerSocketChannel.open();
		server.bind(at, 200);
		server.configureBlocking(false);
		server.register(selector, SelectionKey.OP_ACCEPT);
		while (true) {
			selector.select();
			for (SelectionKey key : selector.selectedKeys()) {
				if (key.isAcceptable())
					accept(server, selector);
				else
					echo(key);
			}
			selector.selectedKeys().clear();
		}
	}

	static void accept(ServerSocketChannel server, Selector selector) throws IOException {
		SocketChannel c = server.accept();
		if (c == null)
			return;
		c.configureBlocking(false);
		c.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(64 << 10));
	}

	/* Reads while there is room, writes what it can; asks for the event that would let it go on. */
	static void echo(SelectionKey key) throws IOException {
		SocketChannel c = (SocketChannel) key.channel();
		ByteBuffer buf = (ByteBuffer) key.attachment();
		int n = 0;
		try {
			if (key.isReadable())
				n = c.read(buf);
			buf.flip();
			c.write(buf);
			buf.compact();
		} catch (IOException e) {
			n = -1;
		}
		if (n < 0)
			c.close();
		else
			key.interestOps((buf.position() > 0 ? SelectionKey.OP_WRITE : 0)
				| (buf.hasRemaining() ? SelectionKey.OP_READ : 0));
	}

	static int ask(InetSocketAddress at, int seed, int rounds) throws IOException {
		Random random = new Random(seed);
		int[] sizes = { 1, 100, 5000, 50000 };
		try (Socket s = new Socket()) {
			s.setSoTimeout(20000);
			s.connect(at, 10000);
			DataInputStream in = new DataInputStream(s.getInputStream());
			for (int i = 0; i < rounds; i++) {
				byte[] data = new byte[sizes[i % sizes.length]], got = new byte[data.length];
				random.nextBytes(data);
				s.getOutputStream().write(data);
				in.readFully(got);
				if (!Arrays.equals(data, got))
					throw new IOException("wrong answer");
			}
			s.shutdownOutput();
			if (in.read() != -1)
				throw new IOException("more than was sent");
		}
		return rounds;
	}

	public static void main(String[] args) throws Exception {
		InetSocketAddress at = new InetSocketAddress(InetAddress.getByName(args[1]), Integer.parseInt(args[2]));
		if (args[0].equals("serve")) {
			serve(at);
			return;
		}
		int clients = Integer.parseInt(args[3]), rounds = Integer.parseInt(args[4]), sum = 0;
		ExecutorService pool = Executors.newFixedThreadPool(clients);
		List<Future<Integer>> done = new ArrayList<>();
		for (int i = 0; i < clients; i++) {
			int seed = i;
			done.add(pool.submit(() -> ask(at, seed, rounds)));
		}
		for (Future<Integer> f : done)
			sum += f.get();
		pool.shutdown();
		System.out.println(sum + " answers");
	}
}
