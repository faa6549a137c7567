# SPDX-License-Identifier: LGPL-2.1-or-later
"""A thief.c beside a test: what it tried, and what it got."""

import contextlib
import os
import subprocess
import time

import harness
from harness import same


class Thief:
    """One thief.c, ready; steals between go() and the end of the with block."""

    def __init__(self, kib, hold):
        build = os.path.dirname(os.path.dirname(harness.ctl))
        self.process = subprocess.Popen([f"{build}/tests/e2e/thief", str(kib), str(hold)],
                                        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        same(self.process.stdout.readline(), "ready\n", "the thief says")
        self.began = None
        self.attempts = self.got = 0
        self.times = []

    def go(self):
        self._tell()
        same(self.process.stdout.readline(), "go\n", "the thief says")
        self.began = time.monotonic()

    def _tell(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self):
        if self.began is None:
            return
        self._tell()
        summary, *times = self.process.stdout.read().splitlines()
        self.attempts, self.unreserved, self.got, self.got_unreserved, self.most = (
            int(word) for word in summary.split())
        self.times = [float(line) for line in times]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
