#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that a real libvirtd keeps: hugevmctl define and set write their XML, and virsh starts them.

usage: test-define.py HUGEVMCTL HUGEVM.SO [WORD]
"""

import contextlib
import difflib
import os
import re
import subprocess
import sys

import harness
from harness import (G1, M2, check, holds, hugetlbfs_of, pools, pools_become, read, same,
                     smaps_of_guest, write)
from libvirt_host import NEED, VM_START_S, kept, one_line, pages_now, recorded, run

OURS = "urn:hugevm:vm:1"
PAGE = "<page size='{}' unit='KiB'/>"


@contextlib.contextmanager
def editor(command):
    os.environ["EDITOR"] = command
    try:
        yield
    finally:
        del os.environ["EDITOR"]


def dump(host, vm):
    """What libvirt keeps, with what it hides from others."""
    return host.virsh("dumpxml", "--inactive", "--security-info", vm.uuid, status=0).stdout


def start(host, vm):
    host.virsh("start", vm.uuid, status=0, timeout=VM_START_S)
    check(vm.qemu(), "virsh start succeeds, but there is no QEMU")
    return vm.qemu()


def refused(host, vm, *parts):
    """The start is refused by the hook, with all parts in one line."""
    said = host.virsh("start", vm.uuid, status=1, timeout=VM_START_S).stderr
    one_line(said.rpartition("unexpected exit status 1: ")[2], *parts)


def modes_of_guest(qemu):
    """Of its mappings of files on a hugetlbfs: "rw-s", "rw-p"."""
    return {line.split()[1] for line in read(f"/proc/{qemu}/maps").splitlines()
            if "/libvirt/qemu/" in line and harness.MOUNT in line}


def changed_lines(before, after):
    """What diff says of two texts: lines with '-' or '+' before them."""
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines())
            if line[0] in "-+"]


def is_ours(line):
    """Of hugevm's element, or of what <memoryBacking> has for it."""
    return re.fullmatch(r"[-+]\s*</?(hugevm:(vm|hugepages|shared|added)|metadata|memoryBacking|"
                        r"hugepages|page|access)\b.*", line)


# --- the whole of it ----------------------------------------------------------------------------


def defined_and_started(bench, host):
    """a VM defined with its properties starts on shared huge pages, and set off undoes all"""
    before, vm = pools(), bench.vm(memory_mib=64)
    with kept(host, vm):
        host.virsh("define", vm.path, status=0)
        plain = dump(host, vm)
        host.virsh("undefine", vm.uuid, status=0)
        said = bench.ctl("define", vm.path, "-p", "hugepages=2M", "-p", "shared=true", status=0)
        holds(said.stdout, f"defined: '{vm.name}'", "pages normal -> 2 MiB",
              "memory private -> shared")
        same((said.stdout.count("\n"), said.stderr, pools()), (1, "", before), "report and pools")
        holds(dump(host, vm), PAGE.format(M2), "<access mode='shared'/>", f'xmlns:hugevm="{OURS}"')
        qemu = start(host, vm)
        same(pages_now(), (NEED, 0), "total and free while it runs")
        same(modes_of_guest(qemu), {"rw-s"}, "how QEMU maps its pages")
        host.kill(vm)
        pools_become(before)
        same(bench.ctl("set", vm.name, "hugepages=2M", "shared=true", status=0).stdout,
             f"unchanged: '{vm.name}'\n", "what the same once more says")
        bench.ctl("set", vm.uuid, "hugepages=off", "shared=auto", status=0)
        same(dump(host, vm), plain, "XML")
        same(recorded(), [], "claims")


def through_all_sizes(bench, host):
    """set goes from none to 2 MiB to 1 GiB to none, and each start has what was set"""
    before, vm = pools(), bench.vm(memory_mib=1024)
    host.virsh("define", vm.path, status=0)
    plain = dump(host, vm)
    try:
        with hugetlbfs_of(G1), kept(host, vm):
            for value, kib, pages in (("2M", M2, 512), ("1G", G1, 1), ("2048", M2, 512)):
                said = bench.ctl("set", vm.name, f"hugepages={value}", status=0)
                if kib == G1:
                    holds(said.stderr, "restart libvirtd")
                    host.libvirtd.restart()
                same(dump(host, vm).count("<page "), 1, "number of <page>")
                qemu = start(host, vm)
                same(sum(smaps_of_guest(qemu, kib)), kib * pages, f"KiB on pages of {value}")
                host.kill(vm)
                pools_become(before)
            bench.ctl("set", vm.name, "hugepages=off", status=0)
            same(dump(host, vm), plain, "XML")
    finally:
        host.libvirtd.restart()  # it would look for the mount


