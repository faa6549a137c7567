#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevmctl verify on fixture trees: whom its operand means, where memory is, exit status.

usage: test-verify.py HUGEVMCTL MAKE-TREE TREES
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

DONE, REFUSED, USAGE, SYSTEM = cases.DONE, cases.REFUSED, cases.USAGE, cases.SYSTEM
UUID = cases.UUID
OTHER = "11111111-1111-4111-8111-111111111111"
QEMU = 4712
M2, G1 = 2048, 1048576


def need(nodes, pages, size_kib=M2):
    return {"nodes": nodes, "size_kib": size_kib, "pages": pages}


def claim(needs, uuid=UUID, name="web", state="running", qemu=(QEMU, 6), generation=3):
    return {"uuid": uuid, "name": name, "generation": generation, "state": state,
            "owner_name": "agent", "owner": {"pid": 4711, "start_ticks": 5},
            "qemu": {"pid": qemu[0], "start_ticks": qemu[1]}, "shared": False,
            "from_hugetlbfs": True, "may_hand_over": False, "is_handed_over": False, "files": [],
            "needs": needs}


class VerifyCase(cases.HostCase):
    tree = "four-nodes.txt"

    def setUp(self):
        super().setUp()
        self.process(4711, 5)

    def process(self, pid, start, uuid=None, huge_kib=M2):
        directory = self.root / f"proc/{pid}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "stat").write_text(f"{pid} (qemu) S" + " 0" * 18 + f" {start} 0\n")
        (directory / "status").write_text(f"Name:\tqemu\nUid:\t64055\t0\nHugetlbPages:\t{huge_kib} kB\n")
        words = ("qemu", "-uuid", uuid) if uuid else ("db",)
        (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))

    def ledger(self, *claims):
        path = self.root / "run/hugevm"
        path.mkdir(mode=0o755, exist_ok=True)
        (path / "ledger.json").write_text(json.dumps({
            "format": 1, "boot_id": "0b6b6e4c-0000-4000-8000-000000000001", "last_generation": 9,
            "handover_failed": False, "grown": [], "intents": [], "claims": list(claims)}))

    def qemu(self, *mappings, pid=QEMU, start=6):
        """A QEMU; mappings: (KiB of the page, pages mapped, {node: pages touched})."""
        self.process(pid, start, UUID)
        numa, smaps = [], []
        for number, (size_kib, pages, touched) in enumerate(mappings, 1):
            at = number << 40
            huge = size_kib > 4
            line = f"{at:x} bind:0-3" + (f" file=/dev/hugepages/libvirt/qemu/ram{number} huge"
                                         if huge else "")
            line += "".join(f" N{node}={count}" for node, count in touched.items())
            numa.append(line + (f" kernelpagesize_kB={size_kib}" if touched else ""))
            there = sum(touched.values()) * size_kib
            smaps.append(
                f"{at:x}-{at + pages * size_kib * 1024:x} rw-s 00000000 00:11 {number}\n"
                f"Size: {pages * size_kib} kB\nKernelPageSize: {size_kib} kB\n"
                f"Rss: {0 if huge else there} kB\nAnonHugePages: {0 if huge else there // 2} kB\n"
                f"Shared_Hugetlb: {there if huge else 0} kB\nPrivate_Hugetlb: 0 kB\n"
                f"VmFlags: rd wr sh{' ht' if huge else ''}")
        directory = self.root / f"proc/{pid}"
        (directory / "numa_maps").write_text("".join(f"{line}\n" for line in numa))
        (directory / "smaps").write_text("".join(f"{line}\n" for line in smaps))

    def verify(self, target=UUID, status=DONE):
        return self.json_of("verify", target, status=status)

    def texts(self, **options):
        return [row["text"] for row in self.verify(**options)["plan"]]


