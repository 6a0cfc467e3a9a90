# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that need root and network namespaces. See docs/testing.md."""
import atexit
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import netns, nstack  # noqa: E402
from lib.net import Net  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than some seconds")
    config.addinivalue_line("markers", "smoke: the part that also runs under ASan")


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
    kw = getattr(request, "param", {})
    n = Net(str(tmp_path), mode, **kw)
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