# --- what is others' ----------------------------------------------------------------------------

RICH = """  <title>Titel &lt;mit&gt; \u00e4\u00f6\u00fc</title>
  <description>\u65e5\u672c\u8a9e &amp; more
    in two lines</description>
  <metadata>
    <app:data xmlns:app="http://example.org/app" kind="a&quot;b">
      <!-- hugevm:vm is not here -->
      <app:text>&lt;hugepages/&gt; \u00e9</app:text>
      <hugevm:vm xmlns:hugevm="urn:another"><hugevm:hugepages>7</hugevm:hugepages></hugevm:vm>
    </app:data>
  </metadata>
  <memoryBacking><nosharepages/></memoryBacking>
  <cpu><numa><cell id='0' cpus='0' memory='32' unit='MiB'/>
  <cell id='1' memory='32' unit='MiB' memAccess='shared'/></numa></cpu>
"""
VNC = "<graphics type='vnc' port='-1' passwd='geheim'/><video><model type='vga'/></video>"


def all_else_survives(bench, host):
    """titles, metadata, passwords and cells of a VM are byte for byte what they were"""
    vm = bench.vm(memory_mib=64, inside=RICH, devices=VNC)
    with kept(host, vm):
        host.virsh("define", vm.path, status=0)
        host.virsh("autostart", vm.uuid, status=0)
        plain = dump(host, vm)
        holds(plain, "passwd='geheim'", "\u65e5\u672c", "urn:another", "nosharepages")
        bench.ctl("set", vm.name, "hugepages=2M", "shared=true", status=0)
        edited = dump(host, vm)
        lines = [line for line in changed_lines(plain, edited) if not is_ours(line)]
        same(sorted(set(re.sub(r" memAccess='shared'", "", line[2:]) for line in lines)),
             [re.search(r".*<cell id='0'.*", plain)[0]], "lines that are not ours, and are other")
        holds(edited, PAGE.format(M2), "passwd='geheim'")
        bench.ctl("set", vm.name, "shared=false", status=0)
        bench.ctl("set", vm.name, "hugepages=any", "shared=auto", status=0)
        bench.ctl("set", vm.name, "hugepages=off", status=0)
        same(dump(host, vm), plain, "XML")
        holds(host.virsh("dominfo", vm.uuid, status=0).stdout, "Autostart:      enable")


def pages_of_cells_are_kept(bench, host):
    """a user's own pages of single cells are kept, and a wish that they contradict is refused"""
    inside = RICH.replace("<nosharepages/>",
                          "<hugepages><page size='2048' nodeset='0-1'/></hugepages>")
    vm = bench.vm(memory_mib=64, inside=inside)
    with kept(host, vm):
        host.virsh("define", vm.path, status=0)
        plain = dump(host, vm)
        for word, says in (("1G", "less than one page"), ("off", "single guest cells")):
            said = bench.ctl("set", vm.name, f"hugepages={word}", status=1)
            check(says in said.stderr or "names 2 MiB" in said.stderr, said.stderr)
            same(dump(host, vm), plain, "XML of a refused VM")
        bench.ctl("set", vm.name, "hugepages=2M", status=0)
        holds(dump(host, vm), "nodeset='0-1'")
        start(host, vm)
        same(pages_now(), (NEED, 0), "total and free while it runs")
        host.kill(vm)
        bench.ctl("set", vm.name, "hugepages=off", status=1)


# --- by hand ------------------------------------------------------------------------------------


