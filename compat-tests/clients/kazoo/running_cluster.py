"""Pytest plugin: kazoo's own tests run on a server that is there already.

kazoo's harness would start a Java ensemble. Here its cluster is one server, named by
KAZOO_SERVER (`host:port`); with SERVER_CONTROL it can be stopped and started. Outcomes go to the
file KAZOO_OUTCOMES, one JSON object per line, and tests that are in it already are left out: a run
that a hanging test has ended can be taken up. Nothing else about the tests is changed.
"""

import json
import os
import pathlib
import sys
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.servers import ask_control  # noqa: E402

REASON_CHARACTERS_MAX = 300


class RunningServer:
    """What kazoo's tests use of their `ManagedZooKeeper`."""

    def __init__(self, address):
        self.address = address
        self.running = True

    def run(self):
        if not self.running:
            self._control("start")
            self.running = True

    def stop(self):
        if self.running:
            self._control("stop")
            self.running = False

    @staticmethod
    def _control(word):
        path = os.environ.get("SERVER_CONTROL")
        if path is None:
            raise RuntimeError(f"cannot {word} a server that somebody else runs")
        ask_control(path, word)


class RunningCluster:
    """What kazoo's tests use of their `ZookeeperCluster`. It keeps its data all the time: each
    test works below a path of its own."""

    def __init__(self, addresses):
        self._servers = [RunningServer(address) for address in addresses]

    def __getitem__(self, index):
        return self._servers[index]

    def __iter__(self):
        return iter(self._servers)

    def start(self):
        for server in self._servers:
            server.run()

    def stop(self):
        for server in self._servers:
            server.stop()

    def terminate(self):
        """Called after each class of tests. The next one would start the server again; restarting
        it does the same, if that can be done."""
        if "SERVER_CONTROL" in os.environ:
            self.stop()

    def get_logs(self):
        return []

    def get_ssl_client_configuration(self):
        raise RuntimeError("this server has no TLS port")


def without_java_ensemble():
    """kazoo.testing.common holds nothing but the Java ensemble (and needs two packages to make
    its certificates): an empty module takes its place."""
    module = types.ModuleType("kazoo.testing.common")
    module.ZookeeperCluster = None
    sys.modules[module.__name__] = module


def pytest_configure(config):
    without_java_ensemble()
    from kazoo.testing import harness

    cluster = RunningCluster(os.environ["KAZOO_SERVER"].split(","))
    harness.get_global_cluster = lambda: cluster


def reason_of(report):
    """One line: why a test was skipped or failed."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr or "")
    return " ".join(text.split())[:REASON_CHARACTERS_MAX]


def note(**line):
    with open(os.environ["KAZOO_OUTCOMES"], "a", encoding="utf-8") as outcomes:
        outcomes.write(json.dumps(line) + "\n")


def pytest_collection_modifyitems(items):
    outcomes = pathlib.Path(os.environ["KAZOO_OUTCOMES"])
    lines = outcomes.read_text(encoding="utf-8").splitlines() if outcomes.exists() else []
    seen = {json.loads(line)["test"] for line in lines}
    items[:] = [item for item in items if item.nodeid not in seen]


def pytest_runtest_logstart(nodeid):
    note(test=nodeid, outcome="started")


def pytest_runtest_logreport(report):
    """One line per phase that says something: every test's call, and what went wrong around it."""
    if report.when != "call" and report.outcome == "passed":
        return
    reason = "" if report.outcome == "passed" else reason_of(report)
    note(test=report.nodeid, outcome=report.outcome, reason=reason)
