#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a user sees on hosts that no VM here can be: other architectures and page sizes, many nodes,
nodes with gaps, without memory or without processors, no huge pages at all.

usage: test-hugevmctl-trees.py HUGEVMCTL MAKE-TREE TREES
"""

import importlib.util
import pathlib
import sys
import unittest

spec = importlib.util.spec_from_file_location(
    "hugevmctl_cases", pathlib.Path(__file__).with_name("test-hugevmctl.py"))
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

DONE, REFUSED = cases.DONE, cases.REFUSED
MIB, GIB = 1024, 1024 * 1024  # in KiB
GROWS = ("[performance]\nuse_dynamic_hugepages = true\n"
         "[hugevm]\nhost_memory_floor = 0,0%\ndemote = any\n")


def page(size_kib):
    return f"<page size='{size_kib}' unit='KiB'/>"


def bound(nodes):
    return f"<numatune><memory mode='strict' nodeset='{nodes}'/></numatune>"


def cells(*host_nodes_and_mib):
    """A guest cell for each (host node, MiB), bound to that node."""
    binding, shape = "", ""
    for cell, (node, memory_mib) in enumerate(host_nodes_and_mib):
        binding += f"<memnode cellid='{cell}' mode='strict' nodeset='{node}'/>"
        shape += f"<cell id='{cell}' cpus='{cell}' memory='{memory_mib}' unit='MiB'/>"
    return f"<numatune>{binding}</numatune><cpu><numa>{shape}</numa></cpu>"


def need(size_kib, pages, node=None, **more):
    return {"node": node, "size_kib": size_kib, "pages": pages, **more}


def step(action, size_kib, pages, node=0):
    return {"action": action, "node": node, "size_kib": size_kib, "pages": pages}


class TreeCase(cases.HostCase):
    def allowed(self, needs, steps, xml, *args):
        """Returns the warnings."""
        plan = self.plan(xml, *args)
        self.assertEqual((plan["need"], plan["steps"]), (needs, steps))
        self.assertIsNone(plan["refusal"])
        return plan["warnings"]

    def refused(self, code, parts, xml, *args):
        """Returns the plan; each part must be in the refusal's message."""
        plan = self.plan(xml, *args, status=REFUSED)
        self.assertEqual((plan["refusal"]["code"], plan["steps"]), (code, []))
        for part in parts:
            self.assertIn(part, plan["refusal"]["message"])
        return plan

    def pools(self, *keys):
        return [tuple(pool[key] for key in keys) for pool in self.json_of("status")["pools"]]


