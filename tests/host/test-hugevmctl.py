#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs hugevmctl on fixture trees: exact keys of its JSON, exit status, what it leaves behind.

usage: test-hugevmctl.py HUGEVMCTL MAKE-TREE TREES
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HUGEVMCTL, MAKE_TREE, TREES = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
DONE, REFUSED, USAGE, SYSTEM = 0, 1, 2, 3

POOL_KEYS = {"node", "size_kib", "total", "free", "surplus", "reserved", "grown", "claimed",
             "allocatable"}
SIZE_KEYS = {"size_kib", "resv", "reserved_floating", "default"}
PLAN_KEYS = {"version", "vm", "need", "shared", "steps", "refusal", "warnings"}


def domain(memory_mib=200, page="<page size='2' unit='M'/>", extra="", uuid=UUID):
    hugepages = f"<memoryBacking><hugepages>{page}</hugepages></memoryBacking>" if page else ""
    identity = f"<uuid>{uuid}</uuid>" if uuid else ""
    return (f"<domain type='kvm'><name>web</name>{identity}<memory unit='MiB'>{memory_mib}"
            f"</memory>{hugepages}{extra}<os><type>hvm</type></os></domain>")


class HostCase(unittest.TestCase):
    tree = "one-node.txt"

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="hugevm-ctl-")
        self.addCleanup(self.directory.cleanup)
        self.make(self.tree)

    def make(self, tree):
        """A fresh host."""
        self.root = pathlib.Path(tempfile.mkdtemp(dir=self.directory.name))
        subprocess.run([MAKE_TREE, TREES / tree, self.root], check=True)

    def configure(self, text):
        path = self.root / "etc/hugevm/hugevm.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def files(self):
        return {str(p.relative_to(self.root)): p.read_bytes()
                for p in sorted(self.root.rglob("*")) if p.is_file()}

    def run_ctl(self, *args, stdin=""):
        return subprocess.run([HUGEVMCTL, "--root", str(self.root), *map(str, args)], input=stdin,
                              capture_output=True, text=True, timeout=60, check=False)

    def json_of(self, *args, stdin="", status=DONE):
        result = self.run_ctl("--json", *args, stdin=stdin)
        self.assertEqual(result.returncode, status, result.stderr)
        return json.loads(result.stdout)

    def plan(self, xml, *args, status=DONE):
        return self.json_of("plan", "-", *args, stdin=xml, status=status)


class Status(HostCase):
    def test_status_has_the_promised_keys(self):
        report = self.json_of("status")
        self.assertEqual(report["version"], 1)
        self.assertEqual(len(report["pools"]), 2)
        for pool in report["pools"]:
            self.assertLessEqual(POOL_KEYS, set(pool))
        for size in report["sizes"]:
            self.assertLessEqual(SIZE_KEYS, set(size))

    def test_status_shows_the_kernels_counters(self):
        report = self.json_of("status")
        pool = report["pools"][0]
        self.assertEqual((pool["node"], pool["size_kib"]), (0, 2048))
        self.assertEqual((pool["total"], pool["free"], pool["surplus"]), (100, 60, 4))
        self.assertEqual((pool["grown"], pool["claimed"], pool["reserved"]), (0, 0, 0))
        self.assertEqual(report["sizes"][0]["resv"], 3)
        self.assertEqual([s["default"] for s in report["sizes"]], [True, False])

    def test_allocatable_takes_off_promises_and_reserves(self):
        self.configure("[hugevm]\nreserved = size:2M,count:50\n")
        report = self.json_of("status")
        # 60 free, 3 promised; 43 of the 50 are in use or promised by others; 1 overcommitted more
        self.assertEqual(report["sizes"][0]["reserved_floating"], 50)
        self.assertEqual(report["pools"][0]["allocatable"], 60 - 3 - 7 + 1)

    def test_allocatable_forecasts_growth_where_it_is_on(self):
        self.configure("[performance]\nuse_dynamic_hugepages=true\n"
                       "[hugevm]\nhost_memory_floor=7G,0%\n")
        pools = self.json_of("status")["pools"]
        self.assertEqual(pools[1]["allocatable"], 1 + 1)  # 8 GiB available, 7 are kept

    def test_reserve_that_the_host_does_not_have_is_a_warning(self):
        self.configure("[hugevm]\nreserved = ovs=size:2M,count:10,node:5\n")
        text = "reserved pages of 2 MiB for 'ovs' on node 5: there is no such pool"
        self.assertIn(text, self.json_of("status")["warnings"][0])
        self.assertIn(text, self.run_ctl("status").stderr)

    def test_all_nodes_are_shown(self):
        self.make("node-gaps.txt")
        self.assertEqual([p["node"] for p in self.json_of("status")["pools"]], [0, 2, 17])

    def test_host_without_huge_pages_has_empty_lists(self):
        self.make("no-hugetlb.txt")
        report = self.json_of("status")
        self.assertEqual((report["pools"], report["sizes"]), ([], []))
        self.assertEqual(self.run_ctl("status").returncode, DONE)

    def test_status_leaves_no_trace(self):
        before = self.files()
        self.json_of("status")
        self.run_ctl("status")
        self.assertEqual(self.files(), before)

    def test_text_shows_each_pool(self):
        result = self.run_ctl("status")
        self.assertEqual(result.returncode, DONE)
        self.assertIn("2 MiB", result.stdout)
        self.assertIn("1 GiB", result.stdout)
        self.assertEqual(result.stderr, "")

    def test_malformed_counter_is_a_system_error(self):
        path = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
        (self.root / path).write_text("x\n")
        result = self.run_ctl("status")
        self.assertEqual(result.returncode, SYSTEM)
        self.assertIn(path, result.stderr)

    def test_missing_root_is_a_system_error(self):
        result = subprocess.run([HUGEVMCTL, "--root", "/nonexistent", "status"],
                                capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, SYSTEM)
        self.assertIn("/nonexistent/proc/meminfo", result.stderr)


