# SPDX-License-Identifier: Apache-2.0
"""make install into a folder, and the tool run from there; make uninstall leaves nothing."""
import os
import pathlib
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("NSTACK_BUILD", TOP / "build")).absolute()


def make(*args):
    return subprocess.run(["make", "-C", TOP, f"O={BUILD}", *args], check=True, capture_output=True,
                          text=True, timeout=600)


@pytest.fixture(params=["/usr/local/lib", "/usr/lib/x86_64-linux-gnu"])
def root(request, tmp_path):
    if not (BUILD / "nstack").exists():
        pytest.fail(f"{BUILD}/nstack is not built (make, or set NSTACK_BUILD)")
    prefix = str(pathlib.Path(request.param.split("/lib")[0]))
    args = [f"DESTDIR={tmp_path}", f"prefix={prefix}", f"libdir={request.param}"]
    make("install", *args)
    yield tmp_path, prefix, request.param
    make("uninstall", *args)
    left = [p for p in tmp_path.rglob("*") if not p.is_dir()]
    assert not left


def test_installed_tool(root):
    top, prefix, libdir = root
    lib = top / libdir[1:] / "libnsocket.so"
    tool = top / prefix[1:] / "bin/nstack"
    assert lib.exists() and tool.exists()
    # away from the build folder, without anything that points to it
    env = {"PATH": "/usr/bin:/bin", "HOME": "/"}
    out = subprocess.run([tool, "doctor"], env=env, cwd="/", capture_output=True, text=True)
    assert out.returncode in (0, 1), out.stderr
    assert any(line.split()[:2] == ["ok", "library"] and line.split()[2] == str(lib)
               for line in out.stdout.splitlines()), out.stdout
    subprocess.run([tool, "run", "--quiet", "--set", "load=false", "--", "true"], env=env, cwd="/",
                   check=True)
    # the program really is preloaded with the installed library
    maps = subprocess.run([tool, "run", "--quiet", "--set", "load=false", "--", "cat",
                           "/proc/self/maps"], env=env, cwd="/", check=True, capture_output=True,
                          text=True).stdout
    assert str(lib) in maps


def test_what_else_is_installed(root, tmp_path):
    top, prefix, libdir = root
    man = top / prefix[1:] / "share/man"
    assert {p.relative_to(man).as_posix() for p in man.rglob("*.*") if p.is_file()} == {
        f"man{p.suffix[1:]}/{p.name}" for p in (TOP / "docs/man").glob("*.[1-9]")}
    # every header compiles from where it was installed
    env = {**os.environ, "PKG_CONFIG_LIBDIR": str(top / libdir[1:] / "pkgconfig"),
           "PKG_CONFIG_SYSROOT_DIR": str(top)}
    cflags = subprocess.run(["pkg-config", "--cflags", "nstack"], env=env, check=True,
                            capture_output=True, text=True).stdout.split()
    headers = sorted((top / prefix[1:] / "include/nstack").glob("*.h"))
    assert headers
    src = tmp_path / "all.c"
    src.write_text("".join(f"#include <nstack/{h.name}>\n" for h in headers) + "int x;\n")
    subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", *cflags, "-c", "-o", tmp_path / "all.o", src],
                   check=True, cwd="/")
    (tmp_path / "all.o").unlink()
    src.unlink()
    preload = subprocess.run(["pkg-config", "--variable=preload", "nstack"], env=env, check=True,
                             capture_output=True, text=True).stdout.strip()
    assert preload.endswith(f"{libdir}/libnsocket.so")


def pkg_config(top, libdir, *args):
    """What a package of the installed tree says, for a compiler that looks below `top`."""
    env = {**os.environ, "PKG_CONFIG_LIBDIR": str(top / libdir[1:] / "pkgconfig"),
           "PKG_CONFIG_SYSROOT_DIR": str(top), "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1"}
    return subprocess.run(["pkg-config", *args], env=env, check=True, capture_output=True,
                          text=True).stdout.split()


#: the form of registration that the DMM manual shows
PLUGIN = """
#include <nstack/nstack_dmm_api.h>
#define NSTACK_MK_DECL(ret, fn, args) ret my_##fn args
#include "declare_syscalls.h"
#undef NSTACK_MK_DECL
int my_stack_register(nstack_proc_cb *proc_fun, nstack_event_cb *event_ops)
{
#define NSTACK_MK_DECL(ret, fn, args) proc_fun->socket_ops.pf##fn = my_##fn
#include "declare_syscalls.h"
#undef NSTACK_MK_DECL
	proc_fun->socket_ops.pfselect = NULL;
	proc_fun->extern_ops.ep_getevt = NULL;
	return event_ops->event_cb != NULL;
}
"""

PROGRAM = """
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
int main(void)
{
	static char line[4096];
	FILE *maps = fopen("/proc/self/maps", "r");
	int found = 0;
	while (fgets(line, sizeof(line), maps))
		found |= strstr(line, "libnsocket.so") != NULL;
	return socket(AF_INET, SOCK_STREAM, 0) < 0 || !found;
}
"""


def test_names_of_the_dmm_manual(root, tmp_path):
    top, _, libdir = root
    work = tmp_path / "work"
    work.mkdir()
    (work / "plugin.c").write_text(PLUGIN)
    (work / "prog.c").write_text(PROGRAM)
    subprocess.run(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-c", "plugin.c",
                    *pkg_config(top, libdir, "--cflags", "libnStackAdapt")], check=True, cwd=work)
    cxx = ["c++", "-std=c++17", "-Wall", "-Wextra", "-fsyntax-only", "-xc++", "-",
           *pkg_config(top, libdir, "--cflags", "libnStackAdapt")]
    subprocess.run(cxx, input="#include <nstack/nstack_dmm_api.h>\n", text=True, check=True)
    # linked with the library instead of preloaded
    subprocess.run(["cc", "-o", "prog", "prog.c", *pkg_config(top, libdir, "--cflags", "--libs",
                                                             "libnStackAPI")], check=True, cwd=work)
    subprocess.run([work / "prog"], check=True, env={"LD_LIBRARY_PATH": str(top / libdir[1:])})
    for f in work.iterdir():
        f.unlink()