def edited_by_hand(bench, host):
    """what virsh writes into the metadata is refused by its missing element, and set mends it"""
    before, vm = pools(), bench.vm(memory_mib=64)
    with kept(host, vm):
        host.virsh("define", vm.path, status=0)
        host.virsh("metadata", vm.uuid, OURS, "--config", "--key", "hugevm", "--set",
                   "<vm><hugepages>2048</hugepages><shared>true</shared></vm>", status=0)
        refused(host, vm, "property hugepages", PAGE.format(M2), "hugevmctl set")
        bench.ctl("set", vm.name, "hugepages=2048", status=0)
        holds(dump(host, vm), PAGE.format(M2), "<access mode='shared'/>")
        start(host, vm)
        same(pages_now(), (NEED, 0), "total and free while it runs")
        host.kill(vm)
        with editor("sed -i 's/hugevm:shared>true/hugevm:shared>nonsense/'"):
            host.virsh("edit", vm.uuid, status=0)
        refused(host, vm, "property shared", "'nonsense'")
        with editor("sed -i 's/>2048</>junk</'"):
            host.virsh("edit", vm.uuid, status=0)
        refused(host, vm, "property hugepages", "'junk'")
        bench.ctl("set", vm.name, "hugepages=2M", "shared=auto", status=0)
        start(host, vm)
        host.kill(vm)
        pools_become(before)


# --- while it runs, and what fails --------------------------------------------------------------


def while_it_runs(bench, host):
    """a VM that runs keeps its pages, is told so, and starts next as it was set"""
    before, vm = pools(), bench.vm(memory_mib=64)
    with kept(host, vm):
        bench.ctl("define", vm.path, "-p", "hugepages=2M", status=0)
        start(host, vm)
        said = bench.json("set", vm.name, "shared=true", status=0)
        same((said["active"], said["defined"], said["vm"]["uuid"]), (True, True, vm.uuid), "report")
        same((said["hugepages"], said["shared"]), ("2M", "true"), "properties")
        said = bench.ctl("set", vm.name, "hugepages=off", "shared=auto", status=0)
        holds(said.stdout, "takes effect at its next start")
        same((pages_now(), len(recorded())), ((NEED, 0), 1), "pages and claims")
        host.destroy(vm)
        pools_become(before)
        start(host, vm)
        same((pools(), recorded()), (before, []), "pools and claims of a VM without huge pages")


def what_fails_changes_nothing(bench, host):
    """an unknown or transient VM, a refusal of libvirt's, a user without rights: errors, no change"""
    vm, other = bench.vm(memory_mib=64), bench.vm(memory_mib=64)
    with kept(host, vm):
        holds(bench.ctl("set", "nobody", "hugepages=2M", status=3).stderr, "no VM 'nobody'",
              "virsh list --all")
        host.create(vm, status=0)
        holds(bench.ctl("set", vm.name, "hugepages=2M", status=1).stderr, "transient")
        host.destroy(vm)
        host.virsh("define", vm.path, status=0)
        plain = dump(host, vm)
        write(other.path, other.xml.replace(f"<name>{other.name}<", f"<name>{vm.name}<"))
        holds(bench.ctl("define", other.path, "-p", "hugepages=2M", status=3).stderr,
              "already exists")
        write(other.path, other.xml.replace("<vcpu>1<", "<vcpu>none<"))
        holds(bench.ctl("define", other.path, "-p", "hugepages=2M", status=1).stderr,
              "libvirt does not define the VM")
        bench.ctl("set", vm.name, "hugepages=17K5", status=1)
        same(nobody("set", vm.name, "hugepages=2M"), 3, "status for a user without rights")
        same(dump(host, vm), plain, "XML")
        host.libvirtd.stop()
        holds(bench.ctl("set", vm.name, "hugepages=2M", status=3).stderr, "cannot connect")
        host.libvirtd.start()
        same(dump(host, vm), plain, "XML")


def nobody(*arguments):
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                           harness.ctl, *arguments], capture_output=True, text=True, check=False,
                          timeout=harness.PATIENCE_S, stdin=subprocess.DEVNULL)
    holds(done.stderr, "hugevmctl: cannot connect to libvirt")
    return done.returncode


if __name__ == "__main__":
    sys.exit(run([
        defined_and_started, through_all_sizes, all_else_survives, pages_of_cells_are_kept,
        edited_by_hand, while_it_runs, what_fails_changes_nothing,
    ]))
