#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevmctl beside programs that pages are reserved for by name, on fixture trees.

usage: test-hugevmctl-reserved.py HUGEVMCTL MAKE-TREE TREES
"""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

spec = importlib.util.spec_from_file_location(
    "hugevmctl_cases", pathlib.Path(__file__).with_name("test-hugevmctl.py"))
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

DONE, REFUSED = cases.DONE, cases.REFUSED
RESERVED = "[hugevm]\nreserved = ovs=size:2M,count:30,node:0\n"
NOBODY = ("pages of 2 MiB reserved for ovs, 0 of 30 in use: no program called ovs runs as a user of "
          "the system's (uid below 1000, or 60000 to 64999)")
OVS = 4700
BOOT = "0b6b6e4c-0000-4000-8000-000000000001"
UUID = "00000000-0000-0000-0000-0000000000b1"


class ReservedCase(cases.HostCase):
    """100 pages of 2 MiB on node 0, of which 60 are free, and 3 of these promised."""

    def setUp(self):
        super().setUp()
        self.configure(RESERVED)

    def ovs(self, pages, guest=0, name="rtemap", inode=4242):
        """Open vSwitch with so many pages of its own, and a guest's."""
        directory = self.root / f"proc/{OVS}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        (directory / "exe").symlink_to("/usr/lib/openvswitch/ovs-vswitchd-dpdk")
        (directory / "comm").write_text("ovs-vswitchd-dp\n")
        (directory / "status").write_text("Name:\tovs\nUid:\t0\t0\t0\t0\n"
                                          f"HugetlbPages:\t{2048 * (pages + guest)} kB\n")
        maps = [f"{i:x}00000000-{i:x}00200000 rw-s 00000000 00:2d {i} /dev/hugepages/{name}_{i}"
                for i in range(1, pages + 1)]
        numa = [f"{i:x}00000000 default file=/dev/hugepages/{name}_{i} huge dirty=1 N0=1 "
                "kernelpagesize_kB=2048" for i in range(1, pages + 1)]
        maps.append(f"7f0000000000-7f0080000000 rw-s 00000000 00:30 {inode} /guest (deleted)")
        if guest:
            numa.append(f"7f0000000000 default file=/guest huge N0={guest} kernelpagesize_kB=2048")
        (directory / "maps").write_text("\n".join(maps) + "\n")
        (directory / "numa_maps").write_text("\n".join(numa) + "\n")

    def draining_vm(self, pages, inode):
        """A VM that is gone, but whose memory somebody maps."""
        claim = {"uuid": UUID, "name": "web", "generation": 1, "state": "draining",
                 "owner_name": "agent", "owner": {"pid": 1, "start_ticks": 1},
                 "qemu": {"pid": 0, "start_ticks": 0}, "shared": True, "from_hugetlbfs": True,
                 "may_hand_over": False, "is_handed_over": False,
                 "files": [{"major": 0, "minor": 0x30, "inode": inode}],
                 "needs": [{"nodes": "0", "size_kib": 2048, "pages": pages}]}
        path = self.root / "run/hugevm"
        path.mkdir(mode=0o755)
        for name in ("ledger.json", "ledger.copy.json"):
            (path / name).write_text(json.dumps({
                "format": 1, "boot_id": BOOT, "last_generation": 1, "handover_failed": False,
                "grown": [], "intents": [], "claims": [claim]}))

    def row(self):
        row, = self.json_of("status")["reserved"]
        return row

    def available(self):
        return self.json_of("status")["pools"][0]["available"]


