#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Open vSwitch with DPDK beside VMs: whatever they do, its reserved pages are there for it.

usage: test-ovs-beside.py HUGEVMCTL HUGEVM.SO [WORD]

HUGEVM_OVS_SEED chooses other dice for the random starts and stops.
"""

import collections
import os
import random
import signal
import sys
import threading

import harness
import ovs_host
from harness import (DYNAMIC, M2, STATIC, check, free, holds, pools, same, set_total, total,
                     until)
from hugevm_host import SHORTAGE, HugevmError
from hugevm_host import Host as InProcessHost
from in_process import HUGE, guest
from libvirt_host import CONF, huge, pages_now, recorded, run
from ovs_host import PAGES, VM_PAGES, back_as_before, pair, reserving, switch, wait_answers

SEED = int(os.environ.get("HUGEVM_OVS_SEED", "20240607"))
STEPS = 50
MOST_VMS, MOST_PAGES = 10, 60
SPARE_PAGES = 50  # static ones that nobody has reserved

def two_that_ping(bench, host, ovs):
    vms = pair(bench, ovs, ovs_host.SHARED, ovs_host.MEMFD)
    for vm in vms:
        host.start(vm)
    wait_answers(vms)
    return vms


def has_reserved(bench, holders):
    """Who has what is reserved, by name; VMs' memory that the switch maps is not of it."""
    entry, = bench.json("status", conf=CONF)["reserved"]
    same((entry["name"], entry["count"], entry["holders"]), ("ovs", PAGES, holders), "reserved")


def restarted(bench, host):
    """a switch that ends and comes back beside running VMs has its pages, and guests ping again"""
    host.conf(reserving())
    with switch(bench) as ovs:
        before = pools()
        vms = two_that_ping(bench, host, ovs)
        has_reserved(bench, [{"pid": ovs.process.pid, "comm": "ovs-vswitchd-dp", "pages": PAGES}])
        host.conf(reserving(conf=STATIC))
        wish = "wants 32 pages of 2 MiB", "0 available"
        host.refused(huge(bench), *wish, f"reserved for ovs, {PAGES} of {PAGES} in use")
        ovs.stop()
        same(pages_now(), (PAGES + 2 * VM_PAGES, PAGES), "total and free without the switch")
        has_reserved(bench, [])
        host.refused(huge(bench), *wish, f"reserved for ovs, 0 of {PAGES} in use")
        host.conf(reserving())
        third = huge(bench)
        host.start(third)
        same(pages_now(), (PAGES + 2 * VM_PAGES + 32, PAGES), "total and free with a third VM")
        ovs.start()
        until(lambda: all(ovs.is_connected(port) for port in ovs.ports), "the NICs", 10, 0.05)
        wait_answers(vms)
        same(ovs.mapped(), (PAGES, 2 * VM_PAGES), "pages mapped by the switch: its own, of VMs")
        for vm in (*vms, third):
            host.destroy(vm)
        back_as_before(bench, before)


def still_mapped(bench, host):
    """pages of ended VMs that the switch still maps go back when it lets go, and audit names it"""
    host.conf(reserving())
    with switch(bench) as ovs:
        before = pools()
        vms = two_that_ping(bench, host, ovs)
        with ovs.standing_still():
            for vm in vms:
                host.kill(vm)
            bench.ctl("reconcile", status=0)
            same(pages_now(), (PAGES + 2 * VM_PAGES, 0), "total and free while it maps them")
            same([claim["state"] for claim in recorded()], ["draining"] * 2, "states of the claims")
            held = [finding for finding in bench.json("audit")["findings"]
                    if finding["kind"] == "held-pages"]
            same({finding["uuid"] for finding in held}, {vm.uuid for vm in vms}, "held, of")
            who = f"process {ovs.process.pid} 'ovs-vswitchd"
            for finding in held:
                holds(finding["text"], "is gone", f"still mapped by {who}")
        back_as_before(bench, before)
        same(ovs.mapped(), (PAGES, 0), "pages mapped by the switch: its own, of VMs")


# --- random starts and stops ------------------------------------------------------------------


class Watch(threading.Thread):
    """Looks all the time whether what is free is enough for what the switch does not hold."""

    def __init__(self):
        super().__init__(daemon=True)
        self.least = 0  # pages that have to be free; None: the switch comes or goes
        self.looks = 0
        self.problems = []
        self.is_over = threading.Event()
        self.start()

    def run(self):
        """Counters that stand in several files are of one moment if they are the same again."""
        while not self.is_over.wait(0.002):
            least, seen = self.least, pools()[M2]
            if least is None or (least, seen) != (self.least, pools()[M2]):
                continue
            self.looks += 1
            left = seen[1] - seen[3]
            if left < least:
                self.problems.append(f"{left} pages are free, {least} reserved ones not in use")

    def end(self):
        self.is_over.set()
        self.join()


