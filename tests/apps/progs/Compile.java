// SPDX-License-Identifier: Apache-2.0
// Compile.java FOLDER FILE...: the compiler of the runtime, where the command javac is not installed
import java.util.Arrays;
import java.util.stream.Stream;
import javax.tools.ToolProvider;

public class Compile {
	public static void main(String[] args) {
		String[] files = Arrays.copyOfRange(args, 1, args.length);
		String[] all = Stream.concat(Stream.of("-d", args[0]), Stream.of(files)).toArray(String[]::new);
		System.exit(ToolProvider.getSystemJavaCompiler().run(null, null, null, all));
	}
}
