#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VDSM's figures put right: what is changed, and that nothing else is.

usage: test-vdsm-report.py EDIT-REPORT
"""

import copy
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vdsm"))

import tap  # noqa: E402

PROGRAM = sys.argv[1]
M2, G1 = "2048", "1048576"

# as hugevm's module writes them; other keys are there too
FIGURES = {
    "version": 1, "enabled": True,
    "pools": [{"node": 0, "size_kib": 2048, "total": 10, "free": 8, "available": 5, "allocatable": 7},
              {"node": 0, "size_kib": 1048576, "total": 2, "available": 0, "allocatable": 1},
              {"node": 1, "size_kib": 2048, "total": 20, "available": 9, "allocatable": 11},
              {"node": 1, "size_kib": 1048576, "total": 3, "available": 2, "allocatable": 2}],
    "sizes": [{"size_kib": 2048, "total": 30, "available": 14, "allocatable": 18},
              {"size_kib": 1048576, "total": 5, "available": 2, "allocatable": 3}],
    "warnings": ["\u202e { [ \" \\ "],
}

# the shape and the types of VDSM 4.5's
STATS = {
    "memShared": 0, "cpuIdle": "99.87", "elapsedTime": "1e3",
    "hugepages": {
        size: {"resv_hugepages": 0, "free_hugepages": 30, "nr_overcommit_hugepages": 0,
               "surplus_hugepages": 0, "vm.free_hugepages": 30, "nr_hugepages": 30,
               "nr_hugepages_mempolicy": 30} for size in (M2, G1)},
    "numaNodeMemFree": {
        node: {"memPercent": 3, "memFree": "61210",
               "hugepages": {"4": {"freePages": 15669000}, M2: {"freePages": 30},
                             G1: {"freePages": 30}}} for node in "01"},
    "vmStats": {"name": "wéb \u2028 {\"hugepages\": 1}"},
}
CAPS = {
    "hugepages": [2048, 1048576],
    "numaNodes": {
        node: {"cpus": [0, 1], "totalMemory": "64000",
               "hugepages": {"4": {"totalPages": "16000000"}, M2: {"totalPages": "0"},
                             G1: {"totalPages": "0"}}} for node in "01"},
    "kvmEnabled": "true",
}


def expected_stats(document):
    wanted = copy.deepcopy(document)
    for row in FIGURES["sizes"]:
        wanted["hugepages"][str(row["size_kib"])]["vm.free_hugepages"] = row["allocatable"]
    for row in FIGURES["pools"]:
        node = wanted["numaNodeMemFree"][str(row["node"])]
        node["hugepages"][str(row["size_kib"])]["freePages"] = row["allocatable"]
    return wanted


def expected_caps(document):
    wanted = copy.deepcopy(document)
    for row in FIGURES["pools"]:
        pages = wanted["numaNodes"][str(row["node"])]["hugepages"][str(row["size_kib"])]
        pages["totalPages"] = str(row["total"])
    return wanted


class ReportCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="hugevm-report-")
        self.addCleanup(directory.cleanup)
        self.top = pathlib.Path(directory.name)

    def run_edit(self, which, document, figures=None):
        """The document as it comes out, and what is said."""
        text = document if isinstance(document, bytes) else document.encode()
        (self.top / "figures").write_text(figures or json.dumps(FIGURES, indent=1))
        (self.top / "document").write_bytes(text)
        done = subprocess.run([PROGRAM, which, self.top / "figures", self.top / "document"],
                              capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 0)
        return done.stdout, done.stderr.decode()

    def becomes(self, which, document, wanted):
        found, said = self.run_edit(which, document)
        self.assertEqual((found, said), (wanted.encode(), ""))

    def stays(self, which, document, *parts):
        found, said = self.run_edit(which, document)
        self.assertEqual(found, document if isinstance(document, bytes) else document.encode())
        self.assertEqual(said.count("\n"), 1, said)
        for part in parts:
            self.assertIn(part, said)


class Figures(ReportCase):
    def test_stats_have_what_a_vm_could_have(self):
        self.becomes("stats", json.dumps(STATS), json.dumps(expected_stats(STATS)))

    def test_caps_have_the_pools_of_now(self):
        self.becomes("caps", json.dumps(CAPS), json.dumps(expected_caps(CAPS)))

    def test_counts_keep_their_notation(self):
        document = copy.deepcopy(STATS)
        document["hugepages"][M2]["vm.free_hugepages"] = "30"
        document["numaNodeMemFree"]["1"]["hugepages"][G1]["freePages"] = "0"
        wanted = expected_stats(document)
        wanted["hugepages"][M2]["vm.free_hugepages"] = "18"
        wanted["numaNodeMemFree"]["1"]["hugepages"][G1]["freePages"] = "2"
        self.becomes("stats", json.dumps(document), json.dumps(wanted))

    def test_right_document_stays_as_it_is(self):
        text = json.dumps(expected_stats(STATS))
        self.becomes("stats", text, text)

    def test_layout_and_order_stay(self):
        for layout in ({"indent": 3}, {"separators": (",", ":")}, {"sort_keys": True},
                       {"ensure_ascii": False}):
            self.becomes("stats", json.dumps(STATS, **layout),
                         json.dumps(expected_stats(STATS), **layout))

    def test_numbers_of_others_keep_each_digit(self):
        for number in ("0.1", "1e5", "-0.0", "123456789012345678901234567890", "1.50", "NaN",
                       "-Infinity"):
            text = json.dumps(STATS).replace('"memShared": 0', f'"memShared": {number}')
            wanted = json.dumps(expected_stats(STATS)).replace('"memShared": 0',
                                                               f'"memShared": {number}')
            self.becomes("stats", text, wanted)

    def test_members_of_the_same_name_elsewhere_stay(self):
        document = {"a": STATS["hugepages"], "b": [STATS], **STATS}
        self.becomes("stats", json.dumps(document),
                     json.dumps({**document, **expected_stats(STATS)}))

    def test_what_vdsm_does_not_know_is_not_added(self):
        document = copy.deepcopy(STATS)
        del document["hugepages"][G1]
        for node in document["numaNodeMemFree"].values():
            del node["hugepages"][G1]
        found, said = self.run_edit("stats", json.dumps(document))
        wanted = copy.deepcopy(document)
        wanted["hugepages"][M2]["vm.free_hugepages"] = 18
        for node, pages in (("0", 7), ("1", 11)):
            wanted["numaNodeMemFree"][node]["hugepages"][M2]["freePages"] = pages
        self.assertEqual(json.loads(found), wanted)
        self.assertEqual(said.count("\n"), 1)
        self.assertIn(G1, said)

    def test_document_without_huge_pages_stays(self):
        for text in ("{}", "[]", "1", '"x"', '{"hugepages": null}', '{"hugepages": []}',
                     '{"hugepages": {"2048": {"vm.free_hugepages": {}}}}',
                     '{"hugepages": {"2048": {"vm.free_hugepages": -1}}}',
                     '{"hugepages": {"2048": {"vm.free_hugepages": 1.5}}}'):
            self.stays("stats", text, "lacks")


FILES = {"directory": "/srv/ram", "capacity_kib": 8 << 20, "used_kib": 3 << 20,
         "available_kib": 1 << 20}


class MemoryInFiles(ReportCase):
    """A host that keeps the memory of VMs in files."""

    def edited(self, which, document, files):
        found, said = self.run_edit(which, json.dumps(document),
                                    json.dumps({**FIGURES, "file_backed": files}))
        return json.loads(found), said

    def test_capacity_stands_in_place_of_the_hosts_memory(self):
        found, said = self.edited("caps", {**CAPS, "memSize": "64000"}, FILES)
        self.assertEqual((found, said), ({**expected_caps(CAPS), "memSize": "8192"}, ""))

    def test_what_vms_have_claimed_stands_in_place_of_what_is_in_use(self):
        stats = {**STATS, "memAvailable": 61000, "memFree": "61210"}
        found, said = self.edited("stats", stats, FILES)
        self.assertEqual((found, said), ({**expected_stats(STATS), "memAvailable": 5120,
                                          "memFree": "5120"}, ""))

    def test_more_than_all_leaves_nothing(self):
        stats = {**STATS, "memAvailable": 61000, "memFree": 61210}
        found, _ = self.edited("stats", stats, {**FILES, "used_kib": 9 << 20})
        self.assertEqual((found["memAvailable"], found["memFree"]), (0, 0))

    def test_a_directory_that_is_missing_or_full_leaves_what_is_free_there(self):
        stats = {**STATS, "memAvailable": 61000, "memFree": 61210}
        for free_mib in (0, 700):
            found, _ = self.edited("stats", stats, {**FILES, "file_system_free_kib": free_mib << 10})
            self.assertEqual((found["memAvailable"], found["memFree"]), (free_mib, free_mib))
        found, _ = self.edited("stats", stats, {**FILES, "file_system_free_kib": (1 << 63) - 1})
        self.assertEqual((found["memAvailable"], found["memFree"]), (5120, 5120))

    def test_without_files_it_stays(self):
        stats = {**STATS, "memAvailable": 61000, "memFree": 61210}
        found, said = self.edited("stats", stats, None)
        self.assertEqual((found, said), (expected_stats(stats), ""))


class OddInput(ReportCase):
    def test_what_is_no_json_stays(self):
        text = json.dumps(STATS)
        for odd in ("", " ", text[:-1], text + "}", text + " x", "{,}", "[1,]", '{"a"}', '{"a": 1,}',
                    '{a: 1}', '"\n"', "'a'", "\0", text.replace('"memShared"', "memShared"),
                    "[" * 100000, '{"a":' * 100000):
            self.stays("stats", odd, "no JSON")

    def test_what_is_no_utf8_stays(self):
        self.stays("stats", json.dumps(STATS).encode() + b"\xff", "no JSON")
        self.stays("stats", json.dumps(STATS).encode("utf-16"), "no JSON")

    def test_figures_that_are_none_change_nothing(self):
        for figures in ("x", "[]", "{}", '{"sizes": 1, "pools": {}}', '{"sizes": [1], "pools": [[]]}',
                        '{"sizes": [{"size_kib": "x"}], "pools": [{"node": null}]}'):
            found, _ = self.run_edit("stats", json.dumps(STATS), figures)
            self.assertEqual(json.loads(found), STATS)

    def test_large_document_passes_quickly(self):
        document = {"devices": [{"name": "x" * 100, "n": i} for i in range(50000)], **STATS}
        self.becomes("stats", json.dumps(document), json.dumps({**document, **expected_stats(STATS)}))

    def generated(self, chance, depth=0):
        kinds = [lambda: chance.randrange(-5, 5), lambda: chance.random() * 1e9, lambda: None,
                 lambda: chance.choice((True, False, math.inf)),
                 lambda: "".join(chance.choice("ab\"\\/{}[],:\u00e9\n\x7f\u2028") for _ in range(6))]
        if depth < 4:
            kinds += [lambda: [self.generated(chance, depth + 1) for _ in range(chance.randrange(4))],
                      lambda: {chance.choice(("a", "hugepages", M2, "0", "\"")):
                               self.generated(chance, depth + 1) for _ in range(chance.randrange(4))}]
        return chance.choice(kinds)()

    def test_generated_documents_keep_all_else(self):
        chance = random.Random(7)
        for _ in range(150):
            document = {f"x{i}": self.generated(chance) for i in range(chance.randrange(6))}
            names = [*document, *STATS]
            chance.shuffle(names)
            whole = {**document, **STATS}
            before = {name: whole[name] for name in names}
            text = json.dumps(before, ensure_ascii=chance.random() < 0.5)
            found, said = self.run_edit("stats", text)
            self.assertEqual(said, "", text)
            same = json.dumps(expected_stats(before), sort_keys=True)
            self.assertEqual(json.dumps(json.loads(found), sort_keys=True), same, text)

    def test_damaged_documents_stay_or_lose_nothing(self):
        """Each one byte away from a good one: what comes out differs in counts only."""
        chance = random.Random(8)
        text = json.dumps(STATS)
        for _ in range(300):
            at = chance.randrange(len(text))
            odd = text[:at] + chance.choice(["", *'{}[],:"\\0x ']) + text[at + 1:]
            found, _ = self.run_edit("stats", odd)
            try:
                before = json.loads(odd)
            except ValueError:
                before = None
            if before is None:
                # a number or a word that Python does not know may pass, and stays
                self.assertEqual(found.decode().count("vm.free"), odd.count("vm.free"), odd)
            else:
                self.assertEqual(json.loads(found).keys(), before.keys(), odd)


if __name__ == "__main__":
    sys.exit(tap.main())
