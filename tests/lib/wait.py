# SPDX-License-Identifier: Apache-2.0
"""Waiting for conditions. Nothing in the tests sleeps for a fixed time and hopes."""
import time

#: multiplies every time-out; raise it on slow or loaded machines
import os
SLOW = float(os.environ.get("NSTACK_TEST_SLOW", "1"))


class Timeout(AssertionError):
    pass


def until(cond, what, timeout=15.0, every=0.02):
    """Call cond until it is true; returns its value. An exception of cond counts as "not yet"
    and is shown when the time is over."""
    end = time.monotonic() + timeout * SLOW
    last = None
    while True:
        try:
            got = cond()
            if got:
                return got
            last = None
        except (OSError, ValueError, KeyError, AssertionError, LookupError) as e:
            last = e
        if time.monotonic() >= end:
            raise Timeout(f"waited {timeout * SLOW:g} s for {what}"
                          + (f": {last!r}" if last else ""))
        time.sleep(every)