class RandomLife:
    """VMs of libvirt, and guests in their place, which start in no time, through an agent."""

    def __init__(self, bench, host, ovs, dice):
        self.bench, self.host, self.ovs, self.dice = bench, host, ovs, dice
        self.agent = InProcessHost(harness.module, [CONF], name="agent")
        self.watch = Watch()
        self.vms, self.guests = [], []
        self.done = collections.Counter()

    def start_one(self):
        is_static = self.dice.random() < 0.3
        self.host.conf(reserving(conf=STATIC if is_static else DYNAMIC))
        pages = self.dice.randint(8, MOST_PAGES)
        is_real = self.dice.random() < 0.4
        is_up = self.start_vm(pages) if is_real else self.start_guest(pages)
        check(is_up or is_static, f"{pages} pages are refused where they may be added")
        self.done["started" if is_up else "refused"] += 1
        self.done["started by libvirt"] += is_up and is_real
        self.done["without the switch"] += is_up and not self.ovs.is_running()

    def start_vm(self, pages):
        vm = huge(self.bench, memory_mib=2 * pages)
        done = self.host.create(vm)
        if done.returncode != 0:
            holds(done.stderr, "hugevm: ", "short, and dynamic allocation is off")
            return False
        self.vms.append(vm)
        return True

    def start_guest(self, pages):
        vm = self.bench.vm(memory_mib=2 * pages)
        try:
            generation = self.agent.before_vm_start(vm.xml, HUGE).generation
        except HugevmError as error:
            same(error.code, SHORTAGE, f"code of {error}")
            return False
        self.agent.vm_launching(vm.uuid, generation)
        process = guest(self.bench, "touched", pages, vm.uuid, "qemu-guest")
        self.agent.after_vm_start(vm.uuid, generation, process.pid)
        self.guests.append((vm, generation, process))
        return True

    def stop_one(self):
        number = self.dice.randrange(len(self.vms) + len(self.guests))
        if number < len(self.vms):
            self.host.destroy(self.vms.pop(number))
        else:
            vm, generation, process = self.guests.pop(number - len(self.vms))
            self.bench.end(process, signal.SIGKILL, -signal.SIGKILL)
            self.agent.after_vm_destroy(vm.uuid, generation)
        self.done["stopped"] += 1

    def restart_switch(self):
        """It ends, or it comes back, while a VM starts, and finds what is reserved for it."""
        self.watch.least = None
        if self.ovs.is_running():
            self.ovs.stop()
            self.watch.least = PAGES
            return
        self.ovs.begin_start()
        self.start_one()
        self.ovs.wait_up()
        same(self.ovs.mapped()[0], PAGES, "own pages mapped by the switch that came back")
        self.watch.least = 0

    def step(self):
        count = len(self.vms) + len(self.guests)
        if count > 0 and self.dice.random() < count / MOST_VMS:
            self.stop_one()
        else:
            self.start_one()
        # all that is in use is the switch's and the VMs' that have claims
        own = self.ovs.mapped()[0] if self.ovs.is_running() else 0
        claimed = sum(need["pages"] for claim in recorded() for need in claim["needs"])
        until(lambda: total() - free() == own + claimed, "no pages in use but those of claims", 5)
        check(free() >= PAGES - own, f"{free()} pages are free, the switch has {own} of {PAGES}")


def random_life(bench, host):
    """in 50 random starts and stops no VM ever uses a page that is reserved for a switch at work"""
    dice = random.Random(SEED)
    restarts = dice.sample(range(5, STEPS), 6)
    with switch(bench) as ovs:
        set_total(PAGES + SPARE_PAGES)
        before = pools()
        two = two_that_ping(bench, host, ovs)
        life = RandomLife(bench, host, ovs, dice)
        for number in range(STEPS):
            if number in restarts:
                life.restart_switch()
            life.step()
        wait_answers(two)
        life.vms += two
        while life.vms or life.guests:
            life.stop_one()
        life.watch.end()
        life.agent.close()
        back_as_before(bench, before)
        print(f"# seed {SEED}: {dict(life.done)}, {life.watch.looks} looks")
        same(life.watch.problems, [], "what was seen in between")
        check(min(life.done[word] for word in ("started by libvirt", "without the switch")) > 0,
              "not every case has come: this test tests less than it says")


if __name__ == "__main__":
    sys.exit(run([restarted, still_mapped, random_life]))
