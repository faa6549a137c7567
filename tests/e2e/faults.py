# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that is killed, or in which a system call fails, at an exact moment.

A road is recorded once, by strace. Of its system calls those that touch the outside are its points:
the n-th call of a name, in all its threads together. Then it goes once more for each point, under
fail-at.c:

    kill        SIGKILL on entry to the call, which is not made: so the moments covered are those
                between two calls, with all before the point done and nothing of what is behind it.
                The one behind the last call is a road that was not hit. Not covered is the inside
                of a long write to a pool; that is tried where a program can wait in between
                (tests/kernel/kill-at.c).
    an error    the call is not made and returns the error.

What the process starts is not traced: the mapper, which stands for QEMU, lives on.
"""

import errno
import os
import re
import signal
import subprocess

import harness
from harness import Failure, check

# "?": a name that this architecture has not
CHANGING = ("openat", "?open", "?creat", "openat2", "write", "pwrite64", "writev", "ftruncate",
            "?rename", "renameat", "renameat2", "?unlink", "unlinkat", "?rmdir", "?mkdir",
            "mkdirat", "?chmod", "fchmod", "fchmodat", "?chown", "fchown", "fchownat", "flock",
            "shmget", "shmctl", "mount", "umount2", "?symlink", "symlinkat", "fsopen", "fsconfig",
            "fsmount", "open_tree", "move_mount", "mount_setattr", "unshare", "setns",
            "?pivot_root", "?chdir", "?chroot")
STARTING = ("?clone", "?clone3", "?fork", "?vfork")
OPENING = ("openat", "open", "openat2")
WRITING = ("write", "pwrite64", "writev")
# opened to be read, these may fail; of the processes there are as many as there are
READ_TOO = re.compile(r"/run/hugevm|/sys/|/proc/(?!\d)|/dev/hugepages")
HANG_S = 20
HIT = "fail-at: hit\n"


class Point:
    def __init__(self, name, call, number, text):
        self.name, self.call, self.number, self.text = name, call, number, text
        self.changes = changes_something(name, text)

    def __str__(self):
        return f"{self.name} #{self.number} {self.text[:100]}"


def changes_something(name, text):
    if name in ("clone", "clone3"):
        return "CLONE_THREAD" in text
    if name in OPENING:
        return any(flag in text for flag in ("O_CREAT", "O_RDWR", "O_WRONLY"))
    return True


def is_outside(name, text):
    if name in WRITING:
        return re.match(r"[012]<", text) is None
    return changes_something(name, text) or READ_TOO.search(text) is not None


def calls_of(log):
    """(thread, name, the call's number, text) of each call recorded, in the order of their ends."""
    begun = {}
    for line in log.splitlines():
        thread, text = line.split(maxsplit=1)
        resumed = re.match(r"(?:\[ *\d+\] )?<\.\.\. \w+ resumed>(.*)", text)
        if resumed is not None:
            text = begun.pop(thread) + resumed.group(1)
        elif text.endswith(" <unfinished ...>"):
            begun[thread] = text.removesuffix(" <unfinished ...>")
            continue
        found = re.match(r"\[ *(\d+)\] (\w+)\((.*)", text)
        if found is not None:
            yield thread, found.group(2), int(found.group(1)), found.group(3)


def threads_of(calls):
    """The process's own threads; what else was recorded is of processes that it has started."""
    threads = {calls[0][0]}
    for thread, name, _, text in calls:
        made = re.search(r"CLONE_THREAD.* = (\d+)$", text)
        if name.startswith("clone") and made is not None and thread in threads:
            threads.add(made.group(1))
    return threads


def points_of(log, marker=None):
    """The points in a recorded log; marker: only those behind the line with this text."""
    points, seen, counts = [], {}, marker is None
    calls = list(calls_of(log))
    threads = threads_of(calls)
    for thread, name, call, text in calls:
        if thread not in threads or name in ("fork", "vfork"):
            continue
        seen[name] = seen.get(name, 0) + 1
        if counts and is_outside(name, text):
            points.append(Point(name, call, seen[name], text))
        counts = counts or marker in text
    check(points, f"nothing to hit was recorded: {log}")
    return points


class Traced:
    """A program's end: status (negative: a signal), and what it has said."""

    def __init__(self, tracer, command):
        with subprocess.Popen([*tracer, *command], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                self.out, self.err = process.communicate(timeout=HANG_S)
            except subprocess.TimeoutExpired as late:
                os.killpg(process.pid, signal.SIGKILL)
                raise Failure(f"hangs for more than {HANG_S} s: {command}") from late
        self.was_hit = self.err.startswith(HIT)
        self.err = self.err.removeprefix(HIT)
        self.status = process.returncode
        self.was_killed = self.status == -signal.SIGKILL


def record(command, log_path, marker=None):
    done = Traced(["strace", "-qq", "-f", "-b", "execve", "-n", "-y", "-s", "60", "-o", log_path,
                   "-e", f"trace={','.join(CHANGING + STARTING)}"], command)
    with open(log_path, encoding="utf-8", errors="replace") as file:
        return done, points_of(file.read(), marker)


def inject(command, point, what):
    """what: "kill", or an error's name."""
    build = os.path.dirname(os.path.dirname(harness.ctl))
    code = "kill" if what == "kill" else str(getattr(errno, what))
    return Traced([f"{build}/tests/e2e/fail-at", str(point.call), str(point.number), code], command)
