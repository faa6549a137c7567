#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long `virsh list` takes while `hugevmctl run` gets pages slowly, and beside it at rest.

usage: HUGEVM_E2E=1 bench-virsh-list.py BUILD_DIRECTORY [SECONDS] [PAGES]

As root, on a host where nobody uses huge pages; BUILD_DIRECTORY is a build for an installed host,
such as build/host, which the tests leave. It is installed into a mount namespace. A libvirtd there
runs a VM with huge pages by hugevm's hook; hugevmctl run is another agent, and grows a pool by
PAGES pages of 2 MiB (6144), each write of the pool made to last half a second more (strace). Prints
median and maximum in milliseconds over SECONDS (10) each. A measurement, not a test: it asserts
nothing.
"""
import os
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))

import harness  # noqa: E402
import installed_host  # noqa: E402
from harness import DYNAMIC, M2, until, write  # noqa: E402

CTL = "/usr/sbin/hugevmctl"
CONF = "/etc/hugevm/hugevm.conf"
SLOW_US = 500000
SLOW = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=write",
        "-e", f"inject=write:delay_enter={SLOW_US}"]
KNOBS = ("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", harness.knob(M2))


def measure(name, libvirtd, seconds, still=lambda: True):
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end and still():
        begin = time.perf_counter()
        libvirtd.virsh("list", status=0)
        times.append((time.perf_counter() - begin) * 1000)
    print(f"{name:44} {len(times):5} calls   median {statistics.median(times):6.1f} ms   "
          f"maximum {max(times):6.1f} ms", flush=True)


def growing(bench, pages):
    """A run that is getting its pages; each write of a pool takes long."""
    vm = bench.vm(memory_mib=2 * pages)
    paths = [word for knob in KNOBS if os.path.exists(knob) for word in ("-P", knob)]
    run = subprocess.Popen([*SLOW, *paths, CTL, "run", vm.path, "-p", "hugepages=2048"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = harness.total()
    until(lambda: harness.total() > before, "the first pages", 60)
    return run, vm


def small(bench, libvirtd):
    vm = bench.vm(memory_mib=32, inside="<memoryBacking><hugepages/></memoryBacking>")
    libvirtd.virsh("create", vm.path, status=0)
    return vm


def others(bench, libvirtd, until_time):
    """VMs of libvirt's come and go meanwhile."""
    script = f"""while [ $(date +%s) -lt {int(until_time)} ]; do
        virsh -c qemu:///system create "$1" && virsh -c qemu:///system destroy "$2"; done"""
    vm = bench.vm(memory_mib=32, inside="<memoryBacking><hugepages/></memoryBacking>")
    return subprocess.Popen(["sh", "-c", script, "sh", vm.path, vm.name],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure_all(bench, libvirtd, seconds, pages):
    small(bench, libvirtd)
    measure("at rest", libvirtd, seconds)
    run, vm = growing(bench, pages)
    measure("while hugevmctl run grows", libvirtd, seconds, lambda: not vm.qemu())
    print(f"  ({harness.total()} of {pages} pages by then)")
    beside = others(bench, libvirtd, time.time() + seconds)
    measure("and VMs of libvirt's start and end beside it", libvirtd, seconds,
            lambda: not vm.qemu())
    print(f"  ({harness.total()} of {pages} pages by then)")
    beside.wait()
    run.send_signal(signal.SIGTERM)
    run.wait()


def main(build, seconds="10", pages="6144"):
    installed_host.enter(build)
    harness.ctl = CTL
    os.makedirs(os.path.dirname(CONF), exist_ok=True)
    write(CONF, DYNAMIC)
    with harness.only_one(), harness.hugetlbfs_of(M2), harness.kvm_device():
        bench = harness.Bench()
        try:
            with installed_host.Libvirtd() as libvirtd:
                measure_all(bench, libvirtd, float(seconds), int(pages))
                for vm in bench.vms:
                    libvirtd.virsh("destroy", vm.name)
        finally:
            bench.restore()


if __name__ == "__main__":
    main(*sys.argv[1:])
