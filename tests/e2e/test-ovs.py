#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two VMs ping each other through Open vSwitch with DPDK, which has reserved pages beside theirs.

usage: test-ovs.py HUGEVMCTL HUGEVM.SO [WORD]

A vhost-user NIC works only if the switch can map the guest's memory: whether it is shared is seen
from packets. What happens when the switch comes and goes is in test-ovs-beside.py.
"""

import signal
import sys
import time

import guest_linux
import harness
import ovs_host
from harness import M2, check, holds, pools, same, set_total, until
from libvirt_host import HOOK, pages_now, recorded, replaced, run
from ovs_host import PAGES, VM_PAGES, back_as_before, pair, reserving, switch, wait_answers

SILENCE_S = 2  # guests ping ten times a second


def needed_by(ovs, port):
    return (f"shared memory is needed by interface 'vhostuser' (MAC '{ovs_host.mac(port)}', "
            f"socket '{ovs.socket(port)}')")


def ping_each_other(ovs, vms):
    """On all pages that there are: the switch's own, and those of both VMs."""
    wait_answers(vms)
    same(pages_now(), (PAGES + 2 * VM_PAGES, 0), "total and free while they ping each other")
    same(ovs.mapped(), (PAGES, 2 * VM_PAGES), "pages mapped by the switch: its own, of VMs")
    check(min(ovs.packets()) > 0, f"packets that the switch had of each: {ovs.packets()}")


def by_hook(bench, host):
    """started by libvirt's hook, two guests ping each other through the switch"""
    host.conf(reserving())
    with switch(bench) as ovs:
        before, vms = pools(), pair(bench, ovs, ovs_host.SHARED, ovs_host.MEMFD)
        same((pages_now(), ovs.mapped()), ((PAGES, 0), (PAGES, 0)), "pages of the switch")
        for vm in vms:
            host.start(vm)
        ping_each_other(ovs, vms)
        for vm in vms:
            host.destroy(vm)
        back_as_before(bench, before)


def by_run(bench, _host):
    """hugevmctl run shares the memory of two VMs for their NICs, and the guests ping each other"""
    conf = bench.conf(reserving())
    with switch(bench) as ovs:
        before, vms = pools(), pair(bench, ovs, "", "")
        process = bench.start([harness.ctl, "--conf", conf, "run", *(vm.path for vm in vms), "-p",
                               f"hugepages={M2}"])
        for vm in vms:
            same(process.stdout.readline(), f"running: '{vm.name}'\n", "output")
        ping_each_other(ovs, vms)
        same([claim["shared"] for claim in bench.claims()], [True, True], "shared in the claims")
        _, err = bench.end(process, signal.SIGTERM)
        for port in ovs.ports:
            holds(err, needed_by(ovs, port) + ", and the guest's memory is made shared")
        back_as_before(bench, before)


def refused(bench, host):
    """with private memory the same VMs are refused before anything is taken, with the NIC"""
    host.conf(reserving())
    conf = bench.conf(reserving())
    explicit = bench.conf(reserving() + "shared_memory = explicit\n", "explicit.conf")
    with switch(bench) as ovs:
        before, vm = pools(), ovs.vm(bench, 1)
        huge = ovs.vm(bench, 2, inside=ovs_host.PRIVATE)
        host.refused(huge, needed_by(ovs, 2), "what to do:", "<access mode='shared'/>")
        for wish in (conf, "-p", "hugepages_shared=false"), (explicit,):
            _, err = bench.end(bench.run(vm, *wish[1:], conf=wish[0]), status=1)
            holds(err, needed_by(ovs, 1), "what to do:")
        same((vm.qemu(), pools(), recorded()), (0, before, []), "QEMU, pools, claims")


def forced(bench, host):
    """with private memory and without hugevm the VMs run, and the switch cannot map their memory"""
    with switch(bench) as ovs, replaced(HOOK):
        set_total(PAGES + 2 * VM_PAGES)
        vms = pair(bench, ovs, ovs_host.PRIVATE, ovs_host.PRIVATE)
        for vm in vms:
            host.start(vm)
        for vm, port in zip(vms, ovs.ports):
            guest_linux.wait_ready(vm.log)
            until(lambda port=port: ovs.fails_to_map(port), "the switch's error", 10, 0.1)
        time.sleep(SILENCE_S)
        same([guest_linux.times_said(vm.log, "answered") for vm in vms], [0, 0], "answers")
        same(ovs.packets(), [0, 0], "packets")
        for vm in vms:
            host.destroy(vm)


if __name__ == "__main__":
    sys.exit(run([by_hook, by_run, refused, forced]))
