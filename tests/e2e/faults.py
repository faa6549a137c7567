# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program under strace, which kills it or fails a system call of it at an exact moment.

A road is recorded once. Of its system calls those that touch the outside are its points: the n-th
call of a name. Then it goes once more for each point, and strace does something there:

    SIGKILL     on entry to the call. The kernel does not make a call at whose entry its process
                has a fatal signal: so the moments covered are those between two calls, with all
                before the point done and nothing of what is behind it. The one behind the last
                call is a road that was not hit. Not covered is the inside of a long write to a
                pool; that is tried where a program can wait in between (tests/kernel/kill-at.c).
    an error    the call is not made and returns the error.

Only the process itself is traced, not what it starts: the mapper, which stands for QEMU, lives on.
"""

import os
import re
import signal
import subprocess

from harness import Failure, check

# "?": a name that this architecture has not
CHANGING = ("openat", "?open", "?creat", "openat2", "write", "pwrite64", "writev", "ftruncate",
            "?rename", "renameat", "renameat2", "?unlink", "unlinkat", "?rmdir", "?mkdir",
            "mkdirat", "?chmod", "fchmod", "fchmodat", "?chown", "fchown", "fchownat", "flock",
            "shmget", "shmctl", "mount", "umount2", "?symlink", "symlinkat", "fsopen", "fsconfig",
            "fsmount", "open_tree", "move_mount", "mount_setattr")
OPENING = ("openat", "open", "openat2")
WRITING = ("write", "pwrite64", "writev")
# opened to be read, these may fail; of the processes there are as many as there are
READ_TOO = re.compile(r"/run/hugevm|/sys/|/proc/(?!\d)|/dev/hugepages")
HANG_S = 20


class Point:
    def __init__(self, name, number, text):
        self.name, self.number, self.text = name, number, text
        self.changes = changes_something(name, text)

    def __str__(self):
        return f"{self.name} #{self.number} {self.text[:100]}"


def changes_something(name, text):
    if name in OPENING:
        return any(flag in text for flag in ("O_CREAT", "O_RDWR", "O_WRONLY"))
    return True


def is_outside(name, text):
    if name in WRITING:
        return re.match(r"[012]<", text) is None
    return changes_something(name, text) or READ_TOO.search(text) is not None


def points_of(log, marker=None):
    """The points in a recorded log; marker: only those behind the line with this text."""
    points, seen, counts = [], {}, marker is None
    for line in log.splitlines():
        found = re.match(r"(\w+)\((.*)", line)
        if found is None:
            continue
        name, text = found.groups()
        seen[name] = seen.get(name, 0) + 1
        if counts and is_outside(name, text):
            points.append(Point(name, seen[name], text))
        counts = counts or marker in text
    check(points, f"nothing to hit was recorded: {log}")
    return points


class Traced:
    """A program's end: status (negative: a signal), and what it has said."""

    def __init__(self, options, command):
        with subprocess.Popen(["strace", "-qq", *options, *command], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                self.out, self.err = process.communicate(timeout=HANG_S)
            except subprocess.TimeoutExpired as late:
                os.killpg(process.pid, signal.SIGKILL)
                raise Failure(f"hangs for more than {HANG_S} s: {command}") from late
        self.status = process.returncode
        self.was_killed = self.status == -signal.SIGKILL


def record(command, log_path, marker=None):
    done = Traced(["-y", "-s", "60", "-o", log_path, "-e", f"trace={','.join(CHANGING)}"], command)
    with open(log_path, encoding="utf-8", errors="replace") as file:
        return done, points_of(file.read(), marker)


def inject(command, point, what):
    """what: "signal=SIGKILL" or "error=EIO"."""
    return Traced(["-o", "/dev/null", "-e", f"trace={point.name}",
                   "-e", f"inject={point.name}:{what}:when={point.number}"], command)
