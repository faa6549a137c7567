# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest with a real Linux, for what firmware does not do: let go of a DIMM, take virtio-mem.

    kernel, initrd = make_files(kernel_dir, directory)
    ... a domain with boot_elements(kernel, initrd) and serial_device(log) ...
    wait_ready(log)

The kernel is the one of the throwaway VM (fetch-kernel.sh). The guest is busybox that has loaded
the drivers, says "ready" on its serial line at each boot, and sleeps. What it does with memory is
seen from outside: in libvirt's live XML, and in QEMU's mappings.
"""

import glob
import os
import shutil
import subprocess
import sys

from harness import check, until

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "kernel"))
import vm as throwaway  # noqa: E402

BOOT_S = 90
# in the order in which they need each other; newer kernels have most of them built in
MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_mem")
# DIMMs must be onlined, and so that they can be left again
COMMAND_LINE = "console=ttyS0 loglevel=4 rdinit=/init memhp_default_state=online_movable"
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in {modules}; do insmod $module; done
echo ready >/dev/ttyS0
while :; do sleep 1000; done
"""


def find_kernel(kernel_dir):
    found = sorted(glob.glob(f"{kernel_dir}/boot/vmlinuz-*"))
    check(found, f"no kernel to boot in {kernel_dir}: run tests/kernel/fetch-kernel.sh build/kernel")
    return found[-1]


def find_modules(kernel_dir, kernel):
    """Those of MODULES that this kernel has as files; unpacked, as busybox wants them."""
    release = os.path.basename(kernel)[len("vmlinuz-"):]
    found = []
    for name in MODULES:
        found += (glob.glob(f"{kernel_dir}/lib/modules/{release}/kernel/drivers/virtio/{name}.ko*")
                  + glob.glob(f"{kernel_dir}/usr/lib/modules/{release}/kernel/drivers/virtio/"
                              f"{name}.ko*"))[:1]
    return found


def make_files(kernel_dir, directory):
    """Copies, since QEMU's user may not read a build tree: (kernel, initrd)."""
    kernel, tree = find_kernel(kernel_dir), f"{directory}/tree"
    for name in throwaway.DIRECTORIES:
        os.makedirs(f"{tree}/{name}")
    throwaway.install_busybox(tree)
    inside = []
    for module in find_modules(kernel_dir, kernel):
        name, packed = os.path.splitext(os.path.basename(module))
        inside.append(f"/root/{name if packed != '.ko' else name + packed}")
        throwaway.install(tree, module, inside[-1])
        if packed == ".xz":
            with open(tree + inside[-1], "wb") as plain:
                subprocess.run(["xz", "-dc", module], stdout=plain, check=True)
    throwaway.write_file(tree, "/init", INIT.format(modules=" ".join(inside)), 0o755)
    throwaway.pack_tree(tree, f"{directory}/initrd")
    shutil.copyfile(kernel, f"{directory}/kernel")
    shutil.rmtree(tree)
    return f"{directory}/kernel", f"{directory}/initrd"


def boot(xml, files, log):
    """The domain, with the guest in it."""
    kernel, initrd = files
    xml = xml.replace("</os>", f"<kernel>{kernel}</kernel><initrd>{initrd}</initrd>"
                      f"<cmdline>{COMMAND_LINE}</cmdline></os>")
    return xml.replace("</devices>", f"<serial type='file'><source path='{log}'/></serial>"
                       "</devices>")


def wait_ready(log, boots=1):
    def boots_seen():
        with open(log, encoding="utf-8", errors="replace") as file:
            return file.read().split().count("ready")

    until(lambda: os.path.exists(log) and boots_seen() >= boots, f"boot {boots} of the guest",
          BOOT_S, 0.1)
