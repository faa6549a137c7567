#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each agreement is broken by a real domain XML, and just not broken by another.

usage: test-agreements.py HUGEVMCTL MAKE-TREE TREES LISTER HUGEVM.SO HUGEVM_HOST_DIRECTORY (TAP)

LISTER prints the table. The files are in agreements/, beside this one.
"""
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[6])
from hugevm_host import BY_LIBVIRTD, Host, HugevmError  # noqa: E402

HUGEVMCTL, MAKE_TREE, TREES = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
FILES = pathlib.Path(__file__).parent / "agreements"
NEW = (9000000, 7002000)
UNKNOWN = (0, 0)
MOUNT = "none /hp hugetlbfs rw,relatime,pagesize={} 0 0\n"

EXPLICIT = "[hugevm]\nshared_memory = explicit\n"
IN_FILES = {"conf": "[hugevm]\nfile_backed_memory = 256\nmemory_backing_dir = /srv/ram\n"}
TRUE, FALSE = ({"properties": {"hugepages_shared": value}} for value in ("true", "false"))
NIC = "interface 'vhostuser' (MAC '52:54:00:00:00:07', socket '/run/openvswitch/web')"
FILES_OF = "filesystem 'virtiofs' (target 'share')"

# id: [(file, what {} stands for, versions, further options)]
BROKEN = {
    "ondemand-hugepages": [("ondemand-hugepages", "'web'", NEW, {}),
                           ("ondemand-hugepages.near", "'web'", NEW,
                            {"properties": {"hugepages": "2048"}})],
    "anonymous-hugepages": [("anonymous-hugepages", "'web'", NEW, {})],
    "memfd-bare": [("memfd-bare", "'web'", NEW, {"mounts": MOUNT.format("1024M")}),
                   ("memfd-bare", "'web'", NEW, {"mounts": "none /tmp tmpfs rw 0 0\n"})],
    "memfd-old": [("memfd", "libvirt 5.2.999", (5002999, 7002000), {}),
                  ("memfd", "QEMU 2.11.2", (9000000, 2011002), {})],
    "memfd-unknown": [("memfd", "'web'", UNKNOWN, {}), ("memfd", "'web'", (0, 7002000), {})],
    "shared-without-cells": [("shared-without-cells", "libvirt 6.8.0", (6008000, 7002000), {}),
                             ("shared-without-cells", "QEMU 4.2.1", (0, 4002001), {}),
                             ("file-source.near", "QEMU 4.2.1", (0, 4002001),
                              {"properties": {"hugepages_shared": "true"}})],
    "file-source": [("file-source", "'web'", NEW, {})],
    "file-cell": [("file-cell", "guest cell 1", NEW, {})],
    "locked-limit": [("locked-limit", "63 MiB", NEW, {}), ("sev-limit", "63 MiB", NEW, {})],
    "locked-virtio-mem": [("locked-virtio-mem", "'web'", NEW, {})],
    "virtio-mem": [("virtio-mem", "'web'", NEW, {})],
    "virtio-mem-old": [("virtio-mem", "QEMU 6.2.0", (9000000, 6002000),
                        {"also": {"virtio-mem"}})],
    "free-page-reporting": [("free-page-reporting", "'web'", NEW, {})],
    "balloon": [("balloon", "'web'", NEW, {})],
    "sev-unlocked": [("sev-unlocked", "'web'", NEW, {})],
    "guest-memfd": [("guest-memfd", "TDX", NEW, {}), ("guest-memfd-snp", "SEV-SNP", NEW, {})],
    "s390-pv": [("s390-pv", "'web'", NEW, {"tree": "s390x.txt"})],
    "encryption-unknown": [("encryption-unknown", "'web'", NEW, {})],
    "discard-old": [("discard-old", "libvirt 4.3.0", (4003000, 0),
                     {"also": {"shared-without-cells"}})],
    "discard-without-effect": [("discard-without-effect", "private memory", NEW, {}),
                               ("discard-memfd", "memory from a memfd", NEW, {})],
    "blob-memfd": [("blob-memfd", "'web'", (9002000, 8000000), {}),
                   ("blob-memfd", "'web'", UNKNOWN, {})],
    "device-shares": [("device-shares", NIC, NEW, {}), ("device-virtiofs", FILES_OF, NEW, {})],
    "device-explicit": [("device-shares", NIC, NEW, {"conf": EXPLICIT}),
                        ("device-virtiofs", FILES_OF, NEW, {"conf": EXPLICIT})],
    "device-private": [
        ("device-private", f"{FILES_OF}, but guest cell 1 has memAccess='private'", NEW, {}),
        ("device-private", f"{FILES_OF}, but guest cell 1 has memAccess='private'", NEW,
         {"conf": EXPLICIT, "properties": {"hugepages_shared": "true"}}),
        ("device-private-dimm", f"{NIC}, but memory device 0 has access='private'", NEW, {})],
    "device-denied": [("device-shares", NIC, NEW, {"properties": {"hugepages_shared": "false"}}),
                      ("device-shares.near", NIC, NEW,
                       {"properties": {"hugepages_shared": "false"}})],
    "shared-private": [("shared-private", "memory device 0 has access='private'", NEW,
                        {"properties": {"hugepages_shared": "true"}})],
    "unshared-shared": [("unshared-shared", "the domain XML has <access mode='shared'/>", NEW,
                         {"properties": {"hugepages_shared": "false"}})],
    "device-pages-file-backed": [("dimm-pages", "memory device 0", NEW, IN_FILES)],
    "hugepages-file-backed": [("file-source.near", "'web'", NEW, IN_FILES)],
    "version-file-backed": [("plain", "libvirt 3.10.0", (3010000, 7002000),
                             {**IN_FILES, "also": {"discard-file-backed"}})],
    "source-file-backed": [("plain-memfd", "<source type='memfd'/>", NEW, IN_FILES),
                           ("plain-anonymous", "<source type='anonymous'/>", NEW, IN_FILES)],
    "ondemand-file-backed": [("plain-ondemand", "'web'", NEW, IN_FILES)],
    "private-file-backed": [("plain-private", "<access mode='private'/>", NEW, IN_FILES)],
    "private-property-file-backed": [("plain", "'web'", NEW, {**IN_FILES, **FALSE})],
    "encryption-file-backed": [("plain-sev", "'web'", NEW, IN_FILES)],
    "discard-file-backed": [
        ("plain", "nobody has said which versions start the VM", UNKNOWN, IN_FILES),
        ("plain", "this is libvirt 4.3.0", (4003000, 7002000), IN_FILES),
        ("plain", "this is QEMU 2.9.0", (9000000, 2009000), IN_FILES)],
}

# The same, without what it stands for: nothing at all is broken.
KEPT = {
    "ondemand-hugepages": [("ondemand-hugepages.near", NEW, {})],
    "anonymous-hugepages": [("anonymous-hugepages.near", NEW, {})],
    "memfd-bare": [("memfd-bare", NEW, {"mounts": MOUNT.format("2M")}),
                   ("memfd-bare.near", NEW, {"mounts": "none /tmp tmpfs rw 0 0\n"}),
                   ("memfd", NEW, {"mounts": MOUNT.format("1024M")})],
    "memfd-old": [("memfd", (5003000, 2012000), {"also": {"shared-without-cells"}})],
    "memfd-unknown": [("memfd", (9000000, 0), {}),
                      ("memfd", UNKNOWN, {"flags": BY_LIBVIRTD})],
    "shared-without-cells": [("shared-without-cells", (6009000, 5000000), {}),
                             ("shared-without-cells", UNKNOWN, {}),
                             ("file-source.near", (6008000, 4002000), {}),
                             ("shared-without-cells.near", (6008000, 4002000), {})],
    "file-source": [("file-source.near", NEW, {})],
    "file-cell": [("file-cell.near", NEW, {})],
    "locked-limit": [("locked-limit.near", NEW, {}), ("locked-limit.near-2", NEW, {})],
    "locked-virtio-mem": [("locked-virtio-mem.near", NEW, {})],
    "virtio-mem": [("virtio-mem.near", NEW, {})],
    "virtio-mem-old": [("virtio-mem", (9000000, 7000000), {"also": {"virtio-mem"}}),
                       ("virtio-mem", UNKNOWN, {"also": {"virtio-mem"}})],
    "free-page-reporting": [("free-page-reporting.near", NEW, {}),
                            ("free-page-reporting.near-2", NEW, {})],
    "balloon": [("balloon.near", NEW, {}), ("balloon.near-2", NEW, {}),
                ("balloon.near-3", NEW, {})],
    "sev-unlocked": [("sev-unlocked.near", NEW, {})],
    "guest-memfd": [("sev-unlocked.near", NEW, {})],
    "s390-pv": [("s390-pv.near", NEW, {"tree": "s390x.txt"})],
    "encryption-unknown": [("sev-unlocked.near", NEW, {})],
    "discard-old": [("discard-old", NEW, {}), ("discard-old", UNKNOWN, {})],
    "discard-without-effect": [("discard-old", NEW, {})],
    "blob-memfd": [("blob-memfd.near", NEW, {}), ("blob-memfd.near-2", NEW, {}),
                   ("blob-memfd", (9001999, 8000000), {})],
    "device-shares": [("device-shares.near", NEW, {}),
                      ("device-shares", NEW, {"properties": {"hugepages_shared": "true"}})],
    "device-explicit": [("device-shares.near", NEW, {"conf": EXPLICIT}),
                        ("device-shares", NEW, {"conf": EXPLICIT,
                                                "properties": {"hugepages_shared": "true"}})],
    "device-private": [("device-private.near", NEW, {})],
    "device-denied": [("device-shares.near", NEW, {"properties": {"hugepages_shared": "true"}})],
    "shared-private": [("shared-private", NEW, {"properties": {"hugepages_shared": "false"}})],
    "unshared-shared": [("unshared-shared", NEW, {"properties": {"hugepages_shared": "auto"}})],
    "device-pages-file-backed": [("dimm-pages", NEW, {})],
    "hugepages-file-backed": [("plain", NEW, IN_FILES)],
    "version-file-backed": [("plain", (4004000, 2010000), IN_FILES)],
    "source-file-backed": [("plain", NEW, IN_FILES)],
    "ondemand-file-backed": [("plain", NEW, IN_FILES)],
    "private-file-backed": [("plain", NEW, IN_FILES)],
    "private-property-file-backed": [("plain", NEW, {**IN_FILES, **TRUE})],
    "encryption-file-backed": [("plain", NEW, IN_FILES)],
    "discard-file-backed": [("plain", (4004000, 2010000), IN_FILES)],
}


def read_table():
    text = subprocess.run([sys.argv[4], "list"], check=True, capture_output=True, text=True).stdout
    keys = ("id", "effect", "code", "message", "hint")
    return {line.split("\t")[0]: dict(zip(keys, line.split("\t"))) for line in text.splitlines()}


TABLE = read_table()


def files_of(root):
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@functools.cache
def make_root(directory, tree, conf, mounts):
    """A host for all cases that want it so: none of them may change anything."""
    root = pathlib.Path(tempfile.mkdtemp(dir=directory))
    subprocess.run([MAKE_TREE, TREES / tree, root], check=True)
    (root / "srv/ram").mkdir(parents=True)
    files = {"etc/hugevm/hugevm.conf": "[performance]\nuse_dynamic_hugepages = true\n" + conf,
             "proc/self/mounts": mounts,
             f"proc/{os.getpid()}/stat": pathlib.Path("/proc/self/stat").read_text("ascii")}
    for path, text in files.items():
        if text is not None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    return root


class World:
    """A host, and what it says to the XML of a file."""

    def __init__(self, directory, name, versions, options):
        self.root = make_root(directory, options.get("tree", "one-node.txt"),
                              options.get("conf", ""), options.get("mounts"))
        self.path = FILES / f"{name}.xml"
        self.versions = versions
        self.properties = options.get("properties", {})
        self.flags = options.get("flags", 0)

    def plan(self):
        if self.flags != 0:  # for a host agent, not for a command
            return json.loads(self.host().plan(self.path.read_text(encoding="utf-8"),
                                               self.properties, self.flags).json)
        command = [HUGEVMCTL, "--root", self.root, "--json", "plan", self.path]
        for option, version in zip(("--libvirt-version", "--qemu-version"), self.versions):
            if version != 0:
                parts = (version // 1000000, version // 1000 % 1000, version % 1000)
                command += [option, "{}.{}.{}".format(*parts)]
        for one in self.properties.items():
            command += ["-p", "=".join(one)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode in (0, 1), run.stderr
        return json.loads(run.stdout)

    def host(self):
        host = Host(sys.argv[5], root=str(self.root))
        host.versions = self.versions
        return host

    def start(self):
        """What before_vm_start of the plugin says: the error, or None."""
        host = self.host()
        before = files_of(self.root)
        try:
            host.before_vm_start(self.path.read_text(encoding="utf-8"), self.properties)
        except HugevmError as error:
            after = files_of(self.root)
            assert after == before, f"it changed {set(after.items()) ^ set(before.items())}"
            return error
        finally:
            host.close()
        return None


def broken_rows(plan):
    """id: what {} stood for."""
    found = {}
    for row in TABLE.values():
        begin, end = row["message"].split("{}")
        if row["effect"] == "refuses":
            refusal = plan["refusal"] or {"agreement": None}
            if refusal["agreement"] == row["id"]:
                assert refusal["hint"] == row["hint"], refusal
                assert refusal["code"] == row["code"], refusal
                texts = [refusal["message"]]
            else:
                texts = []
        else:
            end = f"{end}: {row['hint']}" if row["hint"] else end
            texts = plan["warnings"]
        for text in texts:
            if text.startswith(begin) and text.endswith(end):
                found[row["id"]] = text[len(begin):len(text) - len(end)]
    return found


def check_broken(directory, row, case):
    name, stands_for, versions, options = case
    plan = World(directory, name, versions, options).plan()
    broken = broken_rows(plan)
    assert broken.get(row["id"]) == stands_for, f"{broken}: {plan['refusal']} {plan['warnings']}"
    assert set(broken) - {row["id"]} == options.get("also", set()), broken
    assert plan["need"] or options.get("conf") == IN_FILES["conf"], "no row is about normal pages"
    if row["effect"] == "warns":
        return
    error = World(directory, name, versions, options).start()
    assert error is not None, "before_vm_start lets it pass"
    assert (error.message, error.hint) == (plan["refusal"]["message"], row["hint"]), error


def check_kept(directory, case):
    name, versions, options = case
    plan = World(directory, name, versions, options).plan()
    assert set(broken_rows(plan)) == options.get("also", set()), plan
    assert plan["refusal"] is None or "also" in options, plan["refusal"]
    assert plan["need"] or options.get("conf") == IN_FILES["conf"], "no row is about normal pages"


def check_all_have_cases():
    assert set(BROKEN) == set(TABLE) == set(KEPT), set(TABLE) ^ set(BROKEN) | set(TABLE) ^ set(KEPT)
    used = {case[0] for cases in (*BROKEN.values(), *KEPT.values()) for case in cases}
    unused = {path.stem for path in FILES.glob("*.xml")} - used
    assert not unused, f"no case has {unused}"


def check_commands_without_libvirt(directory):
    """run --config-only and define --print are told the versions, as plan is."""
    world = World(directory, "memfd", NEW, {})
    old, new = "--libvirt-version=5.2.0", "--libvirt-version=9.0.0"
    for command in ("run", "--config-only"), ("define", "--print"):
        statuses = {}
        for version in (old, new):
            run = subprocess.run([HUGEVMCTL, "--root", world.root, *command, version, world.path],
                                 capture_output=True, text=True, check=False)
            statuses[version] = run.returncode
            assert ("5.2.0" in run.stderr) == (version == old), run.stderr
            assert "not known" not in run.stderr, run.stderr
        assert statuses == {old: 1, new: 0}, (command, statuses)
        for wrong in (command[0], old), (*command, "--qemu-version=seven"):
            run = subprocess.run([HUGEVMCTL, "--root", world.root, *wrong, world.path],
                                 capture_output=True, text=True, check=False)
            assert run.returncode == 2, (wrong, run.returncode, run.stderr)


def tests(directory):
    yield "each agreement has a case that breaks it, and one that does not", check_all_have_cases
    yield ("run --config-only and define --print know versions that they are told",
           lambda: check_commands_without_libvirt(directory))
    for name, row in TABLE.items():
        for case in BROKEN.get(name, []):
            yield (f"{name} is broken by {case[0]}.xml, {case[1]}",
                   lambda row=row, case=case: check_broken(directory, row, case))
        for case in KEPT.get(name, []):
            yield (f"{name} is kept by {case[0]}.xml, {case[1]}",
                   lambda case=case: check_kept(directory, case))


def main():
    count = failures = 0
    with tempfile.TemporaryDirectory(prefix="hugevm-agreements-") as directory:
        for name, check in tests(directory):
            count += 1
            try:
                check()
                print(f"ok {count} - {name}")
            except AssertionError as error:
                failures += 1
                print(f"not ok {count} - {name}\n# " + str(error).replace("\n", "\n# "))
    print(f"1..{count}")
    return 1 if failures else 0


sys.exit(main())
