#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""An agent of test-upgrade.py, which holds the module that it was started with until it ends.

usage: upgrade_agent.py HUGEVM.SO CONF HUGETLBFS

Reads one command per line, "start UUID" or "end UUID", and answers each with "ok" or with what went
wrong. A VM is a QEMU with 64 MiB of memory in files on the hugetlbfs.
"""

import os
import signal
import subprocess
import sys

import harness
import hugevm_host

MEMORY_MIB = 64
XML = """<domain type='qemu'><name>upgrade</name><uuid>{}</uuid>
<memory unit='MiB'>{}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>
"""


class Agent:
    def __init__(self, module, conf, mount):
        self.host = hugevm_host.Host(module, [conf], name="upgrade")
        self.mount = mount
        self.vms = {}  # UUID: (generation, QEMU, directory)

    def start(self, uuid):
        generation = self.host.before_vm_start(
            XML.format(uuid, MEMORY_MIB), {"hugepages": str(harness.M2)}).generation
        directory = f"{self.mount}/{uuid}"
        os.mkdir(directory)
        self.host.vm_launching(uuid, generation, memory_directories=[directory])
        qemu = subprocess.Popen(
            [harness.qemu(), "-uuid", uuid, "-machine", "q35,accel=tcg", "-m", str(MEMORY_MIB),
             "-mem-path", directory, "-mem-prealloc", "-display", "none", "-nodefaults", "-S",
             "-qmp", "stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.vms[uuid] = generation, qemu, directory
        qemu.stdin.write('{"execute": "qmp_capabilities"}')
        qemu.stdin.flush()
        qemu.stdout.readline()
        if "return" not in qemu.stdout.readline():  # it has its memory, and can answer
            raise RuntimeError(f"QEMU does not start, status {qemu.wait()}")
        self.host.after_vm_start(uuid, generation, qemu.pid)

    def end(self, uuid):
        generation, qemu, directory = self.vms.pop(uuid)
        qemu.send_signal(signal.SIGKILL)
        qemu.wait()
        self.host.after_vm_destroy(uuid, generation)
        os.rmdir(directory)


def main():
    agent = Agent(*sys.argv[1:])
    print("ok", flush=True)
    for line in sys.stdin:
        verb, uuid = line.split()
        try:
            getattr(agent, verb)(uuid)
            print("ok", flush=True)
        except (hugevm_host.HugevmError, RuntimeError, OSError) as error:
            print(str(error).replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