class Forecast(HostCase):
    """Two nodes with as much free memory; on one of them it is scattered, and stays so."""
    tree = "fragmented.txt"
    grows = "[performance]\nuse_dynamic_hugepages=true\n[hugevm]\nhost_memory_floor=0,0%\n"
    bound = "<numatune><memory mode='strict' nodeset='{}'/></numatune>"

    def allocatable(self):
        return [p["allocatable"] for p in self.json_of("status")["pools"]]

    def test_allocatable_is_what_lies_in_one_piece(self):
        self.configure(self.grows)
        self.assertEqual(self.allocatable(), [493, 0, 12, 0])  # of 500, a few are left out

    def test_without_growth_nothing_is_forecast(self):
        self.assertEqual(self.allocatable(), [0, 0, 0, 0])

    def test_kernel_that_does_not_tell_is_forecast_by_memory(self):
        self.configure(self.grows)
        (self.root / "proc/buddyinfo").unlink()
        self.assertEqual(self.allocatable(), [512, 1, 512, 1])
        self.assertEqual(self.json_of("status")["warnings"], [])

    def test_status_survives_what_no_kernel_writes(self):
        self.configure(self.grows)
        whole = (self.root / "proc/buddyinfo").read_text()
        for text in ("", "Node 0, zone\n", whole[:-20], whole.replace("12", "x"), whole * 40000,
                     "\x00"):
            (self.root / "proc/buddyinfo").write_text(text)
            report = self.json_of("status")
            self.assertEqual([p["allocatable"] for p in report["pools"]], [512, 1, 512, 1])
            self.assertEqual(len(report["warnings"]), 1)
            self.assertIn("/proc/buddyinfo", report["warnings"][0])
            self.assertIn("/proc/buddyinfo", self.run_ctl("status").stderr)

    def test_plan_warns_of_growth_that_is_not_likely(self):
        self.configure(self.grows)
        report = self.plan(domain(188, extra=self.bound.format(1)))
        self.assertIsNone(report["refusal"])
        self.assertEqual([(s["node"], s["pages"]) for s in report["steps"]], [(1, 94)])
        self.assertEqual(len(report["warnings"]), 1)
        self.assertIn("node 1 is likely to give only about 12 of the 94 pages of 2 MiB",
                      report["warnings"][0])
        row = [r for r in report["table"] if r["node"] == 1][0]
        self.assertEqual((row["growable_at_once"], row["growable"], row["growable_by_memory"]),
                         (12, 12, 512))

    def test_plan_of_growth_that_is_likely_has_no_warning(self):
        self.configure(self.grows)
        self.assertEqual(self.plan(domain(188, extra=self.bound.format(0)))["warnings"], [])
        self.assertEqual(self.plan(domain(188))["warnings"], [])

    def test_table_says_why_growable_is_less_than_short_allows_for(self):
        self.configure(self.grows)
        result = self.run_ctl("plan", "-", stdin=domain(1100, extra=self.bound.format(1)))
        self.assertEqual(result.returncode, REFUSED)
        text = result.stdout + result.stderr
        self.assertIn("38 short", text)
        self.assertIn("500 more pages of 2 MiB", text)


