#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole-process time of VDSM's report hooks, beside /bin/true and an empty GLib program, in one run.

usage: HUGEVM_E2E=1 bench-report.py BUILD_DIRECTORY [ROUNDS]

As bench-hook.py; the hooks run as user vdsm, with statistics as large as those of a host with 100
VMs, beside 20 claims. VDSM calls them every few seconds: less than 20 ms is asked of each. It
asserts nothing.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))

import harness  # noqa: E402
import installed_host  # noqa: E402
from harness import DYNAMIC, STATIC  # noqa: E402

HOOKS = "/usr/libexec/vdsm/hooks"
CONF = "/etc/hugevm/hugevm.conf"
CLAIMS = 20
PAGES = {str(kib): {"freePages": 7, "vm.free_hugepages": 7, "nr_hugepages": 7} for kib in (2048, 1048576)}
STATS = {"network": {f"vnet{i}": {"rx": str(i), "tx": str(i), "speed": "1000", "state": "up"}
                     for i in range(300)},
         "devices": [f"device {i} with a name of its own" for i in range(300)],
         "hugepages": PAGES, "numaNodeMemFree": {"0": {"hugepages": PAGES}}}
CAPS = {"hooks": [f"script {i}" * 8 for i in range(300)], "hugepages": [2048, 1048576],
        "numaNodes": {"0": {"hugepages": {kib: {"totalPages": "7"} for kib in PAGES}}}}


def claim(number):
    """A VM of 4 MiB, claimed by libvirt's hook in the name of this process."""
    uuid = f"11111111-2222-3333-4444-{number:012}"
    xml = (f"<domain type='qemu'><name>bench{number}</name><uuid>{uuid}</uuid>"
           "<memory unit='MiB'>4</memory><memoryBacking><hugepages/></memoryBacking>"
           "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>")
    subprocess.run(["/etc/libvirt/hooks/qemu.d/50-hugevm", f"bench{number}", "prepare", "begin", "-"],
                   input=xml, text=True, check=True)
    return uuid


def once(command, document, conf):
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        if conf is not None:
            harness.write(CONF, conf)
        path = harness.write(f"{directory}/report", document)
        os.chmod(path, 0o666)
        begin = time.perf_counter()
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
                       env={"PATH": "/usr/bin:/bin", "_hook_json": path}, user="vdsm", extra_groups=[])
        return (time.perf_counter() - begin) * 1000


def measure(empty_glib, rounds):
    stats, caps = json.dumps(STATS), json.dumps(CAPS)
    off = STATIC + "[hugevm]\nenabled = false\n"
    rows = {
        "/bin/true": (["/bin/true"], "", None),
        "empty GLib program": ([empty_glib], "", None),
        "after_get_stats": ([f"{HOOKS}/after_get_stats/50_hugevm"], stats, STATIC),
        "after_get_stats, dynamic": ([f"{HOOKS}/after_get_stats/50_hugevm"], stats, DYNAMIC),
        "after_get_stats, off": ([f"{HOOKS}/after_get_stats/50_hugevm"], stats, off),
        "after_get_caps": ([f"{HOOKS}/after_get_caps/50_hugevm"], caps, STATIC),
    }
    times = {name: [] for name in rows}
    for _ in range(rounds):
        for name, row in rows.items():
            times[name].append(once(*row))
    base = statistics.median(times["/bin/true"])
    print(f"{len(stats)} bytes of statistics, {CLAIMS} claims, {rounds} rounds")
    for name, values in times.items():
        values.sort()
        median = statistics.median(values)
        print(f"{name:26} median {median:6.2f} ms   p95 {values[int(len(values) * 0.95)]:6.2f} ms   "
              f"{median / base:5.2f} x /bin/true")


def main(build, rounds="200"):
    installed_host.enter(build)
    subprocess.run(["useradd", "-r", "-M", "-s", "/usr/sbin/nologin", "vdsm"], check=False)
    before = harness.total()
    os.makedirs(os.path.dirname(CONF), exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, harness.only_one(), harness.hugetlbfs_of(harness.M2):
        os.chmod(directory, 0o755)
        empty_glib = f"{directory}/empty-glib"  # the build may be where vdsm may not look
        subprocess.run(["cp", os.path.join(os.path.abspath(build), "../tests/bench/empty-glib"), empty_glib],
                       check=True)
        os.makedirs(f"{harness.MOUNT}/libvirt/qemu")  # as libvirtd leaves it there
        harness.set_total(before + 2 * CLAIMS)
        harness.write(CONF, STATIC)
        uuids = [claim(number) for number in range(CLAIMS)]
        try:
            measure(empty_glib, int(rounds))
        finally:
            for uuid in uuids:
                subprocess.run(["/usr/sbin/hugevmctl", "release", uuid], check=True)
            harness.set_total(before)


if __name__ == "__main__":
    main(*sys.argv[1:])
