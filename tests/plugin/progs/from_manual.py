"""A program that makes its stack call every hook; says on stderr where it is ("mark ...")."""
import array
import fcntl
import os
import select
import socket
import termios


def mark(what):
    os.write(2, f"mark {what}\n".encode())


mark("socket")
ls = socket.create_server(("198.18.77.1", 0))
ep = select.epoll()
mark("add")
ep.register(ls, select.EPOLLIN)
mark("quiet")
assert ep.poll(0.05) == []
mark("connect")
c = socket.create_connection(ls.getsockname())
assert ep.poll(10) == [(ls.fileno(), select.EPOLLIN)]
s, peer = ls.accept()
assert peer == c.getsockname() and s.getpeername() == peer
mark("none left")
assert ep.poll(0) == []
mark("mod")
ep.modify(ls, select.EPOLLIN | select.EPOLLOUT)
mark("del")
ep.unregister(ls)
mark("select")
s.send(b"four")
assert select.select([c], [], [], 10)[0] == [c]
mark("peak")
n = array.array("i", [0])
fcntl.ioctl(c.fileno(), termios.FIONREAD, n)
assert n[0] == 4 and c.recv(9) == b"four"
# two connections that a child goes on with: one is inherited by exec, too, one is not
d = socket.create_connection(ls.getsockname())
e, _ = ls.accept()
for x in (c, s):
    x.set_inheritable(True)
mark(f"numbers {[x.fileno() for x in (ls, c, s, d, e)]}")
mark("fork")
pid = os.fork()
if pid == 0:
    mark("child")
    c.send(b"from the child")
    assert c.recv(100) == b"to the child"
    own = select.epoll()
    own.register(c, select.EPOLLIN)
    c.send(b"waits")
    assert own.poll(10) == [(c.fileno(), select.EPOLLIN)] and c.recv(100) == b"once more"
    mark("child closes")
    c.close()
    mark("child closes cloexec")
    d.close()
    mark("child ends")
    raise SystemExit(0)
assert s.recv(100) == b"from the child"
s.send(b"to the child")
assert s.recv(100) == b"waits"
s.send(b"once more")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
mark("parent")
c.send(b"still")  # the child closed only its own
assert s.recv(100) == b"still"
d.send(b"here")
assert e.recv(100) == b"here"
mark("close")
c.close()
assert s.recv(100) == b""
mark("end")
