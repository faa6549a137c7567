#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""An agent of test-stress.py: starts and stops VMs at random, in one thread or in many.

usage: stress_agent.py HUGEVM.SO CONF GUEST-PROGRAM SEED THREADS SECONDS DIRECTORY-2M DIRECTORY-1G

It may be killed at any point, and so may its guests. The directories are on hugetlbfs, one per
page size. Says what each VM has reached; "broken: ..." where a claimed VM found no page, or a call
failed that must not.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid as uuids

import hugevm_host

GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.py")
M2, G1 = 2048, 1048576
MOST_PAGES = 40
GIGANTIC_PERCENT = 3
EXPOSED_PERCENT = 25  # agents that name no directory: the claim is exposed from launch on
FAILS_PERCENT = 10  # starts that fail before there is a guest
PAUSES_MS = 0, 0, 5, 30, 80
XML = """<domain type='qemu'><name>stress</name><uuid>{uuid}</uuid>
<memory unit='KiB'>{memory_kib}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>
"""


def say(text):
    os.write(1, f"{text}\n".encode())  # one write: threads share the pipe


class Life:
    """One VM, from claim to end."""

    def __init__(self, host, dice, program, directories):
        self.host, self.dice, self.program = host, dice, program
        self.uuid = str(uuids.UUID(int=dice.getrandbits(128), version=4))
        self.kib = G1 if dice.random() * 100 < GIGANTIC_PERCENT else M2
        self.pages = 1 if self.kib == G1 else dice.randint(1, MOST_PAGES)
        self.reached = "nothing"
        self.directory = None
        if dice.random() * 100 >= EXPOSED_PERCENT:
            self.directory = f"{directories[self.kib]}/{self.uuid}"

    def say(self, text):
        self.reached = text
        say(text)

    def pause(self):
        time.sleep(self.dice.choice(PAUSES_MS) / 1000)

    def run(self):
        xml = XML.format(uuid=self.uuid, memory_kib=self.pages * self.kib)
        try:
            self.generation = self.host.before_vm_start(
                xml, {"hugepages": str(self.kib)}).generation
        except hugevm_host.HugevmError as error:
            is_shortage = error.code == hugevm_host.SHORTAGE
            self.say("refused" if is_shortage else f"broken: claiming: {error}")
            return
        self.say("claimed")
        self.pause()
        if self.dice.random() * 100 < FAILS_PERCENT:
            self.host.vm_start_failed(self.uuid, self.generation)
            self.say("failed")
            return
        if self.directory is not None:
            os.mkdir(self.directory)
        self.host.vm_launching(self.uuid, self.generation, memory_directories=(
            [self.directory] if self.directory is not None else None))
        self.say("launching")
        self.pause()
        guest = self.start_guest()
        self.pause()
        guest.kill()
        guest.wait()
        guest.stdout.close()
        self.host.after_vm_destroy(self.uuid, self.generation)
        if self.directory is not None:
            os.rmdir(self.directory)
        self.say("gone")

    def start_guest(self):
        where = ["--directory", self.directory, "--shared", self.dice.choice("01")]
        guest = subprocess.Popen(
            [self.program, "-IS", GUEST, "touched", str(self.pages), "--size", str(self.kib),
             *(where if self.directory is not None else []), "-uuid", self.uuid],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        answer = guest.stdout.readline().strip()
        status = guest.poll() if answer == "ready" else guest.wait()
        if status == -signal.SIGKILL:
            self.say("guest killed")
        elif answer != "ready":
            how = "in a directory" if self.directory is not None else "anonymous"
            self.say(f"broken: a claimed VM, {self.pages} pages of {self.kib} KiB {how}, says "
                     f"'{answer}' and ends with {status}")
        else:
            self.say("mapped")
            self.pause()
            self.report(guest)
        return guest

    def report(self, guest):
        """A running VM whose QEMU has ended may have been found gone before it is reported."""
        try:
            self.host.after_vm_start(self.uuid, self.generation, guest.pid)
        except hugevm_host.HugevmError as error:
            if error.code != hugevm_host.UNKNOWN_VM or guest.poll() is None:
                raise
        self.say("started")


def lane(host, seed, program, directories, end):
    dice = random.Random(seed)
    while time.monotonic() < end:
        life = Life(host, dice, program, directories)
        try:
            life.run()
        except hugevm_host.HugevmError as error:
            say(f"broken: after '{life.reached}': {error}")


def main():
    module, conf, program, seed, threads, seconds, *directories = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    host = hugevm_host.Host(module, [conf], name="stress")
    lanes = [threading.Thread(target=lane, args=(
        host, f"{seed}/{number}", program, dict(zip((M2, G1), directories)), end))
        for number in range(int(threads))]
    for one in lanes:
        one.start()
    for one in lanes:
        one.join()
    with contextlib.suppress(BrokenPipeError):
        say("over")
    return 0


if __name__ == "__main__":
    sys.exit(main())