class Arm64With64KibPages(TreeCase):
    tree = "arm64-64k.txt"

    def test_status_shows_the_three_sizes(self):
        report = self.json_of("status")
        self.assertEqual([(size["size_kib"], size["default"]) for size in report["sizes"]],
                         [(2 * MIB, False), (512 * MIB, True), (16 * GIB, False)])
        text = self.run_ctl("status").stdout
        for size in "2 MiB", "512 MiB", "16 GiB":
            self.assertIn(size, text)

    def test_property_of_512_mib(self):
        xml = cases.domain(1024, page=None)
        self.assertEqual(self.allowed([need(512 * MIB, 2)], [], xml, "--property",
                                      "hugepages=524288"), [])

    def test_bare_element_is_512_mib(self):
        self.allowed([need(512 * MIB, 3)], [], cases.domain(1536, page=" "))

    def test_the_last_page_may_be_used_in_part(self):
        warnings = self.allowed([need(512 * MIB, 2)], [], cases.domain(700, page=" "))
        self.assertIn("324 MiB stay unused", warnings[0])

    def test_less_than_one_page_is_refused(self):
        self.refused("bad-xml", ["300 MiB", "less than one page of 512 MiB"],
                     cases.domain(300, page=" "))

    def test_page_of_64_kib_is_no_huge_page(self):
        xml = cases.domain(1024, page=page(64))
        self.allowed([], [], xml)
        self.assertIn("need: no huge pages", self.run_ctl("plan", "-", stdin=xml).stdout)

    def test_cell_of_normal_pages_beside_a_huge_one(self):
        pages = "<page size='64' unit='KiB' nodeset='0'/><page size='2' unit='M' nodeset='1'/>"
        self.allowed([need(2 * MIB, 4, node=0)], [],
                     cases.domain(24, page=pages, extra=cells((0, 16), (0, 8))))

    def test_page_of_4_kib_is_a_size_that_the_host_lacks(self):
        self.refused("shortage", ["4 KiB", "this host offers 2 MiB, 512 MiB, 16 GiB"],
                     cases.domain(1024, page=page(4)))

    def test_size_of_another_machine_falls_back_to_the_default(self):
        warnings = self.allowed([need(512 * MIB, 2)], [], cases.domain(1024, page=None),
                                "--property", "hugepages=1048576")
        self.assertIn("1 GiB, this host offers 2 MiB, 512 MiB, 16 GiB: using 512 MiB", warnings[0])

    def test_16_gib_are_split_into_512_mib(self):
        self.configure(GROWS)
        self.allowed([need(512 * MIB, 5)], [step("demote", 16 * GIB, 1)],
                     cases.domain(5 * 512, page=" "))

    def test_512_mib_are_split_into_2_mib(self):
        self.configure(GROWS)
        self.allowed([need(2 * MIB, 300)], [step("demote", 512 * MIB, 2)],
                     cases.domain(600, page=page(2 * MIB)))

    def test_low_watermark_counts_pages_of_64_kib(self):
        self.configure(GROWS)
        # of 64 pieces of 512 MiB that are free, the kernel keeps 768 MiB
        self.assertIn((512 * MIB, 3 + 62), self.pools("size_kib", "allocatable"))


