"""What a client's run says at its end: the closing line, the exit code, and for the page of all
clients (CLIENT_RESULTS names the file) one JSON object.

Entry types: `Results` to count, `Results.check` for a step that is an assertion of ours.
"""

import contextlib
import json
import os
import shutil
import sys
import time
import traceback


class MissingTool(Exception):
    """A toolchain that a client needs is not there. That is a failure, never a skip."""


def need_tool(tool, package):
    """Path of a command; says which Debian package has it."""
    found = shutil.which(tool)
    if found is None:
        raise MissingTool(f"{tool} is missing: install {package}")
    return found


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