class Plan(HostCase):
    def test_plan_has_exactly_the_promised_keys(self):
        plan = self.plan(domain(memory_mib=100))
        self.assertLessEqual(PLAN_KEYS, set(plan))
        self.assertEqual(plan["version"], 1)
        self.assertEqual(plan["vm"], {"uuid": UUID, "name": "web"})
        self.assertEqual(plan["need"], [{"node": None, "size_kib": 2048, "pages": 50}])
        self.assertEqual(plan["steps"], [])
        self.assertIs(plan["shared"], False)
        self.assertIsNone(plan["refusal"])
        self.assertEqual(plan["warnings"], [])

    def test_growth_shows_as_steps(self):
        self.configure("[performance]\nuse_dynamic_hugepages=true\n"
                       "[hugevm]\nhost_memory_floor=0,0%\n")
        plan = self.plan(domain(memory_mib=200))
        # 60 free, 3 promised, 1 overcommitted page is left
        self.assertEqual(plan["steps"],
                         [{"action": "grow", "node": 0, "size_kib": 2048, "pages": 42}])
        self.assertIsNone(plan["refusal"])

    def test_shortage_is_refused_with_reason_and_hint(self):
        plan = self.plan(domain(memory_mib=200), status=REFUSED)
        self.assertEqual(set(plan["refusal"]), {"code", "message", "hint", "agreement"})
        self.assertEqual(plan["refusal"]["code"], "shortage")
        self.assertIsNone(plan["refusal"]["agreement"])
        self.assertIn("42 short", plan["refusal"]["message"])
        self.assertIn("use_dynamic_hugepages", plan["refusal"]["hint"])
        self.assertEqual(plan["steps"], [])

    def test_refusal_comes_with_a_table_of_the_pools(self):
        self.make("four-nodes.txt")
        xml = domain(memory_mib=4096, extra="<numatune><memory nodeset='1'/></numatune>")
        rows = self.plan(xml, status=REFUSED)["table"]
        self.assertEqual([(row["node"], row["size_kib"]) for row in rows],
                         [(node, 2048) for node in range(4)])
        self.assertEqual([row["wanted"] for row in rows], [0, 2048, 0, 0])
        self.assertEqual(rows[1]["short"], 2048 - rows[1]["available"])
        shown = self.run_ctl("plan", "-", stdin=xml).stdout.splitlines()
        titles = next(line.split() for line in shown if line.lstrip().startswith("node"))
        line = next(line.split() for line in shown if line.split()[:3] == ["1", "2", "MiB"])
        self.assertEqual(line[3:3 + 2], ["2048", str(rows[1]["short"])])
        self.assertEqual(titles[2:4], ["wanted", "short"])

    def test_refusal_is_told_on_stderr_as_well(self):
        for args in ((), ("--json",)):
            result = self.run_ctl(*args, "plan", "-", stdin=domain(memory_mib=200))
            self.assertEqual(result.returncode, REFUSED)
            self.assertIn("42 short", result.stderr)
            self.assertIn("what to do:", result.stderr)

    def test_property_asks_for_pages(self):
        plan = self.plan(domain(memory_mib=100, page=None), "--property", "hugepages=2048")
        self.assertEqual(plan["need"], [{"node": None, "size_kib": 2048, "pages": 50}])

    def test_shared_property_is_shown(self):
        self.assertIs(self.plan(domain(memory_mib=100), "--property",
                                "hugepages_shared=true")["shared"], True)

    def test_vm_without_huge_pages_needs_nothing(self):
        plan = self.plan(domain(page=None))
        self.assertEqual((plan["need"], plan["steps"], plan["refusal"]), ([], [], None))

    def test_meaningless_property_is_refused(self):
        plan = self.plan(domain(), "--property", "hugepages=abc", status=REFUSED)
        self.assertEqual(plan["refusal"]["code"], "bad-property")
        self.assertLessEqual(PLAN_KEYS, set(plan))

    def test_broken_xml_is_refused(self):
        plan = self.plan("<domain", status=REFUSED)
        self.assertEqual(plan["refusal"]["code"], "bad-xml")

    def test_need_shows_the_node_it_is_bound_to(self):
        self.make("four-nodes.txt")
        tune = "<numatune><memory mode='strict' nodeset='0'/></numatune>"
        plan = self.plan(domain(memory_mib=100, extra=tune))
        self.assertEqual(plan["need"], [{"node": 0, "size_kib": 2048, "pages": 50}])

    def test_plan_leaves_no_trace(self):
        self.configure("[performance]\nuse_dynamic_hugepages=true\n")
        before = self.files()
        self.plan(domain(memory_mib=200))
        self.assertEqual(self.files(), before)

    def test_plan_reads_a_file(self):
        path = self.root / "vm.xml"
        path.write_text(domain(memory_mib=100))
        self.assertIsNone(self.json_of("plan", path)["refusal"])

    def test_missing_file_is_a_system_error(self):
        result = self.run_ctl("plan", self.root / "none.xml")
        self.assertEqual(result.returncode, SYSTEM)
        self.assertIn("none.xml", result.stderr)

    def test_text_says_what_would_happen(self):
        result = self.run_ctl("plan", "-", stdin=domain(memory_mib=100))
        self.assertEqual(result.returncode, DONE)
        self.assertIn("'web'", result.stdout)
        self.assertIn("50 x 2 MiB", result.stdout)
        self.assertIn("would be allowed", result.stdout)


