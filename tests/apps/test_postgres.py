# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL, a process forked for each connection: psql, bulk copies, pgbench with many clients.

The postmaster, which works in signal handlers, accepts and owns the stack; the backends use its connections
from forked processes."""

import glob
import os
import shutil
import tempfile

import pytest

from lib import apps

BIN = max(glob.glob("/usr/lib/postgresql/*/bin"), default="/usr/lib/postgresql")
PORT = 5432
USER = "postgres"

CAPABILITIES = ",".join("+" + c for c in ("net_admin", "net_raw", "bpf", "sys_admin", "ipc_lock",
                                            "dac_override"))


def as_user(cmd, *options):
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", *options, *cmd]


def with_stack(cmd, net):
    """The server refuses to be root: it gets what the stack takes, as doctor says. nstackd takes nothing."""
    caps = [f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}"]
    return as_user(cmd, *(["--inh-caps=-all", "--bounding-set=-all"] if net.mode == "daemon" else caps))


pytestmark = pytest.mark.as_root # the server has a user of its own


@pytest.fixture
def data():
    """A data folder of the server's user, outside the folder of the test run, which is root's."""
    with tempfile.TemporaryDirectory() as path:
        shutil.chown(path, USER, USER)
        yield path


class Postgres:
    def __init__(self, sides, data):
        self.sides = sides
        ns = sides.net.server
        ns.run(as_user([f"{BIN}/initdb", "-D", data, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]))
        with open(f"{data}/pg_hba.conf", "a", encoding="utf8") as f:
            f.write("host all all all trust\n")
        sides.serve(with_stack([f"{BIN}/postgres", "-D", data, "-h", "*", "-p", PORT, "-k", data, "-F"], sides.net),
                    "postgres", tcp=[PORT])
        self.at = ["-h", sides.addr, "-p", PORT, "-U", USER]

    def sql(self, text, *args, **kw):
        return self.sides.run([f"{BIN}/psql", *self.at, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *args,
                               "-c", text, USER], **kw).stdout


def test_sql(sides, data):
    pg = Postgres(sides, data)
    sides.watch()
    assert pg.sql("select 6 * 7") == "42\n"
    rows = "".join(f"{i}\t{'x' * (i % 1000)}\n" for i in range(5000))
    pg.sql("create table t (i int, x text)")
    pg.sql("copy t from stdin", input=rows)
    assert pg.sql("select count(*), sum(length(x)) from t") == f"5000|{sum(i % 1000 for i in range(5000))}\n"
    assert pg.sql("copy (select * from t order by i) to stdout") == rows
    # a query that is cancelled: a second connection, whose backend signals the first one's
    slow = sides.run([f"{BIN}/psql", *pg.at, "-X", "-c", "set statement_timeout = 200; select pg_sleep(30)", USER],
                     check=False)
    assert "statement timeout" in slow.stderr
    sides.user_stack(packets=50)


def test_pgbench(sides, data):
    """Eight clients, then a new connection for each transaction; the sums of the accounts agree."""
    pg = Postgres(sides, data)
    bench = [f"{BIN}/pgbench", *pg.at]
    sides.watch()
    sides.run([*bench, "-i", "-q", "-s", "1", USER])
    for args in (["-c", "8", "-j", "2", "-t", "50"], ["-C", "-c", "4", "-t", "10"]):
        out = sides.run([*bench, "-n", *args, USER]).stdout
        assert "number of failed transactions: 0" in out, out
    assert pg.sql("select count(*) from pgbench_history") == f"{8 * 50 + 4 * 10}\n"
    sums = pg.sql("select sum(abalance) from pgbench_accounts union all select sum(bbalance) from"
                  " pgbench_branches union all select sum(delta) from pgbench_history").split()
    assert len(sums) == 3 and len(set(sums)) == 1
    sides.user_stack(packets=500)
