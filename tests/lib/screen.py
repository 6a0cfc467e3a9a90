# SPDX-License-Identifier: Apache-2.0
"""A program on a terminal: a pty, and pyte to know what a person would see on it."""
import fcntl
import os
import select
import signal
import struct
import subprocess
import termios

import pyte

from . import wait


class Screen:
    """The program argv on a terminal of that size."""

    def __init__(self, argv, rows=24, cols=80, term="linux"):
        self.master, slave = os.openpty()
        self.screen = pyte.Screen(cols, rows)
        self.stream = pyte.ByteStream(self.screen)
        self._size(rows, cols)
        self.popen = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                      env={**os.environ, "TERM": term, "LC_ALL": "C"},
                                      preexec_fn=self._in_child)
        os.close(slave)

    @staticmethod
    def _in_child():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def _size(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def resize(self, rows, cols):
        self.screen.resize(rows, cols)
        self._size(rows, cols)

    def lines(self):
        """What is on it now, after all that has come."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError: # the program has ended
                break
            if not data:
                break
            self.stream.feed(data)
        return [x.rstrip() for x in self.screen.display]

    def wait(self, cond, what):
        """Until cond(lines); the lines."""
        try:
            wait.until(lambda: cond(self.lines()), what)
        except AssertionError as e:
            raise AssertionError(f"{e}\n" + "\n".join(self.lines())) from None
        return self.lines()

    def keys(self, text):
        os.write(self.master, text.encode())

    def echoes(self):
        """Does it show what is typed, as a shell leaves it?"""
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    def ended(self):
        """Its exit status, when it has ended."""
        wait.until(lambda: self.lines() is not None and self.popen.poll() is not None, "the program to end")
        return self.popen.returncode

    def close(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        os.close(self.master)