class Config(HostCase):
    def test_every_setting_has_a_value_and_a_place(self):
        self.configure("[hugevm]\n\ndrop_caches = true\n")
        report = self.json_of("config")
        settings = {(s["section"], s["key"]): s for s in report["settings"]}
        for setting in settings.values():
            self.assertLessEqual({"section", "key", "value", "file", "line"}, set(setting))
        changed = settings["hugevm", "drop_caches"]
        self.assertEqual((changed["value"], changed["line"]), ("true", 3))
        self.assertTrue(changed["file"].endswith("/etc/hugevm/hugevm.conf"))
        self.assertIsNone(settings["performance", "use_dynamic_hugepages"]["file"])
        self.assertEqual(report["warnings"], [])

    def test_conf_replaces_the_standard_files(self):
        self.configure("[hugevm]\ndrop_caches = true\n")
        mine = self.root / "mine.conf"
        mine.write_text("[hugevm]\ncompact = false\n")
        report = self.json_of("--conf", mine, "config")
        values = {s["key"]: s["value"] for s in report["settings"]}
        self.assertEqual((values["drop_caches"], values["compact"]), ("false", "false"))

    def test_bad_value_names_file_and_line(self):
        self.configure("[hugevm]\ncompact = perhaps\n")
        for command in (("config",), ("status",)):
            result = self.run_ctl(*command)
            self.assertEqual(result.returncode, SYSTEM)
            self.assertIn("hugevm.conf:2", result.stderr)
            self.assertIn("perhaps", result.stderr)

    def test_text_names_the_places(self):
        result = self.run_ctl("config")
        self.assertEqual(result.returncode, DONE)
        self.assertIn("built in", result.stdout)


