#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevm is upgraded while VMs run: agents go on with the module that they have loaded.

usage: test-upgrade.py HUGEVMCTL HUGEVM.SO [WORD]

The module from before the upgrade is built from the history of these sources, once for each build
directory. Without a history, as in a shallow clone, this is skipped; test-ledger-versions has
texts that older modules wrote.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid as uuids

import harness
import traces
from harness import (STATE, check, end_process, free, holds, is_alive, main, pools, pools_become,
                     processes_of, read, same, set_total, total, until)

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.dirname(os.path.dirname(HERE))
# the last one that wrote its ledger without passing on what it did not know
BEFORE = "01202d6a759fe5b6d70530d65bca3690ddb90733"
EACH = 32  # pages of 2 MiB of a VM of upgrade_agent.py
STATIC_PAGES = 8


def git(*arguments, **options):
    return subprocess.run(["git", "-c", "safe.directory=*", "-C", SOURCES, *arguments],
                          check=False, **options)


def has_history():
    with contextlib.suppress(FileNotFoundError):
        return git("cat-file", "-e", f"{BEFORE}^{{commit}}", capture_output=True).returncode == 0
    return False


def run_in(directory, *command, **options):
    done = subprocess.run(command, cwd=directory, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, **options)
    check(done.returncode == 0, f"{' '.join(command)}: {done.stdout}")


def old_module():
    """Its path; built where nobody sees it half done."""
    build = os.path.dirname(os.path.dirname(harness.ctl))
    kept = f"{build}/tests/e2e/before-upgrade-{BEFORE[:7]}.so"
    if not os.path.exists(kept):
        with tempfile.TemporaryDirectory() as directory:
            with subprocess.Popen(["tar", "x", "-C", directory], stdin=subprocess.PIPE) as tar:
                git("archive", BEFORE, stdout=tar.stdin)
            run_in(directory, "meson", "setup", "build", "-Dman=disabled", "-Dbuildtype=plain")
            run_in(directory, "ninja", "-C", "build", "plugin/hugevm.so")
            os.makedirs(os.path.dirname(kept), exist_ok=True)
            shutil.copy(f"{directory}/build/plugin/hugevm.so", f"{kept}.new")
            os.rename(f"{kept}.new", kept)
    return kept


class Agent:
    """A process with one of the modules, and the VMs that it was told to start."""

    def __init__(self, module, conf):
        self.uuids = []
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            [sys.executable, f"{HERE}/upgrade_agent.py", module, conf, harness.MOUNT], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answered("its module")

    def _answered(self, what):
        answer = self.process.stdout.readline().strip()
        check(answer == "ok", f"the agent says of {what}: {answer or 'nothing'}")

    def _tell(self, words):
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        self._answered(words)

    def start(self):
        uuid = str(uuids.uuid4())
        self.uuids.append(uuid)
        self._tell(f"start {uuid}")
        return uuid

    def end(self, uuid):
        self._tell(f"end {uuid}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        for uuid in self.uuids:
            for pid in processes_of(uuid):
                end_process(pid)
            until(lambda: not processes_of(uuid), "a VM's end", 10)
            shutil.rmtree(f"{harness.MOUNT}/{uuid}", ignore_errors=True)


@contextlib.contextmanager
def two_agents(bench):
    """One from before the upgrade, one from after it; beside pages of the administrator's."""
    set_total(STATIC_PAGES)
    old = Agent(old_module(), bench.conf())
    try:
        new = Agent(harness.module, bench.conf())
        try:
            yield old, new
        finally:
            new.close()
    finally:
        old.close()


def sound(bench, vms):
    """All of them count, none is found wanting, and what is free is the administrator's."""
    claims = bench.claims()
    same(sorted((claim["uuid"], claim["state"]) for claim in claims),
         sorted((uuid, "running") for uuid in vms), "claims")
    same(total() - free(), len(vms) * EACH, "pages in use")
    check(free() <= STATIC_PAGES, f"{free()} pages are free, {STATIC_PAGES} the administrator's")
    same(bench.json("audit", status=0)["findings"], [], "findings")
    check(not [name for name in os.listdir(STATE) if "damaged" in name], "a ledger was set aside")


def nothing_left(bench, before):
    pools_become(before)
    sound(bench, [])
    same((traces.guards(), traces.launch_mounts()), ([], []), "guards and launch mounts")


def goes_on(bench):
    """an agent with the module from before the upgrade ends its VM, and starts others"""
    with two_agents(bench) as (old, new):
        before = pools()
        first = old.start()
        sound(bench, [first])
        second = new.start()
        sound(bench, [first, second])
        old.end(first)
        sound(bench, [second])
        third = old.start()
        fourth = new.start()
        sound(bench, [second, third, fourth])
        new.end(second)
        old.end(third)
        sound(bench, [fourth])
        new.end(fourth)
        nothing_left(bench, before)


def is_killed(bench):
    """VMs of an agent that was killed with its old module are set right by the new one"""
    with two_agents(bench) as (old, new):
        before = pools()
        first, second = old.start(), old.start()
        third = new.start()
        old.kill()
        sound(bench, [first, second, third])
        for uuid in first, second:
            qemu = processes_of(uuid)[0]
            end_process(qemu)
            until(lambda: not is_alive(qemu), "the VM's end")
        sound(bench, [third])
        new.end(third)
        nothing_left(bench, before)


def drained(bench):
    """drain names the VM of an old module, and finds the host empty when that has ended"""
    with two_agents(bench) as (old, _):
        before = pools()
        first = old.start()
        holds(bench.ctl("drain", status=1).stderr, first, f"{EACH} x 2 MiB", "end these VMs")
        old.end(first)
        done = bench.ctl("drain", status=0)
        same((done.stdout, done.stderr), ("", ""), "what drain says")
        check(f"{STATE}/vault" not in read("/proc/self/mounts"), "the vault is still mounted")
        nothing_left(bench, before)
        second = old.start()
        sound(bench, [second])
        old.end(second)
        nothing_left(bench, before)


if __name__ == "__main__":
    if os.environ.get("HUGEVM_E2E") == "1" and not has_history():
        print(f"1..0 # SKIP {BEFORE[:7]} is not in the history of {SOURCES}: a shallow clone?")
        sys.exit(0)
    sys.exit(main([goes_on, is_killed, drained]))