class Arm64With4KibPages(TreeCase):
    tree = "arm64-4k.txt"

    def test_status_shows_the_four_sizes(self):
        self.assertEqual(self.pools("size_kib", "total"),
                         [(64, 16), (2 * MIB, 4), (32 * MIB, 2), (GIB, 1)])

    def test_page_of_64_kib_is_a_huge_page(self):
        self.allowed([need(64, 16)], [], cases.domain(1, page=page(64)))
        self.refused("shortage", ["32 pages of 64 KiB", "16 available", "16 short"],
                     cases.domain(2, page=page(64)))

    def test_page_of_4_kib_is_no_huge_page(self):
        self.allowed([], [], cases.domain(1024, page=page(4)))

    def test_property_of_32_mib(self):
        self.allowed([need(32 * MIB, 2)], [], cases.domain(64, page=None), "--property",
                     "hugepages=32M")

    def test_demote_size_that_cannot_be_is_left_alone(self):
        self.configure(GROWS)
        (self.root / "sys/kernel/mm/hugepages/hugepages-64kB/demote_size").write_text("2048kB\n")
        self.allowed([need(2 * MIB, 4)], [], cases.domain(8))
        self.allowed([need(2 * MIB, 5)], [step("demote", 32 * MIB, 1)], cases.domain(10))

    def test_each_size_is_split_into_the_next(self):
        self.configure(GROWS)
        for size_kib, pages, larger_kib in ((64, 17, 2 * MIB), (2 * MIB, 5, 32 * MIB),
                                            (32 * MIB, 3, GIB)):
            with self.subTest(size_kib=size_kib):
                memory_mib = -(-pages * size_kib // MIB)
                self.allowed([need(size_kib, memory_mib * MIB // size_kib)],
                             [step("demote", larger_kib, 1)],
                             cases.domain(memory_mib, page=page(size_kib)))


class Ppc64(TreeCase):
    tree = "ppc64.txt"

    def test_memory_is_a_multiple_of_256_mib(self):
        self.allowed([need(16 * MIB, 32)], [], cases.domain(300, page=None), "--property",
                     "hugepages=16384")

    def test_so_is_that_of_each_cell(self):
        self.allowed([need(16 * MIB, 16, node=0), need(16 * MIB, 16, node=8)], [],
                     cases.domain(160, page=" ", extra=cells((0, 100), (8, 60))))

    def test_what_alignment_adds_may_be_too_much(self):
        # 160 MiB would fit; the 512 MiB that libvirt makes of 300 do not
        self.refused("shortage", ["32 pages of 16 MiB on node 8", "16 available", "16 short"],
                     cases.domain(300, page=" ", extra=bound(8)))

    def test_page_of_64_kib_is_no_huge_page(self):
        self.allowed([], [], cases.domain(1024, page=page(64)))

    def test_size_of_x86_falls_back_to_16_mib(self):
        warnings = self.allowed([need(16 * MIB, 16)], [], cases.domain(256, page=None),
                                "--property", "hugepages=2048")
        self.assertIn("2 MiB, this host offers 16 MiB, 16 GiB: using 16 MiB", warnings[0])

    def test_page_that_cannot_be_split_is_not(self):
        self.configure(GROWS.replace("0,0%", "1T,0%"))
        plan = self.refused("shortage", ["48 pages of 16 MiB", "40 available", "8 short"],
                            cases.domain(768, page=" "))
        self.assertEqual({row["demotable"] for row in plan["table"]}, {0})

    def test_growth_takes_the_place_of_a_split(self):
        self.configure(GROWS)
        self.allowed([need(16 * MIB, 32, node=8)], [step("grow", 16 * MIB, 16, node=8)],
                     cases.domain(512, page=" ", extra=bound(8)))


class S390x(TreeCase):
    tree = "s390x.txt"

    def test_bare_element_is_1_mib(self):
        self.allowed([need(MIB, 5)], [], cases.domain(5, page=" "))

    def test_size_of_x86_falls_back_to_1_mib(self):
        warnings = self.allowed([need(MIB, 6)], [], cases.domain(6, page=None), "--property",
                                "hugepages=2M")
        self.assertIn("2 MiB, this host offers 1 MiB: using 1 MiB", warnings[0])

    def test_strict_page_size_refuses_it(self):
        self.configure("[hugevm]\nstrict_page_size = true\n")
        self.refused("bad-property", ["pages of 2 MiB", "this host offers 1 MiB"],
                     cases.domain(6, page=None), "--property", "hugepages=2M")

    def test_2_gib_are_not_offered(self):
        self.refused("shortage", ["huge pages of 2 GiB", "this host offers 1 MiB"],
                     cases.domain(4096, page=page(2 * GIB)))

    def test_growth_is_the_only_way(self):
        self.configure(GROWS)
        self.allowed([need(MIB, 20)], [step("grow", MIB, 12)], cases.domain(20, page=" "))


class SixteenNodes(TreeCase):
    """Node N has N free pages of 2 MiB, and one in use."""

    tree = "sixteen-nodes.txt"

    def test_status_has_a_row_for_each_node_in_order(self):
        self.assertEqual(self.pools("node", "total", "free", "allocatable"),
                         [(n, n + 1, n, n) for n in range(16)])

    def test_sixteen_cells_on_sixteen_nodes_grow_what_each_lacks(self):
        self.configure(GROWS)
        self.allowed([need(2 * MIB, 10, node=n) for n in range(16)],
                     [step("grow", 2 * MIB, 10 - n, node=n) for n in range(10)],
                     cases.domain(320, extra=cells(*((n, 20) for n in range(16)))))

    def test_text_names_each_node(self):
        self.configure(GROWS)
        text = self.run_ctl("plan", "-", stdin=cases.domain(
            512, extra=cells(*((n, 32) for n in range(16))))).stdout
        for n in range(16):
            self.assertIn(f"16 x 2 MiB on node {n}", text)
            self.assertIn(f"step: grow {16 - n} x 2 MiB on node {n}\n", text)

    def test_cells_in_another_order_than_nodes(self):
        shape = [(n, 2 * n) for n in reversed(range(1, 16))]
        self.allowed([need(2 * MIB, n, node=n) for n, _ in shape], [],
                     cases.domain(240, extra=cells(*shape)))

    def test_refusal_speaks_of_the_node_that_lacks_most_and_shows_all(self):
        xml = cases.domain(256, extra=cells(*((n, 16) for n in range(16))))
        plan = self.refused("shortage", ["8 pages of 2 MiB on node 0", "8 short"], xml)
        rows = {row["node"]: row for row in plan["table"]}
        self.assertEqual([rows[n]["wanted"] for n in range(16)], [8] * 16)
        self.assertEqual([rows[n]["available"] for n in range(16)], list(range(16)))
        self.assertEqual([rows[n]["short"] for n in range(16)],
                         [max(0, 8 - n) for n in range(16)])

    def test_one_vm_over_all_nodes(self):
        for extra, more in ("", {}), (bound("0-15"), {"nodes": "0-15"}):
            with self.subTest(extra=extra):
                self.allowed([need(2 * MIB, 120, **more)], [], cases.domain(240, extra=extra))
                self.refused("shortage", ["121 pages of 2 MiB", "120 available", "1 short"],
                             cases.domain(242, extra=extra))


class NodesWithGaps(TreeCase):
    tree = "node-gaps.txt"

    def test_cells_on_the_nodes_that_are_there(self):
        self.allowed([need(2 * MIB, 1, node=0), need(2 * MIB, 2, node=2),
                      need(2 * MIB, 3, node=17)], [],
                     cases.domain(12, extra=cells((0, 2), (2, 4), (17, 6))))

    def test_growth_is_on_the_node_of_that_number(self):
        self.configure(GROWS)
        self.allowed([need(2 * MIB, 5, node=17)], [step("grow", 2 * MIB, 2, node=17)],
                     cases.domain(10, extra=bound(17)))

    def test_node_in_a_gap_is_refused(self):
        self.refused("bad-xml", ["host node 1, which does not exist", "this host has 0,2,17"],
                     cases.domain(2, extra=bound("0-1")))


class NodeWithoutMemory(TreeCase):
    """As kernels since 6.1 show it."""

    tree = "memoryless-node.txt"
    shown = [(0, 10, 10), (1, 0, 0)]

    def test_status_shows_what_the_kernel_shows(self):
        self.assertEqual(self.pools("node", "total", "free"), self.shown)
        self.configure(GROWS)
        self.assertEqual(self.pools("allocatable"),
                         [(10 + 1024,), (0,)][:len(self.shown)])

    def test_vm_on_any_node_grows_where_there_is_memory(self):
        self.configure(GROWS)
        steps = [step("grow", 2 * MIB, 5, node=0)]
        self.allowed([need(2 * MIB, 15)], steps, cases.domain(30))
        self.allowed([need(2 * MIB, 15, nodes="0-1")], steps,
                     cases.domain(30, extra=bound("0-1")))

    def test_vm_bound_to_it_is_refused(self):
        self.configure(GROWS)
        self.refused("bad-xml", ["bound to host nodes without memory: 1"],
                     cases.domain(2, extra=bound(1)))

    def test_cell_bound_to_it_is_refused_though_others_are_served(self):
        self.configure(GROWS)
        self.refused("bad-xml", ["guest cell 1", "bound to host nodes without memory: 1"],
                     cases.domain(4, extra=cells((0, 2), (1, 2))))


class NodeWithoutMemoryBefore61(NodeWithoutMemory):
    tree = "memoryless-node-old.txt"
    shown = [(0, 10, 10)]


class NodeWithoutProcessors(TreeCase):
    tree = "cpuless-node.txt"

    def test_its_pool_is_one_like_others(self):
        self.assertEqual(self.pools("node", "free", "allocatable"), [(0, 10, 10), (1, 20, 20)])

    def test_vm_bound_to_it_gets_its_pages_and_grows_there(self):
        self.allowed([need(2 * MIB, 20, node=1)], [], cases.domain(40, extra=bound(1)))
        self.configure(GROWS)
        self.allowed([need(2 * MIB, 21, node=1)], [step("grow", 2 * MIB, 1, node=1)],
                     cases.domain(42, extra=bound(1)))

    def test_vm_that_may_be_anywhere_grows_where_the_processors_are(self):
        self.configure(GROWS)
        self.allowed([need(2 * MIB, 40)], [step("grow", 2 * MIB, 10, node=0)], cases.domain(80))

    def test_it_grows_where_no_other_node_has_the_memory(self):
        self.configure(GROWS)
        self.allowed([need(2 * MIB, 600)],
                     [step("grow", 2 * MIB, 512, node=0), step("grow", 2 * MIB, 58, node=1)],
                     cases.domain(1200))


class PagesOnOneNodeSinceBoot(TreeCase):
    """hugepages=1:2 of 1 GiB."""

    tree = "boot-pools.txt"

    def test_status_shows_them_on_that_node_only(self):
        self.assertEqual([pool for pool in self.pools("size_kib", "node", "free", "allocatable")
                          if pool[0] == GIB], [(GIB, 0, 0, 0), (GIB, 1, 2, 2), (GIB, 2, 0, 0)])

    def test_vm_bound_there_or_nowhere_gets_them(self):
        self.allowed([need(GIB, 2, node=1)], [],
                     cases.domain(2048, page=page(GIB), extra=bound(1)))
        self.allowed([need(GIB, 2)], [], cases.domain(2048, page=page(GIB)))

    def test_vm_bound_elsewhere_is_refused_and_sees_where_they_are(self):
        plan = self.refused("shortage", ["1 page of 1 GiB on node 0", "0 available",
                                         "on all nodes: pool of 2, 2 free", "1 short"],
                            cases.domain(1024, page=page(GIB), extra=bound(0)))
        self.assertEqual([(row["node"], row["wanted"], row["free"]) for row in plan["table"]
                          if row["node"] is not None], [(0, 1, 0), (1, 0, 2), (2, 0, 0)])

    def test_cell_elsewhere_is_refused_beside_one_that_has_its_pages(self):
        self.refused("shortage", ["1 page of 1 GiB on node 2", "1 short"],
                     cases.domain(3072, page=page(GIB), extra=cells((1, 2048), (2, 1024))))

    def test_they_are_not_split_unless_that_is_allowed(self):
        xml = cases.domain(1024, extra=bound(1))
        self.configure(GROWS.replace("any", "own").replace("0,0%", "1T,0%"))
        self.refused("shortage", ["512 pages of 2 MiB on node 1"], xml)
        self.configure(GROWS.replace("0,0%", "1T,0%"))
        self.allowed([need(2 * MIB, 512, node=1)], [step("demote", GIB, 1, node=1)], xml)


class NoHugePages(TreeCase):
    tree = "no-hugetlb.txt"

    def test_vm_without_huge_pages_is_planned_all_the_same(self):
        xml = cases.domain(page=None)
        self.allowed([], [], xml)
        self.assertIn("need: no huge pages", self.run_ctl("plan", "-", stdin=xml).stdout)

    def test_vm_with_huge_pages_is_refused_with_the_reason(self):
        plan = self.refused("shortage", ["huge pages of 2 MiB", "this host has no huge pages"],
                            cases.domain())
        self.assertEqual(plan["need"], [need(2 * MIB, 100)])
        self.assertIn("CONFIG_HUGETLBFS", plan["refusal"]["hint"])

    def test_so_is_one_that_names_no_size(self):
        self.refused("shortage", ["this host has no huge pages"], cases.domain(page=" "))

    def test_so_is_one_with_the_property(self):
        self.refused("shortage", ["huge pages of 1 GiB", "this host has no huge pages"],
                     cases.domain(1024, page=None), "--property", "hugepages=1048576")


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    print(f"1..{suite.countTestCases()}")
    result = cases.TapResult()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