class Claims(HostCase):
    ledger = {
        "format": 1, "boot_id": "0b6b6e4c-0000-4000-8000-000000000001", "last_generation": 3, "handover_failed": False,
        "grown": [{"node": 0, "size_kib": 2048, "grown_pages": 40, "persistent_pages": 96,
                   "handed_pages": 0, "regained_pages": 0}],
        "intents": [],
        "claims": [{"uuid": UUID, "name": "web\u001b[31m", "generation": 3, "state": "running",
                    "owner_name": "agent", "owner": {"pid": 4711, "start_ticks": 5},
                    "qemu": {"pid": 0, "start_ticks": 0}, "shared": False, "from_hugetlbfs": True, "files": [], "may_hand_over": False,
                    "is_handed_over": False,
                    "needs": [{"nodes": "any", "size_kib": 2048, "pages": 40}]}]}

    def setUp(self):
        super().setUp()
        process = self.root / "proc/4711/stat"
        process.parent.mkdir(parents=True)
        process.write_text("4711 (agent) S" + " 0" * 18 + " 5 0\n")
        store = self.root / "run/hugevm"
        store.mkdir(mode=0o755)
        (store / "ledger.json").write_text(json.dumps(self.ledger))

    def test_claims_are_listed(self):
        report = self.json_of("claims")
        self.assertEqual(report["version"], 1)
        claim = report["claims"][0]
        self.assertEqual((claim["uuid"], claim["state"], claim["generation"]), (UUID, "running", 3))

    def test_status_counts_them(self):
        pool = self.json_of("status")["pools"][0]
        self.assertEqual((pool["grown"], pool["claimed"]), (40, 40))

    def test_text_hides_terminal_escapes(self):
        result = self.run_ctl("claims")
        self.assertEqual(result.returncode, DONE)
        self.assertNotIn("\x1b", result.stdout)
        self.assertIn(UUID, result.stdout)

    def test_release_lets_go_of_one(self):
        self.assertEqual(self.run_ctl("release", UUID.upper()).returncode, DONE)
        self.assertEqual(self.json_of("claims")["claims"], [])

    def test_release_of_an_unknown_vm_is_no_error(self):
        result = self.run_ctl("release", "00000000-0000-0000-0000-000000000001")
        self.assertEqual(result.returncode, DONE)
        self.assertEqual(len(self.json_of("claims")["claims"]), 1)

    def test_release_wants_a_uuid(self):
        self.assertEqual(self.run_ctl("release", "web").returncode, USAGE)

    def test_reconcile_lets_go_of_the_dead_only(self):
        self.assertEqual(self.run_ctl("reconcile").returncode, DONE)
        self.assertEqual(len(self.json_of("claims")["claims"]), 1)
        (self.root / "proc/4711/stat").unlink()
        self.assertEqual(self.run_ctl("reconcile").returncode, DONE)
        self.assertEqual(self.json_of("claims")["claims"], [])

    def test_drain_names_what_is_left_and_what_to_do(self):
        result = self.run_ctl("drain")
        self.assertEqual((result.returncode, result.stdout), (REFUSED, ""))
        for part in ("not empty", UUID, "40 x 2 MiB", "on node 0", "end these VMs", "migrate"):
            self.assertIn(part, result.stderr)
        self.assertNotIn("\x1b", result.stderr)
        result = self.run_ctl("--json", "drain")
        report = json.loads(result.stdout)
        self.assertEqual((result.returncode, report["empty"]), (REFUSED, False))
        self.assertEqual([claim["uuid"] for claim in report["claims"]], [UUID])
        self.assertEqual([(pool["node"], pool["size_kib"], pool["pages"])
                          for pool in report["grown"]], [(0, 2048, 40)])

    def grew_nothing(self):
        (self.root / "run/hugevm/ledger.json").write_text(json.dumps({**self.ledger, "grown": []}))

    def test_drain_succeeds_and_says_nothing_on_an_empty_host(self):
        self.grew_nothing()
        (self.root / "proc/4711/stat").unlink()
        result = self.run_ctl("drain")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (DONE, "", ""))
        report = self.json_of("drain")
        self.assertEqual((report["empty"], report["claims"], report["grown"]), (True, [], []))

    def test_drain_waits_for_the_end_of_a_vm(self):
        self.grew_nothing()
        timer = threading.Timer(0.3, (self.root / "proc/4711/stat").unlink)
        timer.start()
        begin = time.monotonic()
        result = self.run_ctl("drain", "--wait", "20")
        timer.join()
        self.assertEqual((result.returncode, result.stderr), (DONE, ""))
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)
        self.assertEqual(self.run_ctl("drain", "--wait=-1").returncode, USAGE)

    def test_newer_ledger_is_a_system_error(self):
        newer = dict(self.ledger, format=2)
        (self.root / "run/hugevm/ledger.json").write_text(json.dumps(newer))
        for command in ("status", "claims"):
            result = self.run_ctl(command)
            self.assertEqual(result.returncode, SYSTEM)
            self.assertIn("newer", result.stderr)


