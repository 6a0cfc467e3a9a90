# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that need root and network namespaces. See docs/testing.md."""
import atexit
import os
import signal
import sys
import zlib

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import dpdk, netns, nstack  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than some seconds")
    config.addinivalue_line("markers", "smoke: the part that also runs under ASan")
    config.addinivalue_line("markers", "as_root: its programs need root for reasons of their own")
    config.addinivalue_line("markers", "in_process: about what only a stack in the process has")


def variant(item):
    """Its parameters without the mode: {name: value as text}"""
    call = getattr(item, "callspec", None)
    return {k: repr(v) for k, v in call.params.items() if k != "mode"} if call else {}


def wanted(items):
    """Those that run in their mode. Of a test with variants (address family, side, ...) each model gets every
    second one, like the squares of a chessboard; one without them runs in both."""
    values = {}  # {(test, parameter): its values, in their order}
    for item in items:
        for k, v in variant(item).items():
            values.setdefault((item.nodeid.split("[")[0], k), {}).setdefault(v, None)
    for item in items:
        mode = item.callspec.params.get("mode") if hasattr(item, "callspec") else None
        alone = item.get_closest_marker("in_process")
        if mode == "daemon" and alone:
            continue
        test, mine = item.nodeid.split("[")[0], variant(item)
        if mode and mine and nstack.SHARED and not alone:
            square = zlib.crc32(test.encode()) + sum(list(values[test, k]).index(v) for k, v in mine.items())
            if mode != nstack.MODES[square % len(nstack.MODES)]:
                continue
        yield item


def pytest_collection_modifyitems(config, items):
    keep = list(wanted(items))
    config.hook.pytest_deselected(items=[i for i in items if i not in keep])
    items[:] = keep


def _terminate(sig, frame):
    raise KeyboardInterrupt


def pytest_sessionstart(session):
    signal.signal(signal.SIGTERM, _terminate)
    if os.geteuid() == 0:
        netns.sweep()
        atexit.register(netns.sweep, os.getpid())


def pytest_sessionfinish(session, exitstatus):
    if os.geteuid() == 0:
        netns.sweep(os.getpid())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    rep = outcome.get_result()
    net = getattr(item, "funcargs", {}).get("net")
    if rep.when == "call" and rep.failed and net:
        rep.sections.append(("network", net.diagnostics()))


@pytest.fixture(params=nstack.MODES)
def mode(request):
    if request.param != "kernel" and not os.path.exists(nstack.TOOL):
        pytest.fail(f"{nstack.TOOL} is not built (make, or set NSTACK_BUILD)")
    return request.param


@pytest.fixture
def net(request, tmp_path, mode):
    """Two joined namespaces; everything in them ends with the test."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    n = dpdk.net_of(str(tmp_path), mode, **getattr(request, "param", {}))
    try:
        yield n
        for p in n.client.procs + n.server.procs:
            p.stop()
        found = nstack.sanitizer_reports(n.workdir)
        assert not found, "a sanitizer found:\n" + found
    finally:
        n.close()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request):
    return request.param