class Placement(VerifyCase):
    """Two cells of different size, on nodes 0 and 1."""

    def setUp(self):
        super().setUp()
        self.ledger(claim([need("0", 512), need("1", 256)]))

    def test_vm_on_its_nodes_is_as_planned(self):
        self.qemu((M2, 512, {0: 512}), (M2, 256, {1: 256}))
        report = self.verify()
        self.assertEqual(report["vm"], {"uuid": UUID, "name": "web"})
        self.assertEqual((report["pid"], report["as_planned"]), (QEMU, True))
        self.assertEqual(report["pages"], [{"node": 0, "size_kib": M2, "pages": 512},
                                           {"node": 1, "size_kib": M2, "pages": 256}])
        self.assertEqual([row["text"] for row in report["plan"]],
                         ["node 0: 512 x 2 MiB, as planned", "node 1: 256 x 2 MiB, as planned"])
        result = self.run_ctl("verify", UUID)
        self.assertEqual((result.returncode, result.stderr), (DONE, ""))
        self.assertIn("node 0: 512 x 2 MiB, as planned\nnode 1: 256", result.stdout)

    def test_cell_on_the_wrong_node_is_refused_with_both_nodes(self):
        self.qemu((M2, 512, {0: 512}), (M2, 256, {0: 256}))
        row = self.verify(status=REFUSED)["plan"][1]
        self.assertEqual((row["node"], row["planned"], row["present"], row["missing"]),
                         (1, 256, 0, 0))
        self.assertEqual(row["elsewhere"], [{"node": 0, "size_kib": M2, "pages": 256}])
        for args in ((), ("--json",)):
            result = self.run_ctl(*args, "verify", "web")
            self.assertEqual(result.returncode, REFUSED)
            self.assertIn("memory of VM 'web' " + UUID, result.stderr)
            self.assertIn("node 1: 0 of 256 x 2 MiB planned; they are on node 0", result.stderr)
            self.assertNotIn("node 0: 512", result.stderr)
            self.assertIn("what to do:", result.stderr)

    def test_untouched_pages_are_no_missing_ones(self):
        self.qemu((M2, 512, {0: 500}), (M2, 256, {}))
        report = self.verify()
        self.assertIs(report["as_planned"], True)
        self.assertEqual(report["mapped"], [{"size_kib": M2, "pages": 768, "untouched": 268}])
        self.assertEqual([row["text"] for row in report["plan"]],
                         ["node 0: 500 of 512 x 2 MiB planned; 12 not touched yet",
                          "node 1: 0 of 256 x 2 MiB planned; 256 not touched yet"])
        self.assertIn("268 x 2 MiB not touched yet", self.run_ctl("verify", UUID).stdout)

    def test_cell_on_normal_pages_is_missing_and_told(self):
        self.qemu((M2, 512, {0: 512}), (4, 131072, {1: 100000, 2: 4000}))
        report = self.verify(status=REFUSED)
        self.assertEqual([row["text"] for row in report["plan"]],
                         ["node 0: 512 x 2 MiB, as planned",
                          "node 1: 0 of 256 x 2 MiB planned; 256 missing"])
        self.assertEqual(report["normal"], {
            "mapped_kib": 524288, "present_kib": 416000, "transparent_kib": 208000,
            "pages": [{"node": 1, "size_kib": 4, "pages": 100000},
                      {"node": 2, "size_kib": 4, "pages": 4000}]})
        result = self.run_ctl("verify", UUID)
        self.assertIn("not on huge pages: 406 of 512 MiB in large mappings, 203 MiB of it "
                      "transparent huge pages; 390 MiB on node 1, 15 MiB on node 2", result.stdout)
        self.assertIn("domain XML that hugevm has given back", result.stderr)

    def test_vm_that_is_still_starting_is_to_be_looked_at_again(self):
        self.ledger(claim([need("0", 512), need("1", 256)], state="mounted", qemu=(0, 0)))
        self.qemu((M2, 512, {0: 300}))
        result = self.run_ctl("verify", UUID)
        self.assertEqual(result.returncode, REFUSED)
        self.assertIn("(mounted)", result.stdout)
        self.assertIn("look again when it has started", result.stderr)

    def test_two_page_sizes_are_told_apart(self):
        self.ledger(claim([need("0", 2, G1), need("0", 10), need("3", 1, G1)]))
        self.qemu((G1, 2, {0: 2}), (M2, 10, {0: 10}), (G1, 1, {3: 1}))
        self.assertEqual(self.texts(), ["node 0: 10 x 2 MiB, as planned",
                                        "node 0: 2 x 1 GiB, as planned",
                                        "node 3: 1 x 1 GiB, as planned"])

    def test_several_nodes_and_floating_needs_are_sums(self):
        self.ledger(claim([need("any", 20), need("0-1", 20)]))
        self.qemu((M2, 40, {0: 1, 1: 19, 3: 20}))
        rows = self.verify()["plan"]
        self.assertEqual([(row["node"], row.get("nodes")) for row in rows],
                         [(None, "0-1"), (None, None)])
        self.assertEqual([row["text"] for row in rows], ["nodes 0-1: 20 x 2 MiB, as planned",
                                                         "any node: 20 x 2 MiB, as planned"])

    def test_more_than_planned_is_told_and_no_fault(self):
        self.qemu((M2, 512, {0: 512}), (M2, 256, {1: 256}), (M2, 3, {2: 3}))
        self.assertEqual(self.verify()["unplanned"], [{"node": 2, "size_kib": M2, "pages": 3}])
        self.assertIn("node 2: 3 x 2 MiB more than planned", self.run_ctl("verify", UUID).stdout)

    def test_verify_leaves_no_trace(self):
        self.qemu((M2, 512, {0: 512}))
        before = self.files()
        self.verify(status=REFUSED)
        self.run_ctl("verify", "web")
        self.assertEqual(self.files(), before)


class OneNode(VerifyCase):
    tree = "no-numa.txt"

    def test_without_numa_all_is_on_the_only_node(self):
        self.ledger(claim([need("0", 8)]))
        self.qemu((M2, 8, {0: 8}))
        (self.root / f"proc/{QEMU}/numa_maps").unlink()
        self.assertEqual(self.verify()["pages"], [{"node": 0, "size_kib": M2, "pages": 8}])

    def test_numa_maps_alone_is_enough(self):
        self.ledger(claim([need("0", 8)]))
        self.qemu((M2, 8, {0: 8}))
        (self.root / f"proc/{QEMU}/smaps").unlink()
        self.assertEqual(self.texts(), ["node 0: 8 x 2 MiB, as planned"])