class Status(ReservedCase):
    def test_row_per_named_reservation(self):
        self.configure("[hugevm]\nreserved =\n  ovs=size:2M,count:30,node:0\n"
                       "  size:2M,count:1\n  db=size:1G,count:1,process:postgres\n")
        self.ovs(12)
        self.assertEqual(self.json_of("status")["reserved"], [
            {"name": "ovs", "process": "ovs", "node": 0, "size_kib": 2048, "count": 30, "used": 12,
             "unused": 18, "holders": [{"pid": OVS, "comm": "ovs-vswitchd-dp", "pages": 12}]},
            {"name": "db", "process": "postgres", "node": None, "size_kib": 1048576, "count": 1,
             "used": 0, "unused": 1, "holders": []}])

    def test_text_names_who_has_them(self):
        self.ovs(12)
        self.assertIn("2 MiB: reserved for ovs, 12 of 30 in use: process 4700 'ovs-vswitchd-dp' "
                      "has 12\n", self.run_ctl("status").stdout)

    def test_text_without_anybody(self):
        self.assertIn("2 MiB: reserved for ovs, 0 of 30 in use\n", self.run_ctl("status").stdout)

    def test_what_others_use_takes_nothing_off(self):
        self.assertEqual(self.available(), 60 - 3 - 30 + 1)

    def test_what_it_uses_is_taken_off(self):
        self.ovs(12)
        self.assertEqual(self.available(), 60 - 3 - 18 + 1)

    def test_guests_memory_is_not_the_switchs(self):
        self.draining_vm(28, 4242)
        self.ovs(12, guest=28)
        self.assertEqual((self.row()["used"], self.row()["holders"][0]["pages"]), (12, 12))

    def test_more_than_reserved_is_shown_with_its_holder(self):
        self.ovs(35)
        row = self.row()
        self.assertEqual((row["used"], row["unused"], row["holders"][0]["pages"]), (30, 0, 35))

    @unittest.skipUnless(os.geteuid() == 0, "it takes root to become another user")
    def test_ordinary_user_is_told_that_he_cannot_see_it(self):
        self.ovs(12)
        for name in ("maps", "numa_maps"):
            (self.root / f"proc/{OVS}/{name}").chmod(0)
        command = shutil.copy(cases.HUGEVMCTL, self.root)
        for path in (pathlib.Path(self.directory.name), self.root):
            path.chmod(0o755)
        result = subprocess.run([command, "--root", self.root, "status"], capture_output=True,
                                text=True, check=False, user=65534, extra_groups=[])
        self.assertEqual(result.returncode, DONE, result.stderr)
        self.assertIn("0 of 30 in use: process 4700 'ovs-vswitchd-dp' is another user's",
                      result.stdout)


class Plan(ReservedCase):
    def refusal(self, memory_mib):
        return self.plan(cases.domain(memory_mib), status=REFUSED)["refusal"]["message"]

    def test_refusal_says_for_whom_and_how_much_of_it_is_in_use(self):
        self.ovs(12)
        message = self.refusal(100)
        self.assertIn("18 reserved by configuration; reserved for ovs, 12 of 30 in use", message)
        self.assertIn("40 available", message)

    def test_vm_that_fits_beside_it_is_allowed(self):
        self.ovs(12)
        self.assertIsNone(self.plan(cases.domain(80))["refusal"])
        self.assertIn("41 pages", self.refusal(82))

    def test_refusal_while_it_restarts(self):
        self.assertIn("30 reserved by configuration; reserved for ovs, 0 of 30 in use",
                      self.refusal(100))

    def test_pages_that_the_hint_adds_are_enough(self):
        self.configure(RESERVED.replace("count:30", "count:70"))
        hint = self.plan(cases.domain(100), status=REFUSED)["refusal"]["hint"]
        self.assertIn("or add 62 pages", hint)  # 49, and 13 that lack for what is reserved
        pool = self.root / "sys/devices/system/node/node0/hugepages/hugepages-2048kB"
        for name, pages in ("nr_hugepages", 100), ("free_hugepages", 60):
            (pool / name).write_text(f"{pages + 62}\n")
        self.assertIsNone(self.plan(cases.domain(100))["refusal"])
        self.assertIn("51 pages", self.refusal(102))

    def test_long_lists_are_cut(self):
        self.configure("[hugevm]\nreserved =\n" + "".join(
            f"  name{i}=size:2M,count:1\n" for i in range(5)))
        message = self.refusal(200)
        self.assertIn("reserved for name2, 0 of 1 in use; and 2 more", message)

    def test_table_has_the_names(self):
        table = self.plan(cases.domain(20))["table"]
        self.assertEqual([row["reserved_for"] for row in table if row["node"] == 0], [["ovs"]])
        result = self.run_ctl("plan", "-", stdin=cases.domain(200))
        self.assertIn("  reserved for 'ovs'", result.stdout)

    def test_nodes_are_named_where_there_are_several(self):
        self.make("four-nodes.txt")
        self.configure("[hugevm]\nreserved =\n  ovs=size:2M,count:3,node:1\n  db=size:2M,count:1\n")
        message = self.refusal(100 * 1024)
        self.assertIn("; reserved for ovs on node 1, 0 of 3 in use; reserved for db, 0 of 1",
                      message)