class Audit(HostCase):
    """A tree that is as a sound host would be, and then is not."""

    claim = {"uuid": UUID, "name": "web\u001b[31m", "generation": 3, "state": "running",
             "owner_name": "agent", "owner": {"pid": 4711, "start_ticks": 5},
             "qemu": {"pid": 4712, "start_ticks": 6}, "shared": False, "from_hugetlbfs": True,
             "may_hand_over": False, "is_handed_over": False,
             "files": [], "needs": [{"nodes": "any", "size_kib": 2048, "pages": 40}]}
    sound = {"format": 1, "boot_id": "0b6b6e4c-0000-4000-8000-000000000001", "last_generation": 3,
             "handover_failed": False,
             "grown": [{"node": 0, "size_kib": 2048, "grown_pages": 36, "persistent_pages": 96,
                        "handed_pages": 0, "regained_pages": 0}],
             "intents": [], "claims": [claim]}

    def setUp(self):
        super().setUp()
        self.process(4711, 5, "agent")
        self.process(4712, 6, "qemu", huge_kib=81920, words=("qemu", "-uuid", UUID))
        (self.root / "run/hugevm").mkdir(mode=0o755)
        self.ledger()

    def process(self, pid, start, name, huge_kib=0, words=()):
        directory = self.root / f"proc/{pid}"
        directory.mkdir(parents=True)
        (directory / "stat").write_text(f"{pid} ({name}) S" + " 0" * 18 + f" {start} 0\n")
        (directory / "comm").write_text(name + "\n")
        (directory / "status").write_text(f"Uid:\t0\t0\t0\t0\nHugetlbPages:\t{huge_kib} kB\n")
        (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))

    def end(self, pid):
        for path in (self.root / f"proc/{pid}").iterdir():
            path.unlink()
        (self.root / f"proc/{pid}").rmdir()

    def ledger(self, **changes):
        for name in ("ledger.json", "ledger.copy.json"):
            (self.root / "run/hugevm" / name).write_text(json.dumps({**self.sound, **changes}))

    def kinds(self, *args, status=DONE):
        report = self.json_of("audit", *args, status=status)
        self.assertEqual(set(report), {"version", "findings", "remaining"})
        self.assertEqual(report["version"], 1)
        for finding in report["findings"]:
            self.assertEqual(set(finding), {"kind", "level", "uuid", "text", "repair", "hint"})
            self.assertTrue(finding["text"].isprintable(), finding["text"])
        return [finding["kind"] for finding in report["findings"]]

    def remaining(self, status=DONE):
        report = self.json_of("audit", "--repair", status=status)
        return [finding["kind"] for finding in report["remaining"]]

    def test_sound_host_has_no_findings(self):
        self.assertEqual(self.kinds(), [])
        self.assertEqual(self.run_ctl("audit").stdout, "nothing found\n")

    def test_audit_leaves_no_trace(self):
        self.end(4711)
        self.end(4712)
        before = self.files()
        self.kinds(status=REFUSED)
        self.run_ctl("audit")
        self.assertEqual(self.files(), before)

    def test_dead_claim_is_found_and_removed(self):
        self.end(4712)
        self.assertEqual(self.kinds(status=REFUSED), ["dead-claim"])
        self.assertNotIn("dead-claim", self.remaining(status=REFUSED))
        self.assertEqual(self.json_of("claims")["claims"], [])

    def test_findings_are_printed_before_the_repair(self):
        self.end(4712)
        text = self.run_ctl("audit", "--repair").stdout
        before, after = text.split("after the repair:\n")
        self.assertIn(f"error: dead-claim: VM {UUID} 'web\\x1b[31m'", before)
        self.assertNotIn("dead-claim", after)

    def test_with_json_the_findings_go_to_stderr_first(self):
        self.end(4712)
        result = self.run_ctl("--json", "audit", "--repair")
        self.assertIn("error: dead-claim", result.stderr)
        self.assertEqual(json.loads(result.stdout)["findings"][0]["kind"], "dead-claim")

    def test_agent_that_has_missed_the_end_is_found(self):
        self.end(4712)
        self.ledger(claims=[{**self.claim, "qemu": {"pid": 0, "start_ticks": 0}}])
        self.assertEqual(self.kinds(status=REFUSED), ["ended-claim"])
        self.assertEqual(self.remaining(status=REFUSED), ["ended-claim"])

    def test_vm_without_claim_is_a_note(self):
        self.process(5000, 7, "qemu", 65536, ("qemu", "-name", "guest=db,x=y", "-uuid", UUID[::-1]
                                              .replace("-", "")))
        self.assertEqual(self.kinds(), ["outside-vm"])
        self.assertIn("note: outside-vm: VM", self.run_ctl("audit").stdout)
        self.assertIn("'db'", self.run_ctl("audit").stdout)

    def test_other_user_of_pages_is_a_note(self):
        self.process(5000, 7, "db", 2048)
        self.assertEqual(self.kinds(), ["foreign-use"])

    def test_killed_writer_is_found_and_made_good(self):
        self.ledger(grown=[], intents=[{"node": 0, "size_kib": 2048, "before_pages": 90,
                                        "target_pages": 120, "others_pages": 0, "is_handover": False}])
        self.assertEqual(self.kinds(status=REFUSED), ["open-intent"])
        self.assertNotIn("open-intent", self.remaining())

    def test_pool_resized_by_somebody_else_is_a_note(self):
        self.ledger(grown=[{"node": 0, "size_kib": 2048, "grown_pages": 36,
                            "persistent_pages": 106, "handed_pages": 0,
                            "regained_pages": 0}])
        self.assertEqual(self.kinds(), ["drift"])

    def test_damaged_ledger_is_found_and_replaced(self):
        path = self.root / "run/hugevm/ledger.json"
        path.write_text("{{{")
        self.assertEqual(self.kinds(status=REFUSED), ["ledger-damaged"])
        self.assertEqual(path.read_text(), "{{{")
        self.assertEqual(self.remaining(), [])
        self.assertEqual(len(self.json_of("claims")["claims"]), 1)

    def test_two_damaged_ledgers_are_found_and_replaced(self):
        for name in ("ledger.json", "ledger.copy.json"):
            (self.root / "run/hugevm" / name).write_text("[]")
        self.assertEqual(self.kinds(status=REFUSED), ["ledger-damaged", "outside-vm"])
        self.assertEqual(self.remaining(), ["outside-vm"])

    def test_ledger_of_another_boot_is_a_note(self):
        self.ledger(boot_id="another")
        self.assertEqual(self.kinds(), ["ledger-other-boot", "outside-vm"])

    def test_newer_ledger_is_a_system_error(self):
        self.ledger(format=2)
        self.assertEqual(self.run_ctl("audit").returncode, SYSTEM)

    def test_guards_without_a_ledger_are_found(self):
        (self.root / "run/hugevm/ledger.json").unlink()
        (self.root / "run/hugevm/ledger.copy.json").unlink()
        self.end(4712)
        path = self.root / "proc/sysvipc/shm"
        path.parent.mkdir()
        path.write_text(f"key shmid\n{0x487 << 20 | 11 << 15 | 3} 9 600 {40 << 21} 1 0 0 0 0 0 0 "
                        "0 0 1 0 0\n")
        self.assertEqual(self.kinds(status=REFUSED), ["ledger-missing", "stray-guard"])

    def test_guards_that_die_with_their_maker_are_a_note(self):
        path = self.root / "proc/sys/kernel/shm_rmid_forced"
        path.write_text("1\n")
        self.assertEqual(self.kinds(), ["short-lived-guards"])

    def test_host_without_hugevm_has_no_findings(self):
        self.make("no-hugetlb.txt")
        self.assertEqual(self.kinds(), [])
        self.assertFalse((self.root / "run/hugevm").exists())

    def test_libvirt_of_another_host_is_not_asked(self):
        for uri in ("qemu+ssh://other/system", "qemu+tcp://127.0.0.1/system", "test:///default",
                    "xen:///system", "nonsense"):
            with self.subTest(uri=uri):
                result = self.run_ctl("audit", "--connect", uri)
                self.assertEqual(result.returncode, USAGE, result.stderr)
                self.assertIn(uri, result.stderr)
                self.assertEqual(result.stdout, "")


