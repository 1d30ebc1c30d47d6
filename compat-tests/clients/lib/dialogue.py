"""A conversation with an interactive program: send a line, wait for what it must print."""

import os
import re
import select
import subprocess
import time

ANSWER_SECONDS_MAX = 20
READ_BYTES = 65536


class Dialogue:
    """`with Dialogue(command) as talk:` starts the program and ends it."""

    def __init__(self, command, **popen):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **popen,
        )
        # What has been printed, and how much of it earlier `expect`s have used up.
        self.printed = ""
        self.used = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def send(self, line):
        """Sends a line; what was printed before is no answer to it."""
        self._read(0)
        self.used = len(self.printed)
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def expect(self, *patterns, within=ANSWER_SECONDS_MAX):
        """Waits until each pattern, in any order, is in what was printed since the last `send`.

        Returns the match objects in the order of the patterns."""
        deadline = time.monotonic() + within
        while True:
            fresh = self.printed[self.used :]
            found = [re.search(pattern, fresh, re.MULTILINE) for pattern in patterns]
            if all(found):
                return found
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                missing = [p for p, match in zip(patterns, found) if not match]
                raise AssertionError(f"{missing} not in the answer:\n{fresh}")

    def ask(self, line, *patterns, within=ANSWER_SECONDS_MAX):
        self.send(line)
        return self.expect(*patterns, within=within)

    def end(self, line, within=ANSWER_SECONDS_MAX):
        """Sends the line that ends the program; returns its exit code."""
        self.send(line)
        deadline = time.monotonic() + within
        while self._read(max(0.0, deadline - time.monotonic())):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, wait_seconds):
        """Takes in what is there, waiting for the first of it; false when there is nothing more."""
        output = self.process.stdout.fileno()
        readable, _, _ = select.select([output], [], [], wait_seconds)
        if not readable:
            return False
        part = os.read(output, READ_BYTES)
        self.printed += part.decode(errors="replace")
        return bool(part)
