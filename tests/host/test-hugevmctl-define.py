#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`hugevmctl define` and `set` as far as they go without a libvirt.

usage: test-hugevmctl-define.py HUGEVMCTL MAKE-TREE TREES (TAP)
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

DONE, REFUSED, USAGE, SYSTEM = range(4)
NOWHERE = "qemu+unix:///system?socket=/nonexistent/socket"
XML = """<domain type='kvm'>
  <name>caf\u00e9</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
</domain>
"""


class Wrong(AssertionError):
    pass


class Ctl:
    def __init__(self, path, root):
        self.path, self.root = path, root
        self.xml = pathlib.Path(root, "vm.xml")
        self.xml.write_text(XML, encoding="utf-8")

    def run(self, status, *args, stdin=""):
        run = subprocess.run([self.path, "--root", self.root, *map(str, args)], input=stdin,
                             capture_output=True, text=True, check=False, encoding="utf-8")
        if run.returncode != status:
            raise Wrong(f"{args}: status {run.returncode}, not {status}: {run.stderr}")
        return run

    def fails(self, status, parts, *args, **options):
        run = self.run(status, *args, **options)
        for part in parts:
            if part not in run.stderr:
                raise Wrong(f"{args}: no {part!r} in {run.stderr}")
        if run.stdout:
            raise Wrong(f"{args}: prints {run.stdout}")


def check_usage(ctl):
    for args in (["define"], ["define", "a", "b"], ["set"], ["set", "vm"], ["set", "--print", "vm"],
                 ["set", "vm", "hugepages=2M", "-c"]):
        ctl.fails(USAGE, ["Try: hugevmctl"], *args)
    for word, parts in (("2M", "no KEY=VALUE"), ("pages=2M", "no VM property"),
                        ("=2M", "no VM property")):
        ctl.fails(USAGE, [parts, "hugepages=SIZE"], "set", "vm", word)
        ctl.fails(USAGE, [parts], "define", ctl.xml, "-p", word)
    ctl.fails(USAGE, ["given twice"], "set", "vm", "shared=true", "hugepages_shared=true")


def check_bad_values(ctl):
    """Before any libvirt is asked."""
    for word in ("hugepages=2.5M", "hugepages=\x1b[2J", "shared=perhaps"):
        ctl.fails(REFUSED, ["has the value"], "set", "vm", word, "-c", NOWHERE)
        ctl.fails(REFUSED, ["has the value"], "define", ctl.xml, "-p", word, "-c", NOWHERE)
    ctl.fails(REFUSED, ["not well-formed"], "define", "-", "-c", NOWHERE, stdin="<domain>")
    ctl.fails(SYSTEM, ["cannot read"], "define", "/nonexistent/vm.xml")


def check_no_libvirt(ctl):
    for args in (["set", "vm", "hugepages=2M"], ["define", ctl.xml, "-p", "hugepages=2M"]):
        ctl.fails(SYSTEM, ["cannot connect to libvirt"], *args, "-c", NOWHERE)
        for uri in ("qemu+ssh://other/system", "test:///default", "nonsense"):
            ctl.fails(USAGE, ["--connect", uri], *args, "-c", uri)


def check_print(ctl):
    words = ["-p", "hugepages=2M", "-p", "shared=true"]
    run = ctl.run(DONE, "define", "--print", ctl.xml, *words)
    start, end = XML.split("  <memory ")
    if not run.stdout.startswith(start) or not run.stdout.endswith(end.split("\n", 1)[1]):
        raise Wrong(f"more than was asked: {run.stdout}")
    found = json.loads(ctl.run(DONE, "--json", "define", "--print", "-", *words, stdin=XML).stdout)
    if found["xml"] != run.stdout or found["defined"] or found["vm"]["name"] != "caf\u00e9":
        raise Wrong(f"{found}")
    again = ctl.run(DONE, "define", "--print", "-", *words, stdin=run.stdout)
    if again.stdout != run.stdout:
        raise Wrong(f"a second time: {again.stdout}")
    off = ctl.run(DONE, "define", "--print", "-", "-p", "hugepages=off", "-p", "shared=auto",
                  stdin=run.stdout)
    if off.stdout != XML:
        raise Wrong(f"taken out: {off.stdout}")


def check_without_the_object(ctl):
    """A hugevmctl whose libvirt part is not there says so, and prints all the same."""
    alone = shutil.copy(ctl.path, ctl.root)
    other = Ctl(alone, ctl.root)
    if "cannot load the agent" in subprocess.run(
            [alone, "set", "vm", "hugepages=2M", "-c", NOWHERE], capture_output=True, text=True,
            check=False).stderr:
        other.fails(SYSTEM, ["install libvirt's client library"], "set", "vm", "hugepages=2M")
    other.run(DONE, "define", "--print", other.xml, "-p", "hugepages=2M")
    needed = subprocess.run(["ldd", alone], capture_output=True, text=True, check=True).stdout
    if "libvirt" in needed:
        raise Wrong(f"hugevmctl links libvirt: {needed}")


def main(path, make_tree, trees):
    checks = [
        ("misuse is told with status 2", check_usage),
        ("bad values and bad XML are refused before libvirt is asked", check_bad_values),
        ("without libvirt, and with another host's, nothing is done", check_no_libvirt),
        ("--print shows what would be defined, and it can be taken back", check_print),
        ("hugevmctl alone does without libvirt", check_without_the_object),
    ]
    print(f"1..{len(checks)}")
    for number, (name, check) in enumerate(checks, 1):
        problem = None
        with tempfile.TemporaryDirectory(prefix="hugevm-define-") as root:
            subprocess.run([make_tree, pathlib.Path(trees, "one-node.txt"), root], check=True)
            try:
                check(Ctl(path, root))
            except Wrong as error:
                problem = str(error)
        for line in (problem or "").splitlines():
            print("#", line.encode("ascii", "backslashreplace").decode())
        print(f"{'not ok' if problem else 'ok'} {number} - {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