class ConfigOnly(HostCase):
    """run --config-only"""

    def printed(self, xml, *args):
        before = self.files()
        result = self.run_ctl("run", "-", "--config-only", *args, stdin=xml)
        self.assertEqual((result.returncode, self.files()), (DONE, before), result.stderr)
        return result.stdout

    def test_the_edited_xml_is_printed(self):
        self.configure("[performance]\nuse_dynamic_hugepages = true\n")
        xml = domain(page="")
        printed = self.printed(xml, "-p", "hugepages=2048", "-p", "hugepages_shared=true")
        self.assertIn('<page size="2048" unit="KiB"/>', printed.replace("'", '"'))
        self.assertIn("shared", printed)
        start, _, rest = xml.partition("<os>")
        self.assertTrue(printed.startswith(start) and printed.endswith(rest), printed)

    def test_what_is_printed_needs_no_further_edit(self):
        self.configure("[performance]\nuse_dynamic_hugepages = true\n")
        printed = self.printed(domain(page=""), "-p", "hugepages=2048")
        self.assertEqual(self.printed(printed, "-p", "hugepages=2048"), printed)
        self.assertEqual(self.printed(printed), printed)

    def test_an_xml_without_huge_pages_is_printed_as_it_came(self):
        self.configure("no configuration")
        xml = domain(page="") + "\n\n"
        self.assertEqual(self.printed(xml), xml)

    def test_a_refusal_prints_no_xml(self):
        before = self.files()
        result = self.run_ctl("run", "-", "--config-only", stdin=domain(memory_mib=1 << 30))
        self.assertEqual((result.returncode, result.stdout), (REFUSED, ""))
        self.assertIn("what to do: ", result.stderr)
        self.assertEqual(self.files(), before)
        plan = self.run_ctl("plan", "-", stdin=domain(memory_mib=1 << 30))
        self.assertEqual(result.stderr, plan.stderr)


