"""Lets kazoo's own test suite run on a server that it did not start.

A pytest plugin. kazoo's harness starts a cluster of Java servers by itself; here its
`get_global_cluster` gives it a cluster of one server, which the program `compat-server` runs
(so that tests may stop and start it) or which somebody else runs (then they cannot).

Environment: OXKEEPER_KAZOO_SERVER is the command of `compat-server`, or host:port.
"""

import atexit
import os
import shlex
import subprocess

import kazoo.testing.harness
import pytest


class Server:
    """The one server, with what kazoo's harness asks of a server."""

    def __init__(self, what):
        self.running = True
        self._process = None
        if ":" in what and " " not in what:
            self.address = what
            return
        self._process = subprocess.Popen(
            shlex.split(what), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self._process.stdin.close)
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            raise RuntimeError("the server did not start: " + what)

    # No TLS here: tests that ask for it are told so by a connection that is refused.
    secure_address = "127.0.0.1:1"

    @property
    def client_port(self):
        return int(self.address.rsplit(":", 1)[1])

    def _order(self, command):
        if self._process is None:
            pytest.skip("the server is not ours to stop")
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if answer != "ok":
            raise RuntimeError(command + ": " + answer)

    def run(self):
        if not self.running:
            self._order("start")
            self.running = True

    start = run

    def stop(self):
        if self.running:
            self._order("stop")
            self.running = False

    def destroy(self):
        """Data goes with the program that runs the server."""

    def get_logs(self):
        return []


class Cluster:
    """A cluster of one."""

    def __init__(self, what):
        self._servers = [Server(what)]

    def __getitem__(self, index):
        return self._servers[index]

    def __iter__(self):
        return iter(self._servers)

    def __len__(self):
        return len(self._servers)

    def start(self):
        self._servers[0].run()

    def stop(self):
        self._servers[0].stop()

    def reset(self):
        self.start()

    def terminate(self):
        """Called to make room for another cluster; there is only this one."""

    def get_logs(self):
        return []


_cluster = None


def _the_cluster():
    global _cluster
    if _cluster is None:
        _cluster = Cluster(os.environ["OXKEEPER_KAZOO_SERVER"])
    return _cluster


kazoo.testing.harness.get_global_cluster = _the_cluster
kazoo.testing.harness.CLUSTER_CONF = {}


def pytest_runtest_setup(item):
    """A test that stopped the server must not take the others with it."""
    if _cluster is not None:
        _cluster.start()