class Audit(ReservedCase):
    def test_user_of_pages_is_told_with_his_reservation(self):
        self.ovs(12)
        finding, = self.json_of("audit")["findings"]
        self.assertEqual(finding["kind"], "foreign-use")
        self.assertTrue(finding["text"].endswith("is no VM; reserved for ovs"), finding["text"])


class Doctor(ReservedCase):
    def notes(self):
        result = self.run_ctl("--json", "doctor")
        return [row["text"] for row in json.loads(result.stdout)["checks"]
                if row["check"] == "reserve" and row["level"] == "note"]

    def test_program_that_has_its_pages_is_fine(self):
        self.ovs(12)
        self.assertEqual(self.notes(), [])

    def test_program_that_does_not_run(self):
        self.assertEqual(self.notes(), [NOBODY])

    def test_program_of_an_ordinary_user_is_not_meant(self):
        self.ovs(12)
        status = self.root / f"proc/{OVS}/status"
        status.write_text(status.read_text().replace("Uid:\t0", "Uid:\t1000"))
        self.assertEqual(self.notes(), [NOBODY])

    def test_program_that_runs_and_has_none(self):
        self.ovs(0)
        self.assertEqual(self.notes(), ["pages of 2 MiB reserved for ovs, 0 of 30 in use, although "
                                        "process 4700 'ovs-vswitchd-dp' runs"])

    def test_program_that_has_more(self):
        self.ovs(35)
        self.assertEqual(self.notes(), ["programs called ovs have 35 pages of 2 MiB, and 30 are "
                                        "reserved: VMs may take the others while they restart"])

    def left_files(self, mapped):
        self.ovs(1, name="other" if not mapped else "rtemap")
        directory = self.root / "dev/hugepages"
        directory.mkdir(parents=True)
        for name in ("rtemap_0", "rtemap_11", "notmap_x", "map"):
            (directory / name).write_bytes(bytes(4 << 20))
        (self.root / "proc/self").mkdir(exist_ok=True)
        (self.root / "proc/self/mounts").write_text(
            "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n")
        if mapped:
            file = (directory / "rtemap_0").stat()
            device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
            with open(self.root / f"proc/{OVS}/maps", "a", encoding="ascii") as maps:
                maps.write(f"7f1000000000-7f1000400000 rw-s 00000000 {device} {file.st_ino} /r\n")

    @unittest.skipUnless(os.geteuid() == 0, "it takes root to see what all processes map")
    def test_files_that_dpdk_has_left(self):
        self.left_files(mapped=False)
        self.assertEqual(self.notes(), [
            "4 pages of 2 MiB are in files that nobody maps, 2 in '/dev/hugepages' as 'rtemap_0', "
            "as DPDK leaves them when it is killed: they count as used by others"])

    def test_files_that_somebody_maps_are_not_left(self):
        self.left_files(mapped=True)
        self.assertEqual(self.notes(), [])


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    print(f"1..{suite.countTestCases()}")
    result = cases.TapResult()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