class Usage(HostCase):
    def test_misuse_is_told_with_status_2(self):
        for args in ([], ["fly"], ["--fly"], ["status", "more"], ["plan"], ["plan", "a", "b"],
                     ["status", "--fly"], ["release"], ["plan", "-", "--property", "x"],
                     ["run"], ["run", "-", "--for", "-1"], ["run", "--config-only", "-", "-"],
                     ["config", "x"], ["audit", "x"], ["audit", "-c"]):
            with self.subTest(args=args):
                result = self.run_ctl(*args, stdin=domain())
                self.assertEqual(result.returncode, USAGE, result.stderr)
                self.assertTrue(result.stderr.startswith("hugevmctl: "), result.stderr)
                self.assertEqual(result.stdout, "")

    def test_help_and_version_are_no_errors(self):
        for args in (["--help"], ["--version"], ["plan", "--help"]):
            result = self.run_ctl(*args)
            self.assertEqual(result.returncode, DONE)
            self.assertNotEqual(result.stdout, "")

    def test_global_options_may_follow_the_command(self):
        result = self.run_ctl("status", "--json")
        self.assertEqual(json.loads(result.stdout)["version"], 1)


class TapResult(unittest.TestResult):
    """One line per test, as meson reads them."""

    def report(self, ok, test):
        number = self.testsRun
        print("ok" if ok else "not ok", number, "-", test.id().replace("__main__.", ""), flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        if not any(failed is test or getattr(failed, "test_case", None) is test
                   for failed, _ in self.failures + self.errors):
            self.report(True, test)

    def fail(self, test, err):
        for line in self._exc_info_to_string(err, test).splitlines():
            print("#", line)
        self.report(False, test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.fail(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self.fail(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            for line in self._exc_info_to_string(err, test).splitlines():
                print("#", subtest.id(), line)

    def stopTest(self, test):
        super().stopTest(test)
        if any(getattr(failed, "test_case", None) is test for failed, _ in self.failures):
            self.report(False, test)


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    print(f"1..{suite.countTestCases()}")
    result = TapResult()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
