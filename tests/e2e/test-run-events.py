#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevmctl run, and what the guest does by itself: its pages stay as long as its QEMU does.

usage: test-run-events.py HUGEVMCTL HUGEVM.SO [WORD]

The guest is a boot sector that writes one value to one port of its q35 machine, whenever it
boots.
"""

import signal
import sys
import threading

from harness import PATIENCE_S, main, pools, pools_become, same, total

NEED = 32  # pages of 2 MiB for 64 MiB

POWER_OFF = b"\xba\x04\x06" b"\xb8\x00\x20" b"\xef"  # mov dx, 0x604; mov ax, 0x2000; out dx, ax
RESET = b"\xba\xf9\x0c" b"\xb0\x06" b"\xee"  # mov dx, 0xcf9; mov al, 6; out dx, al
PANIC = b"\xba\x05\x05" b"\xb0\x01" b"\xee"  # mov dx, 0x505; mov al, 1; out dx, al
STOP = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp to hlt


def guest(bench, code, inside=""):
    """A VM whose guest does that."""
    disk = f"{bench.directory}/disk"
    with open(disk, "wb") as file:
        file.write((code + STOP).ljust(510, b"\0") + b"\x55\xaa" + bytes(1024 * 1024 - 512))
    inside += "<features><acpi/></features>"
    return bench.vm(memory_mib=64, inside=inside, devices=(
        f"<disk type='file'><driver type='raw'/><source file='{disk}'/><target dev='sda' bus='sata'/>"
        "</disk><panic model='isa'/>"))


def ends(bench, vm, why):
    """The guest ends its VM by itself."""
    before = pools()
    out, _ = bench.end(bench.run_until_up(vm))
    same(out, f"ending: '{vm.name}': {why}\n", "output")
    same(vm.qemu(), 0, "QEMU")
    pools_become(before)
    same(bench.claims(), [], "claims")


def goes_on(bench, vm, lines):
    """The guest begins anew so many times: one QEMU, and its pages."""
    before = pools()
    process = bench.run_until_up(vm)
    qemu, claims = vm.qemu(), bench.claims()
    impatience = threading.Timer(PATIENCE_S, process.terminate)
    impatience.start()
    for _ in range(lines):
        same(process.stdout.readline(), f"rebooted: '{vm.name}'\n", "output")
        same((vm.qemu(), total()), (qemu, NEED), "QEMU and pages")
    impatience.cancel()
    same(bench.claims(), claims, "claims")
    out, _ = bench.end(process, signal.SIGTERM)
    same(out.splitlines()[-1], f"ending: '{vm.name}': interrupted", "output")
    pools_become(before)
    same(bench.claims(), [], "claims")


def powers_off(bench):
    """a guest that powers off ends its run, and its pages go back"""
    ends(bench, guest(bench, POWER_OFF), "the guest has shut down")


def reboots(bench):
    """a guest that resets itself again and again keeps its QEMU and its pages"""
    goes_on(bench, guest(bench, RESET), 3)


def reboot_is_the_end(bench):
    """a guest that resets itself, where the domain says destroy for that, ends its run"""
    ends(bench, guest(bench, RESET, "<on_reboot>destroy</on_reboot>"), "the guest has shut down")


def power_off_is_no_end(bench):
    """a guest that powers off, where the domain says restart for that, keeps QEMU and pages"""
    goes_on(bench, guest(bench, POWER_OFF, "<on_poweroff>restart</on_poweroff>"), 2)


def panics(bench):
    """a guest that panics ends its run, and its pages go back"""
    ends(bench, guest(bench, PANIC, "<on_crash>destroy</on_crash>"), "the guest has crashed")


def panic_is_no_end(bench):
    """a guest that panics, where the domain says restart for that, keeps QEMU and pages"""
    goes_on(bench, guest(bench, PANIC, "<on_crash>restart</on_crash>"), 2)


if __name__ == "__main__":
    sys.exit(main([powers_off, reboots, reboot_is_the_end, power_off_is_no_end, panics,
                   panic_is_no_end]))