class Target(VerifyCase):
    def setUp(self):
        super().setUp()
        self.ledger(claim([need("1", 8)]))
        self.qemu((M2, 8, {1: 8}))

    def refused(self, target, *parts, status=SYSTEM):
        result = self.run_ctl("verify", target)
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_uuid_name_and_process_mean_the_same_vm(self):
        for target in (UUID, UUID.upper(), UUID.replace("-", ""), "web", QEMU):
            with self.subTest(target=target):
                report = self.verify(target)
                self.assertEqual((report["vm"]["uuid"], report["pid"]), (UUID, QEMU))
                self.assertIs(report["as_planned"], True)

    def test_process_without_claim_is_reported_without_verdict(self):
        self.ledger()
        report = self.verify(QEMU)
        self.assertEqual(report["vm"], {"uuid": None, "name": None})
        self.assertEqual((report["as_planned"], report["plan"]), (None, []))
        self.assertEqual(report["pages"], [{"node": 1, "size_kib": M2, "pages": 8}])
        self.assertIn(f"process {QEMU}, no VM with a claim", self.run_ctl("verify", QEMU).stdout)

    def test_without_any_ledger_a_process_is_reported(self):
        (self.root / "run/hugevm/ledger.json").unlink()
        (self.root / "run/hugevm").rmdir()
        self.assertIsNone(self.verify(QEMU)["as_planned"])
        self.assertFalse((self.root / "run/hugevm").exists())

    def test_vm_without_claim_is_found_by_its_uuid(self):
        self.ledger()
        self.assertEqual(self.verify(UUID)["pid"], QEMU)

    def test_process_number_that_is_used_again_has_no_claim(self):
        self.process(QEMU, 7)
        self.assertIsNone(self.verify(QEMU)["as_planned"])
        self.refused(UUID, "process 4712, has ended", "hugevmctl audit")

    def test_qemu_that_the_ledger_does_not_know_yet_is_found(self):
        self.ledger(claim([need("1", 8)], state="mounted", qemu=(0, 0)))
        for target in (UUID, "web", QEMU):
            self.assertIs(self.verify(target)["as_planned"], True)

    def test_vm_that_has_no_qemu_yet_is_told(self):
        self.ledger(claim([need("1", 8)], uuid=OTHER, state="guarded", qemu=(0, 0)))
        self.refused(OTHER, "is guarded", "no QEMU yet")

    def test_vm_whose_memory_only_others_hold_does_not_run(self):
        self.ledger(claim([need("1", 8)], uuid=OTHER, state="draining"))
        self.refused(OTHER, "does not run")
        self.refused("web", "no VM called 'web'")

    def test_name_of_several_vms_is_refused_with_their_uuids(self):
        self.ledger(claim([need("1", 8)]),
                    claim([need("1", 8)], uuid=OTHER, qemu=(4711, 5), generation=4))
        self.refused("web", UUID, OTHER, "by its UUID")
        self.assertIs(self.verify(UUID)["as_planned"], True)

    def test_what_is_not_there_is_a_system_error(self):
        self.refused("999999", "no process 999999")
        self.refused("99999999999", "no process 99999999999")
        self.refused("0", "no process 0")
        self.refused(OTHER, OTHER, "hugevmctl claims")
        self.refused("\x1b[31m", "'\\x1b[31m'")

    def test_process_of_another_user_needs_root(self):
        (self.root / f"proc/{QEMU}/numa_maps").chmod(0)
        command = shutil.copy(cases.HUGEVMCTL, self.root)
        for path in (pathlib.Path(self.directory.name), self.root):
            path.chmod(0o755)
        somebody = {"user": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        result = subprocess.run([command, "--root", self.root, "verify", UUID],
                                capture_output=True, text=True, check=False, **somebody)
        self.assertEqual((result.returncode, result.stdout), (SYSTEM, ""))
        for part in (f"proc/{QEMU}/numa_maps: Permission denied", "run it as root"):
            self.assertIn(part, result.stderr)

    def test_numa_maps_that_means_nothing_is_a_system_error(self):
        (self.root / f"proc/{QEMU}/numa_maps").write_text("7f00 default huge N0=many\n")
        self.refused(UUID, f"/proc/{QEMU}/numa_maps")

    def test_damaged_ledger_is_a_system_error(self):
        (self.root / "run/hugevm/ledger.json").write_text("{")
        self.refused(UUID, "ledger")

    def test_misuse_is_told_with_status_2(self):
        for args in ((), ("a", "b"), ("--fly", "a")):
            result = self.run_ctl("verify", *args)
            self.assertEqual((result.returncode, result.stdout), (USAGE, ""))


def main():
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(case)
        for case in (Placement, OneNode, Target))
    print(f"1..{suite.countTestCases()}")
    result = cases.TapResult()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
