#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What hugevm refuses in libvirt's place libvirt refuses indeed, and it is asked for its version.

usage: test-agreements.py HUGEVMCTL HUGEVM.SO [WORD]

The domains are those of tests/host/agreements. With --ask as its first argument this is the child
that asks libvirt's embedded driver, in a mount namespace of its own: usage: --ask ROOT FILE...
"""

import json
import os
import pathlib
import subprocess
import sys
import threading

import harness
from harness import DYNAMIC, check, holds, same, write

FILES = pathlib.Path(__file__).resolve().parent.parent / "host" / "agreements"
NO_MOUNT = ('for mount in $(awk \'$3 == "hugetlbfs" {print $2}\' /proc/self/mounts); do '
            'umount -l "$mount" || exit 1; done; exec "$@"')


# --- the child --------------------------------------------------------------------------------


def run_events(libvirt):
    while True:
        libvirt.virEventRunDefaultImpl()


def ask(root, *paths):
    """Prints what libvirt says to each: null, or its error."""
    import libvirt  # the tests' other half does without

    answers = {}
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=run_events, args=(libvirt,), daemon=True).start()
    connection = libvirt.open(f"qemu:///embed?root={root}")
    for path in paths:
        xml = pathlib.Path(path).read_text(encoding="utf-8").replace("type='kvm'", "type='qemu'")
        try:
            # as for a start: the command line of QEMU, but no QEMU
            connection.domainXMLToNative("qemu-argv", xml, 0)
            answers[pathlib.Path(path).stem] = None
        except libvirt.libvirtError as error:
            answers[pathlib.Path(path).stem] = str(error)
    print(json.dumps(answers), flush=True)
    os._exit(0)  # the thread would be in libvirt while it is torn down


# --- the tests --------------------------------------------------------------------------------


def answers(bench, names, prefix=()):
    root = f"{bench.directory}/libvirt"
    os.makedirs(f"{root}/etc", exist_ok=True)
    write(f"{root}/etc/qemu.conf", 'stdio_handler = "file"\nsecurity_driver = "none"\n'
                                   'cgroup_controllers = []\n')
    run = subprocess.run(["unshare", "-m", *prefix, sys.executable, __file__, "--ask", root,
                          *(FILES / f"{name}.xml" for name in names)],
                         capture_output=True, text=True, timeout=120, check=False)
    check(run.returncode == 0, run.stderr)
    return json.loads(run.stdout)


def refused_by_libvirt(bench):
    """libvirt alone refuses what hugevm refuses for it, and no more than that"""
    said = answers(bench, ["ondemand-hugepages", "ondemand-hugepages.near", "anonymous-hugepages",
                           "anonymous-hugepages.near", "memfd-bare", "memfd",
                           "locked-virtio-mem", "file-source"])
    holds(said.pop("ondemand-hugepages"), "hugepages are not allowed with memory allocation ondemand")
    holds(said.pop("anonymous-hugepages"), "hugepages are not allowed with anonymous memory source")
    same({name: text for name, text in said.items() if text is not None}, {}, "what else it refuses")
    said = answers(bench, ["memfd-bare", "memfd"], ["sh", "-c", NO_MOUNT, "sh"])
    holds(said["memfd-bare"], "hugetlbfs filesystem is not mounted")
    same(said["memfd"], None, "what it says to a memfd of a size without any hugetlbfs")


def version_is_asked(bench):
    """run and define know their libvirt's version: a memfd is not warned of, as plan has to"""
    vm = bench.vm(memory_mib=64, inside="<memoryBacking><hugepages><page size='2048'/></hugepages>"
                                        "<source type='memfd'/></memoryBacking>")
    unknown = "the version of libvirt is not known"
    conf = bench.conf(DYNAMIC)
    holds(bench.ctl("plan", vm.path, conf=conf, status=0).stderr, unknown)
    said = bench.ctl("run", vm.path, "--for", "1", conf=conf, status=0)
    check(unknown not in said.stderr, said.stderr)
    holds(said.stdout, "running: ")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        ask(*sys.argv[2:])
    sys.exit(harness.main([refused_by_libvirt, version_is_asked]))
