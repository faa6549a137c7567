# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest with a real Linux, for what firmware does not do: let go of a DIMM, answer a ping.

    kernel, initrd = make_files(kernel_dir, directory, MEMORY)
    ... a domain through boot(xml, files, log, MEMORY) ...
    wait_ready(log)

The kernel is the one of the throwaway VM (fetch-kernel.sh). The guest is busybox that has loaded
the drivers of its kind, says "ready" on its serial line at each boot, and does what its kind does:

MEMORY  sleeps. What it does with memory is seen from outside: in libvirt's live XML, and in QEMU's
        mappings.
PING    has the address ADDRESS and pings PEER for ever, both given to boot(); it says "answered"
        for each answer.
"""

import glob
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

from harness import check, until

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "kernel"))
import vm as throwaway  # noqa: E402

BOOT_S = 90


class Guest(NamedTuple):
    modules: tuple  # in the order in which they need each other; newer kernels have most built in
    command_line: str
    life: str  # what it does when the modules are loaded


VIRTIO = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci")
# DIMMs must be onlined, and so that they can be left again
MEMORY = Guest((*VIRTIO, "virtio_mem"), "memhp_default_state=online_movable", """
echo ready >/dev/ttyS0
while :; do sleep 1000; done
""")
# QEMU 7.2's emulation crashes on vhost-user with MSI-X; what a kernel does not know of its command
# line is the environment of its init
PING = Guest((*VIRTIO, "failover", "net_failover", "virtio_net"), "pci=nomsi", """
ip link set lo up
ip address add $address/24 dev eth0
ip link set eth0 up
echo ready >/dev/ttyS0
while :; do
    ping -c 1 -W 1 $peer >/dev/null 2>&1 && echo answered >/dev/ttyS0
    usleep 100000
done
""")
COMMAND_LINE = "console=ttyS0 loglevel=4 rdinit=/init"
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in {modules}; do insmod $module; done
{life}"""


def find_kernel(kernel_dir):
    found = sorted(glob.glob(f"{kernel_dir}/boot/vmlinuz-*"))
    check(found, f"no kernel to boot in {kernel_dir}: run tests/kernel/fetch-kernel.sh build/kernel")
    return found[-1]


def find_modules(kernel_dir, kernel, names):
    """Those that this kernel has as files."""
    release = os.path.basename(kernel)[len("vmlinuz-"):]
    found = []
    for name in names:
        found += (glob.glob(f"{kernel_dir}/lib/modules/{release}/kernel/**/{name}.ko*", recursive=True)
                  + glob.glob(f"{kernel_dir}/usr/lib/modules/{release}/kernel/**/{name}.ko*",
                              recursive=True))[:1]
    return found


def make_files(kernel_dir, directory, guest):
    """Copies, since QEMU's user may not read a build tree: (kernel, initrd)."""
    kernel, tree = find_kernel(kernel_dir), f"{directory}/tree"
    for name in throwaway.DIRECTORIES:
        os.makedirs(f"{tree}/{name}")
    throwaway.install_busybox(tree)
    inside = []
    for module in find_modules(kernel_dir, kernel, guest.modules):
        name, packed = os.path.splitext(os.path.basename(module))
        inside.append(f"/root/{name if packed != '.ko' else name + packed}")
        throwaway.install(tree, module, inside[-1])
        if packed == ".xz":  # busybox wants it unpacked
            with open(tree + inside[-1], "wb") as plain:
                subprocess.run(["xz", "-dc", module], stdout=plain, check=True)
    throwaway.write_file(tree, "/init", INIT.format(modules=" ".join(inside), life=guest.life),
                         0o755)
    throwaway.pack_tree(tree, f"{directory}/initrd")
    shutil.copyfile(kernel, f"{directory}/kernel")
    shutil.rmtree(tree)
    return f"{directory}/kernel", f"{directory}/initrd"


def boot(xml, files, log, guest, **variables):
    """The domain, with the guest in it; variables: what its init finds in its environment."""
    kernel, initrd = files
    words = [COMMAND_LINE, guest.command_line, *(f"{name}={text}" for name, text in
                                                 variables.items())]
    xml = xml.replace("</os>", f"<kernel>{kernel}</kernel><initrd>{initrd}</initrd>"
                      f"<cmdline>{' '.join(words)}</cmdline></os>")
    return xml.replace("</devices>", f"<serial type='file'><source path='{log}'/></serial>"
                       "</devices>")


def times_said(log, word):
    if not os.path.exists(log):
        return 0
    with open(log, encoding="utf-8", errors="replace") as file:
        return file.read().split().count(word)


def wait_ready(log, boots=1):
    until(lambda: times_said(log, "ready") >= boots, f"boot {boots} of the guest", BOOT_S, 0.1)
