"""What a client's run says at its end: the closing line, the exit code, and for the page of all
clients (CLIENT_RESULTS names the file) one JSON object.

Entry types: `Results` to count, `Results.check` for a step that is an assertion of ours.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback

STDERR_CHARACTERS_MAX = 500
# Tests that want what this setting lacks (an ensemble, TLS, SASL) are few.
BASELINE_FAILED_SHARE_MAX = 0.25


class MissingTool(Exception):
    """A toolchain that a client needs is not there. That is a failure, never a skip."""


def need_tool(tool, package):
    """Path of a command; says which Debian package has it."""
    found = shutil.which(tool)
    if found is None:
        raise MissingTool(f"{tool} is missing: install {package}")
    return found


def end_within(seconds):
    """Bounds a whole run. At its end, and on SIGTERM, the run still cleans up behind itself."""
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"not done within {seconds} s"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.alarm(seconds)


class Results:
    """Counts of one client's run."""

    def __init__(self, client, what):
        self.client = client
        self.what = what
        self.version = "?"
        self.passed = []
        self.failed = []
        self.skipped = []
        self.notes = []
        self.started = time.monotonic()

    @contextlib.contextmanager
    def check(self, name):
        """A named step; an exception inside fails it and the run goes on."""
        try:
            yield
        except Exception as error:  # whatever a step throws is this step's failure
            print(f"FAILED {name}")
            traceback.print_exc(file=sys.stdout)
            self.failed.append((name, str(error)))
        else:
            print(f"passed {name}")
            self.passed.append(name)

    def compare(self, ours, real, real_name):
        """Counts tests, each an (outcome, reason), by what they do on both servers: one that fails
        on the real server too says nothing about ours. Where many do, the run itself is broken."""
        good = sum(outcome == "passed" for outcome, _ in real.values())
        bad = sum(outcome == "failed" for outcome, _ in real.values())
        if good == 0 or bad > (good + bad) * BASELINE_FAILED_SHARE_MAX:
            self.failed.append(("baseline", f"{bad} tests fail on {real_name}, {good} pass"))
        did_not_run = ("failed", "did not run")
        for test in sorted(ours.keys() | real.keys()):
            outcome, reason = ours.get(test, did_not_run)
            real_outcome, real_reason = real.get(test, did_not_run)
            if outcome == "passed":
                self.passed.append(test)
            elif real_outcome == "passed":
                print(f"FAILED {test} (passes on {real_name}): {reason}")
                self.failed.append((test, reason))
            else:
                if outcome == "failed":
                    reason = f"fails on {real_name} too: {real_reason}"
                print(f"skipped {test}: {reason}")
                self.skipped.append((test, reason))

    def take_steps(self, command, seconds_max, **options):
        """Runs a program that prints "ok NAME" and "not ok NAME: REASON", and "done" at its end."""
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds_max, **options
        )
        print(run.stdout, end="")
        for line in run.stdout.splitlines():
            if line.startswith("ok "):
                self.passed.append(line[3:])
            elif line.startswith("not ok "):
                name, _, reason = line[7:].partition(": ")
                self.failed.append((name, reason))
        if not run.stdout.endswith("done\n") or (run.returncode != 0 and not self.failed):
            said = run.stderr[-STDERR_CHARACTERS_MAX:]
            reason = f"ended with {run.returncode}: {said}"
            self.failed.append(("the program runs to its end", reason))

    def finish(self):
        """Prints the closing line, leaves the results; returns the exit code."""
        nothing_ran = not self.passed and not self.failed
        if nothing_ran:
            self.failed.append(("run", "no test ran"))
        self._write()
        counts = (len(self.passed), len(self.failed), len(self.skipped))
        print("{} passed, {} failed, {} skipped".format(*counts), flush=True)
        return 1 if self.failed else 0

    def _write(self):
        path = os.environ.get("CLIENT_RESULTS")
        if path is None:
            return
        page = {
            "client": self.client,
            "version": self.version,
            "what": self.what,
            "passed": len(self.passed),
            "failed": [list(each) for each in self.failed],
            "skipped": [list(each) for each in self.skipped],
            "notes": self.notes,
            "seconds": round(time.monotonic() - self.started),
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(page, file, indent=1)


def run_client(client, what, body):
    """Runs `body(results, address)` for a `run ADDRESS` command; returns its exit code."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} HOST:PORT")
    results = Results(client, what)
    try:
        body(results, sys.argv[1])
    except Exception as error:  # a run that breaks off has failed, and says so in its last line
        traceback.print_exc(file=sys.stdout)
        results.failed.append(("run", str(error)))
    return results.finish()
