#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two VMs ping each other through Open vSwitch with DPDK, on its reserved pages and their grown ones.

usage: test-ovs.py HUGEVMCTL HUGEVM.SO [WORD]

A vhost-user NIC works only if the switch can map the guest's memory: whether it is shared is seen
from packets. What happens when the switch comes and goes is in test-ovs-beside.py.
"""

import sys

import ovs_host
from harness import pools, same, total, until
from libvirt_host import pages_now, recorded, run
from ovs_host import PAGES, VM_PAGES, guest_files, reserving, switch, wait_answers


def back_as_before(bench, before):
    """The switch lets go of a VM's memory a moment after its end."""
    def is_back():
        bench.ctl("reconcile", status=0)
        return pools() == before

    until(is_back, "pools as before", 10, 0.1)
    same(recorded(), [], "claims")


def by_hook(bench, host):
    """started by libvirt's hook, two guests ping each other through the switch"""
    host.conf(reserving())
    with switch(bench) as ovs:
        before, files = pools(), guest_files(bench)
        same((pages_now(), ovs.mapped()), ((PAGES, 0), (PAGES, 0)), "pages of the switch")
        vms = [ovs.vm(bench, port, files, ovs_host.shared()) for port in ovs.ports]
        for vm in vms:
            host.start(vm)
        same(total(), PAGES + 2 * VM_PAGES, "pages with both VMs")
        wait_answers(vms)
        same(pages_now(), (PAGES + 2 * VM_PAGES, 0), "total and free while they ping each other")
        same(ovs.mapped(), (PAGES, 2 * VM_PAGES), "pages mapped by the switch: its own, of VMs")
        for vm in vms:
            host.destroy(vm)
        back_as_before(bench, before)


if __name__ == "__main__":
    sys.exit(run([by_hook]))
