#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which node of a host a VM's pages are planned onto, as `hugevmctl plan` shows it.

usage: test-placement.py HUGEVMCTL MAKE-TREE TREES
"""

import importlib.util
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "vdsm"))
import tap  # noqa: E402

spec = importlib.util.spec_from_file_location(
    "hugevmctl_cases", pathlib.Path(__file__).with_name("test-hugevmctl.py"))
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

REFUSED = cases.REFUSED
DYNAMIC = "[performance]\nuse_dynamic_hugepages=true\n[hugevm]\nhost_memory_floor=0,0%\n"


def numatune(mode, nodes, memnodes=""):
    return f"<numatune><memory mode='{mode}' nodeset='{nodes}'/>{memnodes}</numatune>"


def cells(*sizes_mib, attributes=None):
    attributes = attributes or [""] * len(sizes_mib)
    return "<cpu><numa>" + "".join(
        f"<cell id='{i}' cpus='{i}' memory='{mib}' unit='MiB' {attributes[i]}/>"
        for i, mib in enumerate(sizes_mib)) + "</numa></cpu>"


def pin(*cpusets):
    return "<cputune>" + "".join(f"<vcpupin vcpu='{i}' cpuset='{cpus}'/>"
                                 for i, cpus in enumerate(cpusets)) + "</cputune>"


def device(bus, function):
    return ("<devices><hostdev mode='subsystem' type='pci'><source><address domain='0x0000' "
            f"bus='0x{bus}' slot='0x00' function='0x{function}'/></source></hostdev></devices>")


class PlacementCase(cases.HostCase):
    tree = "placed.txt"

    def setUp(self):
        super().setUp()
        self.configure(DYNAMIC)

    def set_pool(self, node, total, free=None, size_kib=2048):
        pool = self.root / (f"sys/devices/system/node/node{node}/hugepages/"
                            f"hugepages-{size_kib}kB")
        (pool / "nr_hugepages").write_text(f"{total}\n")
        (pool / "free_hugepages").write_text(f"{total if free is None else free}\n")

    def steps(self, xml):
        plan = self.plan(xml)
        self.assertIsNone(plan["refusal"])
        return [(s["node"], s["size_kib"], s["pages"]) for s in plan["steps"]]

    def grown(self, pages, extra=""):
        """Node -> pages of 2 MiB, for a VM of so many of them."""
        steps = self.steps(cases.domain(memory_mib=2 * pages, extra=extra))
        self.assertTrue(all(size == 2048 for _, size, _ in steps))
        return {node: count for node, _, count in steps}


class Policy(PlacementCase):
    def test_strict_grows_on_its_node_only(self):
        self.assertEqual(self.grown(100, numatune("strict", 2)), {2: 100})
        plan = self.plan(cases.domain(2 * 513, extra=numatune("strict", 2)), status=REFUSED)
        self.assertIn("node 2", plan["refusal"]["message"])

    def test_restrictive_binds_as_strict_does(self):
        self.assertEqual(self.grown(100, numatune("restrictive", 2)), {2: 100})

    def test_preferred_grows_there_although_others_have_free_pages(self):
        self.set_pool(0, 500)
        self.assertEqual(self.grown(100, numatune("preferred", 2)), {2: 100})

    def test_preferred_uses_the_free_pages_of_its_node_first(self):
        self.set_pool(2, 70)
        self.assertEqual(self.grown(100, numatune("preferred", 2)), {2: 30})

    def test_preferred_goes_elsewhere_for_the_rest(self):
        self.set_pool(0, 10)
        self.assertEqual(self.grown(600, numatune("preferred", 2)), {2: 512, 3: 78})

    def test_preferred_takes_free_pages_anywhere_where_nothing_may_be_grown(self):
        self.configure("")
        self.set_pool(0, 100)
        self.assertEqual(self.grown(100, numatune("preferred", 2)), {})
        self.plan(cases.domain(2 * 101, extra=numatune("preferred", 2)), status=REFUSED)

    def test_interleave_splits_evenly(self):
        self.assertEqual(self.grown(100, numatune("interleave", "0,2-3")), {0: 34, 2: 33, 3: 33})

    def test_interleave_counts_the_free_pages_of_each_node(self):
        self.set_pool(3, 40)
        self.set_pool(1, 40)
        self.assertEqual(self.grown(100, numatune("interleave", "0,3")), {0: 50, 3: 10})

    def test_interleave_beyond_one_node_goes_elsewhere(self):
        self.assertEqual(self.grown(1200, numatune("interleave", "2-3")), {2: 512, 3: 688})

    def test_memnode_overrides_memory_per_cell(self):
        tune = numatune("preferred", 1, "<memnode cellid='1' mode='strict' nodeset='3'/>")
        self.assertEqual(self.grown(150, tune + cells(100, 200)), {1: 50, 3: 100})

    def test_two_cells_prefer_one_node_and_share_its_free_pages(self):
        self.set_pool(2, 60)
        self.assertEqual(self.grown(100, numatune("preferred", 2) + cells(100, 100)), {2: 40})

    def test_a_bound_cell_and_a_preferred_one_do_not_get_the_same_pages(self):
        self.set_pool(2, 60)
        tune = numatune("preferred", 2, "<memnode cellid='0' mode='strict' nodeset='2'/>")
        self.assertEqual(self.grown(100, tune + cells(100, 100)), {2: 40})

    def test_device_with_a_nodemask_follows_the_mode(self):
        dimm = ("<devices><memory model='dimm'><source><nodemask>3</nodemask></source><target>"
                "<size unit='MiB'>64</size><node>0</node></target></memory></devices>")
        self.set_pool(3, 0)
        self.assertEqual(self.grown(132, numatune("preferred", 1) + cells(200) + dimm),
                         {1: 100, 3: 32})

    def test_preferred_node_that_is_not_there_is_refused(self):
        plan = self.plan(cases.domain(extra=numatune("preferred", 9)), status=REFUSED)
        self.assertIn("host node 9, which does not exist", plan["refusal"]["message"])


class PolicyBeside(PlacementCase):
    """A policy beside needs of another kind, and on nodes of another kind."""

    def take_memory(self, node):
        path = self.root / f"sys/devices/system/node/node{node}/meminfo"
        path.write_text(f"Node {node} MemTotal: 0 kB\nNode {node} MemFree: 0 kB\n")

    def test_bound_cell_leaves_nothing_to_one_that_its_own_node_serves(self):
        self.configure("")
        self.set_pool(0, 100)
        self.set_pool(1, 100)
        tune = numatune("preferred", 1, "<memnode cellid='0' mode='strict' nodeset='0'/>")
        self.assertEqual(self.grown(100, tune + cells(200, 200)), {})
        self.configure(DYNAMIC)
        self.assertEqual(self.grown(100, tune + cells(200, 200)), {})

    def test_bound_cell_leaves_what_the_other_node_lacks(self):
        self.configure("")
        self.set_pool(0, 100)
        self.set_pool(1, 60)
        tune = numatune("preferred", 1, "<memnode cellid='0' mode='strict' nodeset='0'/>")
        self.plan(cases.domain(400, extra=tune + cells(200, 200)), status=REFUSED)
        self.assertEqual(self.grown(80, tune + cells(120, 200)), {})

    def test_interleave_leaves_out_nodes_without_memory(self):
        self.take_memory(1)
        self.assertEqual(self.grown(300, numatune("interleave", "0-2")), {0: 150, 2: 150})

    def test_policy_that_names_only_nodes_without_memory_is_refused(self):
        self.take_memory(1)
        for mode in ("preferred", "interleave", "strict"):
            plan = self.plan(cases.domain(200, extra=numatune(mode, 1)), status=REFUSED)
            self.assertIn("host nodes without memory: 1", plan["refusal"]["message"])

    def test_numad_places_memory_with_the_vcpus(self):
        self.configure(DYNAMIC + "bind_unbound=single-node\n")
        for tune in ("", "<numatune><memory mode='strict'/></numatune>"):
            plan = self.plan(cases.domain(
                200, extra="<vcpu placement='auto' cpuset='0'>2</vcpu>" + tune))
            self.assertIn("chooses the host nodes only at start", plan["warnings"][0])
            self.assertIsNone(plan["binding"])
        plan = self.plan(cases.domain(
            200, extra="<vcpu placement='auto'>2</vcpu>" + numatune("strict", 3)))
        self.assertEqual(plan["need"][0]["node"], 3)


class Choice(PlacementCase):
    """Nothing binds the VM: any node could grow."""

    def test_the_tightest_node_that_has_room_for_all(self):
        self.assertEqual(self.grown(500), {2: 500})
        self.assertEqual(self.grown(513), {0: 513})
        self.assertEqual(self.grown(1100), {3: 1100})

    def test_few_nodes_where_none_has_room_for_all(self):
        self.assertEqual(self.grown(1600), {1: 1536, 2: 64})

    def test_beside_the_free_pages_that_it_uses(self):
        self.set_pool(3, 50)
        self.set_pool(0, 20)
        self.assertEqual(self.grown(170), {3: 100})

    def test_two_sizes_of_one_vm_go_to_one_node(self):
        xml = cases.domain(
            page="<page size='1' unit='G' nodeset='0'/><page size='2' unit='M' nodeset='1'/>",
            extra=cells(2048, 400))
        self.assertEqual(self.steps(xml), [(0, 1048576, 2), (2, 2048, 200)])

    def test_near_the_cpus_that_the_vm_is_pinned_to(self):
        self.assertEqual(self.grown(100, "<vcpu cpuset='2-3'>2</vcpu>"), {1: 100})
        self.assertEqual(self.grown(100, pin("6", "7")), {3: 100})

    def test_each_cell_near_its_own_cpus(self):
        self.assertEqual(self.grown(100, pin("0", "7") + cells(120, 80)), {0: 60, 3: 40})

    def test_the_nearest_node_has_the_rest(self):
        self.assertEqual(self.grown(1100, "<vcpu cpuset='0'>1</vcpu>"), {0: 1024, 1: 76})

    def test_free_pages_elsewhere_come_before_growth_nearby(self):
        self.set_pool(0, 100)
        self.assertEqual(self.grown(100, "<vcpu cpuset='2-3'>2</vcpu>"), {})

    def test_near_the_device_that_the_vm_is_given(self):
        self.assertEqual(self.grown(600, device("3b", 1)), {2: 512, 3: 88})

    def test_device_that_is_nowhere_in_particular_does_not_matter(self):
        self.assertEqual(self.grown(100, device("02", 0)), {2: 100})

    def test_device_and_cpus_that_do_not_exist_do_not_matter(self):
        self.assertEqual(self.grown(100, device("ff", 0)), {2: 100})
        self.assertEqual(self.grown(100, "<vcpu cpuset='99999999'>1</vcpu>"), {2: 100})

    def test_numatune_comes_before_the_cpus(self):
        tune = "<vcpu cpuset='2-3'>2</vcpu>" + numatune("strict", 3)
        self.assertEqual(self.grown(100, tune), {3: 100})

    def test_host_that_does_not_tell_distances_is_planned_all_the_same(self):
        for node in range(4):
            (self.root / f"sys/devices/system/node/node{node}/distance").unlink()
        self.assertEqual(self.grown(1100, "<vcpu cpuset='0'>1</vcpu>"), {0: 1024, 2: 76})

    def test_two_cells_are_not_planned_onto_the_same_pages(self):
        self.configure("")
        self.set_pool(1, 60)
        plan = self.plan(cases.domain(200, extra=cells(100, 100)), status=REFUSED)
        self.assertIn("wants 100 pages of 2 MiB on any node: 60 available",
                      plan["refusal"]["message"])


GIB, MIB = 1048576, 2048


def bare(memory_mib, extra=""):
    return cases.domain(memory_mib, page="", extra=extra)


class SizesThatAreOpen(PlacementCase):
    """hugepages=large and hugepages=any."""

    def chosen(self, xml, value, *args):
        plan = self.plan(xml, "-p", f"hugepages={value}", *args)
        self.assertIsNone(plan["refusal"])
        self.plan_of_last = plan
        return [(c["cell"], c["size_kib"]) for c in plan["chosen"]]

    def refused(self, xml, value):
        return self.plan(xml, "-p", f"hugepages={value}", status=REFUSED)["refusal"]["message"]

    def test_the_largest_size_that_divides_the_memory(self):
        self.assertEqual(self.chosen(bare(2048), "large"), [(None, GIB)])
        self.assertEqual(self.chosen(bare(1536), "large"), [(None, MIB)])
        self.assertEqual(self.plan_of_last["need"],
                         [{"node": None, "size_kib": MIB, "pages": 768}])

    def test_each_cell_has_its_own(self):
        self.assertEqual(self.chosen(bare(3, cells(1024, 512, 2048)), "large"),
                         [(0, GIB), (1, MIB), (2, GIB)])

    def test_cells_fall_to_the_next_size_one_by_one(self):
        self.configure("")
        self.set_pool(0, 1, size_kib=GIB)
        self.set_pool(0, 1024)
        self.assertEqual(self.chosen(bare(3, cells(1024, 1024)), "large"), [(0, GIB), (1, MIB)])
        self.assertEqual(self.chosen(bare(3, cells(2048, 1024)), "large"), [(0, MIB), (1, GIB)])
        self.assertIn("short", self.refused(bare(3, cells(2048, 2048)), "large"))

    def test_a_size_without_pages_is_not_chosen(self):
        self.configure("")  # nothing is grown
        self.set_pool(0, 600)
        self.assertEqual(self.chosen(bare(1024), "large"), [(None, MIB)])
        self.assertEqual(self.plan_of_last["steps"], [])

    def test_large_is_refused_where_no_huge_page_can_be_had(self):
        self.configure("")
        self.assertIn("512 pages of 2 MiB", self.refused(bare(1024), "large"))

    def test_any_takes_normal_pages_and_says_so(self):
        self.configure("")
        self.assertEqual(self.chosen(bare(1024), "any"), [(None, 0)])
        self.assertEqual(self.plan_of_last["need"], [])
        self.assertIn("the guest gets normal pages", self.plan_of_last["warnings"][0])

    def test_any_may_mix_huge_and_normal_cells(self):
        self.configure("")
        self.set_pool(0, 300)
        self.assertEqual(self.chosen(bare(3, cells(512, 600)), "any"), [(0, MIB), (1, 0)])

    def test_any_does_not_give_normal_pages_to_shared_memory(self):
        self.configure("")
        self.plan(bare(1024), "-p", "hugepages=any", "-p", "hugepages_shared=true", status=REFUSED)

    def test_memory_that_no_size_divides(self):
        self.assertIn("no multiple of any huge page size", self.refused(bare(3), "large"))
        self.assertEqual(self.chosen(bare(3), "any"), [(None, 0)])

    def test_sizes_of_the_xml_stay(self):
        self.assertEqual(self.chosen(cases.domain(2048), "large"), [])
        self.assertEqual(self.plan_of_last["need"][0]["size_kib"], MIB)

    def test_bare_hugepages_leaves_the_size_open(self):
        xml = cases.domain(2048, page=" ")
        self.assertEqual(self.chosen(xml, "large"), [(None, GIB)])
        self.configure("")
        self.refused(xml, "any")  # the XML wants huge pages

    def test_memory_device_goes_with_its_cell(self):
        dimm = ("<devices><memory model='dimm'><target><size unit='MiB'>512</size><node>0</node>"
                "</target></memory></devices>")
        self.assertEqual(self.chosen(bare(3, cells(1024, 1024) + dimm), "large"),
                         [(0, MIB), (1, GIB)])

    def test_host_without_huge_pages(self):
        self.make("no-hugetlb.txt")
        self.assertIn("this host has none", self.refused(bare(1024), "large"))
        self.assertEqual(self.chosen(bare(1024), "any"), [])
        self.assertIn("normal ones", self.plan_of_last["warnings"][0])

    def test_memory_device_of_a_guest_without_cells_has_the_guests_size(self):
        dimm = ("<devices><memory model='dimm'><target><size unit='MiB'>512</size></target>"
                "</memory></devices>")
        self.assertEqual(self.chosen(bare(2048, dimm), "large"), [(None, MIB)])
        self.assertEqual(self.plan_of_last["need"], [{"node": None, "size_kib": MIB,
                                                      "pages": 1024}])

    def test_cell_gives_way_to_a_device_of_a_fixed_size(self):
        self.configure("")
        self.set_pool(0, 1, size_kib=GIB)
        self.set_pool(0, 600)
        dimm = ("<devices><memory model='dimm'><source><pagesize unit='G'>1</pagesize></source>"
                "<target><size unit='GiB'>1</size><node>0</node></target></memory></devices>")
        self.assertEqual(self.chosen(bare(3, cells(1024) + dimm), "large"), [(0, MIB)])

    def test_many_cells_fall_together(self):
        self.set_pool(0, 3, size_kib=GIB)
        self.assertEqual([size for _, size in self.chosen(bare(3, cells(*[1024] * 9)), "large")],
                         [GIB] * 9)
        self.configure("")
        self.set_pool(1, 3200)
        chosen = self.chosen(bare(3, cells(*[1024] * 9)), "large")
        self.assertEqual([size for _, size in chosen], [GIB] * 3 + [MIB] * 6)

    def test_any_is_large_for_whatever_is_shared(self):
        self.configure("")
        nic = ("<devices><interface type='vhostuser'><source type='unix' path='/s' mode='server'/>"
               "</interface></devices>")
        for xml in (bare(3, cells(1024, 1024, attributes=["memAccess='shared'", ""])),
                    bare(1024, nic)):
            self.plan(xml, "-p", "hugepages=any", status=REFUSED)
        self.make("no-hugetlb.txt")
        self.plan(bare(1024, nic), "-p", "hugepages=any", status=REFUSED)

    def test_refused_plan_says_nothing_of_what_was_tried(self):
        self.configure("[hugevm]\nbind_unbound=prefer\n")
        plan = self.plan(bare(1024), "-p", "hugepages=large", status=REFUSED)
        self.assertEqual((plan["chosen"], plan["binding"], plan["warnings"]), ([], None, []))

    def test_text_of_a_vm_with_normal_pages(self):
        self.configure("")
        result = self.run_ctl("plan", "-", "-p", "hugepages=any", stdin=bare(1024))
        self.assertIn("need: no huge pages\n", result.stdout)
        self.assertNotIn("free pages are enough", result.stdout)

    def test_value_in_any_case(self):
        self.assertEqual(self.chosen(bare(1024), "Large"), [(None, GIB)])


class BindUnbound(PlacementCase):
    def bind(self, value):
        self.configure(DYNAMIC + f"bind_unbound={value}\n")

    def binding(self, xml, *args):
        plan = self.plan(xml, *args)
        self.assertIsNone(plan["refusal"])
        self.plan_of_last = plan
        binding = plan["binding"]
        return (binding["mode"], binding["node"]) if binding is not None else None

    def test_none_binds_nothing(self):
        self.assertIsNone(self.binding(cases.domain(100)))

    def test_single_node_is_the_tightest_that_has_all(self):
        self.bind("single-node")
        self.assertEqual(self.binding(cases.domain(200)), ("strict", 2))
        self.assertEqual(self.plan_of_last["need"], [{"node": 2, "size_kib": MIB, "pages": 100}])
        self.assertEqual(self.binding(cases.domain(2 * 1100)), ("strict", 3))

    def test_single_node_with_free_pages_comes_before_growth(self):
        self.bind("single-node")
        self.set_pool(1, 100)
        self.assertEqual(self.binding(cases.domain(200)), ("strict", 1))
        self.assertEqual(self.plan_of_last["steps"], [])

    def test_single_node_near_the_cpus(self):
        self.bind("single-node")
        self.assertEqual(self.binding(cases.domain(200, extra="<vcpu cpuset='0-1'>2</vcpu>")),
                         ("strict", 0))

    def test_all_cells_go_to_the_same_node(self):
        self.bind("single-node")
        self.assertEqual(self.binding(cases.domain(3, extra=cells(1200, 1200))), ("strict", 3))

    def test_single_node_refuses_what_no_node_has(self):
        self.bind("single-node")
        plan = self.plan(cases.domain(2 * 1600), status=REFUSED)
        self.assertIn("no node has room for all of it", plan["refusal"]["message"])
        self.assertIn("node 1", plan["refusal"]["message"])
        self.assertIn("bind_unbound = prefer", plan["refusal"]["hint"])

    def test_prefer_goes_beyond_its_node(self):
        self.bind("prefer")
        self.assertEqual(self.binding(cases.domain(200)), ("preferred", 2))
        self.assertEqual(self.binding(cases.domain(2 * 1600)), ("preferred", 1))
        self.assertEqual([(s["node"], s["pages"]) for s in self.plan_of_last["steps"]],
                         [(1, 1536), (0, 64)])

    def test_what_the_xml_says_of_nodes_stays(self):
        self.bind("single-node")
        self.assertIsNone(self.binding(cases.domain(200, extra=numatune("preferred", 0))))
        self.assertIsNone(self.binding(cases.domain(
            200, extra="<numatune><memory mode='strict' placement='auto'/></numatune>")))

    def test_vm_with_normal_pages_too_stays_unbound(self):
        self.bind("single-node")
        self.assertIsNone(self.binding(cases.domain(
            3, page="<page size='2' unit='M' nodeset='0'/>", extra=cells(200, 200))))

    def test_one_node_leaves_nothing_to_bind(self):
        self.make("one-node.txt")
        self.configure("[hugevm]\nbind_unbound=single-node\n")
        self.assertIsNone(self.binding(cases.domain(20)))

    def test_node_and_sizes_are_settled_together(self):
        self.bind("single-node")
        self.assertEqual(self.binding(bare(2048), "-p", "hugepages=large"), ("strict", 0))
        self.assertEqual(self.plan_of_last["chosen"], [{"cell": None, "size_kib": GIB}])
        self.assertEqual(self.plan_of_last["need"], [{"node": 0, "size_kib": GIB, "pages": 2}])

    def test_any_with_normal_pages_is_not_bound(self):
        self.bind("single-node")
        plan = self.plan(bare(2 * 9000), "-p", "hugepages=any")
        self.assertIsNone(plan["binding"])
        self.assertEqual(plan["chosen"], [{"cell": None, "size_kib": 0}])

    def test_any_beyond_one_node_is_not_bound_and_told(self):
        self.bind("single-node")
        plan = self.plan(bare(2 * 1600), "-p", "hugepages=any")
        self.assertIsNone(plan["binding"])
        self.assertIn("it is not bound to one", plan["warnings"][0])


if __name__ == "__main__":
    sys.exit(tap.main())
