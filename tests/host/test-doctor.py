#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevmctl doctor on fixture trees: each check finds what it is for, and nothing on a sound host.

usage: test-doctor.py HUGEVMCTL MAKE-TREE TREES
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

DONE, REFUSED, SYSTEM = cases.DONE, cases.REFUSED, cases.SYSTEM
BOOT = "0b6b6e4c-0000-4000-8000-000000000001"
LEDGER = {"format": 1, "boot_id": BOOT, "last_generation": 0, "handover_failed": False,
          "grown": [], "intents": [], "claims": []}
DYNAMIC = "[performance]\nuse_dynamic_hugepages = true\n"
CHECKS = ["settings", "reserve", "huge-pages", "gigantic-pages", "default-size", "mounts", "ledger",
          "guards", "handover", "surplus", "overcommit", "memory-floor", "file-backed"]


class DoctorCase(cases.HostCase):
    """A sound host with two nodes, each with pages of 2 MiB and 1 GiB."""

    host = """arch x86_64
mem available=16777216 default=2048
size 2048
size 1048576 demote=2048
node 0 total=8388608 free=6291456 low=16384
node 1 total=8388608 free=6291456 low=16384
pool 0 2048 total=10 free=10
pool 1 2048 total=10 free=10
pool 0 1048576
pool 1 1048576
file /proc/sys/kernel/osrelease 6.18.0-1-amd64\\n
file /proc/cpuinfo processor\\t: 0\\nvmx flags\\t: pdpe1gb\\nflags\\t\\t: fpu pse pdpe1gb lm\\n
"""

    def setUp(self):
        super().setUp()
        self.make_host(self.host)
        self.configure(DYNAMIC)

    def make_host(self, description):
        shutil.rmtree(self.root)
        path = pathlib.Path(self.directory.name) / "host.txt"
        path.write_text(description.replace("\\t", "\t"))
        subprocess.run([cases.MAKE_TREE, path, self.root], check=True)
        self.mount("2M", "1024M")

    def mount(self, *sizes, known=True):
        lines = []
        for size in sizes:
            lines.append(f"none /dev/huge-{size} hugetlbfs rw,relatime,pagesize={size} 0 0\n")
            (self.root / f"dev/huge-{size}/libvirt/qemu").mkdir(parents=True, exist_ok=True)
            if not known:
                shutil.rmtree(self.root / f"dev/huge-{size}/libvirt")
        path = self.root / "proc/self/mounts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def ledger(self, text):
        (self.root / "run/hugevm").mkdir(mode=0o755, exist_ok=True)
        for name in ("ledger.json", "ledger.copy.json"):
            self.write(f"run/hugevm/{name}", text if isinstance(text, str) else json.dumps(text))

    def doctor(self, status=DONE):
        """{check: [row, ...]}"""
        report = self.json_of("doctor", status=status)
        self.assertEqual((set(report), report["version"]), ({"version", "checks"}, 1))
        found = {}
        for row in report["checks"]:
            self.assertEqual(set(row), {"check", "level", "text", "hint"})
            self.assertTrue(row["text"].isprintable(), row["text"])
            found.setdefault(row["check"], []).append(row)
        return found

    def finds(self, check, level, *parts, count=1):
        """The check says so, and all others find no more than on the sound host."""
        found = self.doctor(status=REFUSED if level == "problem" else DONE)
        rows = [row for row in found[check] if row["level"] == level]
        self.assertEqual(len(rows), count, found[check])
        for part in parts:
            self.assertIn(part, f"{rows[0]['text']}\n{rows[0]['hint']}")
        others = [row for name, some in found.items() if name != check for row in some]
        self.assertEqual([row for row in others if row["level"] != "ok"], [])
        return rows


class Sound(DoctorCase):
    def test_every_check_is_ok(self):
        found = self.doctor()
        self.assertEqual(list(found), CHECKS)
        for check in CHECKS:
            self.assertEqual([row["level"] for row in found[check]], ["ok"], found[check])
        self.assertIn("2 MiB, 1 GiB", found["huge-pages"][0]["text"])
        self.assertIn("2 MiB", found["default-size"][0]["text"])

    def test_text_has_one_line_per_check(self):
        result = self.run_ctl("doctor")
        self.assertEqual((result.returncode, result.stderr), (DONE, ""))
        self.assertEqual([line.split(": ")[:2] for line in result.stdout.splitlines()],
                         [["ok", check] for check in CHECKS])

    def test_doctor_leaves_no_trace(self):
        before = self.files()
        self.doctor()
        self.run_ctl("doctor")
        self.assertEqual(self.files(), before)

    def test_problems_are_counted_on_stderr_and_in_the_status(self):
        self.configure(DYNAMIC + "[hugevm]\nreserved = a=size:2M,count:1,node:8\n"
                                 "    b=size:4M,count:1\n")
        result = self.run_ctl("doctor")
        self.assertEqual((result.returncode, result.stderr), (REFUSED, "hugevmctl: 2 problems\n"))
        self.assertIn("\nproblem: reserve: ", result.stdout)
        self.assertIn("\n  what to do: ", result.stdout)

    def test_operands_are_misuse(self):
        self.assertEqual(self.run_ctl("doctor", "x").returncode, cases.USAGE)


class Settings(DoctorCase):
    def test_error_is_told_with_file_and_line_and_other_checks_go_on(self):
        self.configure("[hugevm]\ndemote = sometimes\n")
        found = self.doctor(status=REFUSED)
        row, = found["settings"]
        self.assertEqual(row["level"], "problem")
        for part in ("etc/hugevm/hugevm.conf:2", "demote", "'sometimes'", "never"):
            self.assertIn(part, row["text"])
        self.assertEqual(list(found), [check for check in CHECKS if check not in
                                       ("reserve", "handover", "memory-floor", "file-backed")])

    def test_switch_of_vdsm_beside_hugevm_is_a_problem(self):
        (self.root / "usr/share/vdsm").mkdir(parents=True)
        self.write("etc/vdsm/vdsm.conf", DYNAMIC)
        self.finds("settings", "problem", "etc/vdsm/vdsm.conf:2", "VDSM resize")

    def test_hugevm_that_is_switched_off_is_a_note(self):
        self.configure(DYNAMIC + "[hugevm]\nenabled = false\n")
        self.finds("settings", "note", "switched off")

    def test_settings_that_may_not_be_read_are_no_diagnosis(self):
        (self.root / "etc/hugevm/hugevm.conf").chmod(0)
        command = shutil.copy(cases.HUGEVMCTL, self.root)
        for path in (pathlib.Path(self.directory.name), self.root):
            path.chmod(0o755)
        somebody = {"user": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        result = subprocess.run([command, "--root", self.root, "doctor"], capture_output=True,
                                text=True, check=False, **somebody)
        self.assertEqual((result.returncode, result.stdout), (SYSTEM, ""))
        self.assertIn("hugevm.conf: Permission denied", result.stderr)


class Reserve(DoctorCase):
    def test_absent_node_is_a_problem(self):
        self.configure(DYNAMIC + "[hugevm]\nreserved = ovs=size:2M,count:4,node:5\n")
        self.finds("reserve", "problem", "'ovs' on node 5: there is no such pool", "hugevmctl config")

    def test_absent_size_is_a_problem(self):
        self.configure(DYNAMIC + "[hugevm]\nreserved = ovs=size:4M,count:4\n")
        self.finds("reserve", "problem", "4 MiB for 'ovs': this host offers 2 MiB, 1 GiB")

    def test_more_than_the_pool_has_is_a_problem(self):
        self.configure(DYNAMIC + "[hugevm]\nreserved = ovs=size:2M,count:11,node:1\n")
        self.finds("reserve", "problem", "11 pages of 2 MiB are reserved on node 1, where there are 10")


class PageSizes(DoctorCase):
    def test_kernel_without_huge_pages_is_a_problem_and_the_last_of_them(self):
        self.make("no-hugetlb.txt")
        found = self.doctor(status=REFUSED)
        self.assertIn("CONFIG_HUGETLBFS", found["huge-pages"][0]["hint"])
        self.assertEqual(list(found), ["settings", "huge-pages", "ledger", "file-backed"])

    def test_cpu_without_huge_pages_is_the_cause(self):
        self.make("no-hugetlb.txt")
        self.write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu pse36\n")
        self.assertIn("has no pse", self.doctor(status=REFUSED)["huge-pages"][0]["text"])

    def without_1_gib(self, flags):
        self.make_host("\n".join(line for line in self.host.splitlines() if "1048576" not in line))
        self.configure(DYNAMIC)
        self.write("proc/cpuinfo", f"processor\t: 0\nvmx flags\t: pdpe1gb\n{flags}")

    def test_cpu_without_1_gib_is_a_note(self):
        self.without_1_gib("flags\t\t: fpu pse\n")
        self.finds("gigantic-pages", "note", "the CPU has none", "pdpe1gb", "virtual machine")

    def test_kernel_without_1_gib_is_a_note(self):
        self.without_1_gib("flags\t\t: fpu pse pdpe1gb\n")
        self.finds("gigantic-pages", "note", "although the CPU has them", "hugepagesz=1G")

    def test_unknown_cpu_is_not_accused(self):
        self.without_1_gib("")
        self.finds("gigantic-pages", "note", "does not say")

    def test_other_architectures_are_not_asked_for_1_gib(self):
        self.without_1_gib("flags\t\t: fpu pse\n")
        self.write("proc/sys/kernel/arch", "aarch64\n")
        self.assertEqual(self.doctor()["gigantic-pages"][0]["level"], "ok")

    def test_missing_default_size_is_a_problem(self):
        self.make_host(self.host.replace("default=2048", "default=0"))
        self.configure(DYNAMIC)
        self.finds("default-size", "problem", "Hugepagesize")


class Mounts(DoctorCase):
    def test_no_mount_of_the_default_size_is_a_problem(self):
        self.mount("1024M")
        self.finds("mounts", "problem", "2 MiB", "mount -t hugetlbfs -o pagesize=2M")

    def test_no_mount_of_another_size_is_a_note(self):
        self.mount("2M")
        self.finds("mounts", "note", "1 GiB", "pagesize=1G")

    def test_mount_that_a_libvirtd_does_not_know_is_a_problem(self):
        self.mount("2M", known=False)
        self.assertEqual([row["level"] for row in self.doctor()["mounts"]], ["note"])
        self.write("run/libvirtd.pid", "77")
        self.assertEqual([row["level"] for row in self.doctor()["mounts"]], ["note"])
        self.write("proc/77/stat", "77 (libvirtd) S" + " 0" * 18 + " 5 0\n")
        self.assertIn("restart libvirtd", self.doctor(status=REFUSED)["mounts"][0]["hint"])


class Ledger(DoctorCase):
    def test_sound_ledger_is_ok(self):
        self.ledger(LEDGER)
        self.assertEqual(self.doctor()["ledger"][0]["level"], "ok")

    def test_damaged_ledger_is_a_problem_with_its_repair(self):
        self.ledger(LEDGER)
        self.write("run/hugevm/ledger.json", "{")
        self.finds("ledger", "problem", "is damaged; its second copy is good", "audit --repair")

    def test_ledger_of_another_boot_is_a_note(self):
        self.ledger({**LEDGER, "boot_id": "another"})
        self.finds("ledger", "note", "another boot")

    def test_ledger_of_a_newer_hugevm_is_a_problem(self):
        self.ledger({**LEDGER, "format": 99})
        self.finds("ledger", "problem", "ledger.json")

    def test_directory_that_others_may_write_to_is_a_problem(self):
        self.ledger(LEDGER)
        (self.root / "run/hugevm").chmod(0o777)
        self.finds("ledger", "problem", "writable by root alone")


class Kernel(DoctorCase):
    def test_guards_that_die_with_their_maker_are_a_note(self):
        self.write("proc/sys/kernel/shm_rmid_forced", "1\n")
        self.finds("guards", "note", "shm_rmid_forced is 1", "sysctl kernel.shm_rmid_forced=0")

    def test_handover_that_failed_is_a_note(self):
        self.ledger({**LEDGER, "handover_failed": True})
        self.finds("handover", "note", "until the next boot")

    def test_handover_that_is_switched_off_is_a_note(self):
        self.configure(DYNAMIC + "[hugevm]\nhandover = never\n")
        self.finds("handover", "note", "handover = never")

    def test_handover_has_nothing_to_do_without_growth(self):
        self.configure("")
        self.finds("handover", "note", "use_dynamic_hugepages is off")

    def test_handover_is_off_on_old_kernels_with_several_nodes(self):
        self.write("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n")
        self.finds("handover", "note", "before 6.15", "this is 6.1")

    def test_old_kernel_with_one_node_hands_over(self):
        self.make_host("\n".join(line for line in self.host.splitlines()
                                 if not line.startswith(("node 1", "pool 1"))))
        self.configure(DYNAMIC)
        self.write("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n")
        self.assertEqual(self.doctor()["handover"][0]["level"], "ok")

    def test_surplus_of_others_is_a_note(self):
        self.make_host(self.host.replace("pool 1 2048 total=10 free=10",
                                         "pool 1 2048 total=10 free=0 surplus=4"))
        self.configure(DYNAMIC)
        self.finds("surplus", "note", "node 1 has 4 surplus pages of 2 MiB")

    def test_surplus_that_hugevm_has_handed_over_is_none_of_others(self):
        self.make_host(self.host.replace("pool 1 2048 total=10 free=10",
                                         "pool 1 2048 total=4 free=0 surplus=4"))
        self.configure(DYNAMIC)
        grown = {"node": 1, "size_kib": 2048, "grown_pages": 0, "persistent_pages": 0,
                 "handed_pages": 4, "regained_pages": 0}
        self.ledger({**LEDGER, "grown": [grown]})
        self.assertEqual(self.doctor()["surplus"][0]["level"], "ok")
        self.ledger({**LEDGER, "grown": [{**grown, "handed_pages": 3}]})
        self.finds("surplus", "note", "node 1 has 1 surplus page of 2 MiB")

    def test_overcommit_is_a_note(self):
        self.make_host(self.host.replace("size 2048\n", "size 2048 overcommit=7\n"))
        self.configure(DYNAMIC)
        self.finds("overcommit", "note", "up to 7 pages of 2 MiB",
                   "hugepages-2048kB/nr_overcommit_hugepages")

    def test_unreadable_counter_is_a_system_error(self):
        path = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
        self.write(path, "many\n")
        result = self.run_ctl("doctor")
        self.assertEqual((result.returncode, result.stdout), (SYSTEM, ""))
        self.assertIn(path, result.stderr)


class MemoryFloor(DoctorCase):
    def test_node_without_memory_above_its_floor_is_a_note(self):
        self.make_host(self.host.replace("node 1 total=8388608 free=6291456",
                                         "node 1 total=8388608 free=409600"))
        self.configure(DYNAMIC)
        self.finds("memory-floor", "note", "on node 1 now: 400 of 8192 MiB", "5 %")

    def test_node_without_any_memory_is_passed_over(self):
        self.make_host(self.host.replace("node 1 total=8388608 free=6291456 low=16384", "node 1")
                       .replace("pool 1 2048 total=10 free=10\n", ""))
        self.configure(DYNAMIC)
        self.assertEqual(self.doctor()["memory-floor"][0]["level"], "ok")

    def test_host_within_its_floor_is_a_note(self):
        self.make_host(self.host.replace("available=16777216", "available=2097152"))
        self.configure(DYNAMIC)
        self.finds("memory-floor", "note", "2048 MiB are available", "keeps 2 GiB")

    def test_floor_larger_than_the_host_is_a_problem(self):
        self.configure(DYNAMIC + "[hugevm]\nhost_memory_floor = 64G,0%\n")
        self.finds("memory-floor", "problem", "keeps 64 GiB", "only 16384 MiB")


def main():
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(case)
        for case in (Sound, Settings, Reserve, PageSizes, Mounts, Ledger, Kernel, MemoryFloor,
                     Files))
    print(f"1..{suite.countTestCases()}")
    result = cases.TapResult()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


class Files(DoctorCase):
    """file_backed_memory; the size of a tree's file system is nobody's."""

    def files_in(self, path, more=""):
        self.configure(f"{DYNAMIC}[hugevm]\nfile_backed_memory = 1024\n{more}")
        (self.root / path).mkdir(parents=True)

    def test_directory_of_libvirts_own_is_ok(self):
        self.files_in("var/lib/libvirt/qemu/ram")
        self.assertIn("there is room", self.doctor()["file-backed"][0]["text"])

    def test_directory_of_qemu_conf_is_ok(self):
        self.files_in("srv/ram")
        self.write("etc/libvirt/qemu.conf", "user = \"root\"\n# memory_backing_dir = \"/x\"\n"
                                            "memory_backing_dir = \"/srv/ram\"\n")
        self.assertEqual(self.doctor()["file-backed"][0]["level"], "ok")

    def test_missing_directory_is_a_problem(self):
        self.files_in("srv")
        self.finds("file-backed", "problem", "/var/lib/libvirt/qemu/ram does not exist",
                   "mount a file system for them on /var/lib/libvirt/qemu/ram")

    def test_file_in_its_place_is_a_problem(self):
        self.files_in("var/lib/libvirt/qemu")
        self.write("var/lib/libvirt/qemu/ram", "")
        self.finds("file-backed", "problem", "/var/lib/libvirt/qemu/ram is no directory")

    def test_directory_that_libvirtd_does_not_use_is_a_problem(self):
        self.files_in("srv/ram", "memory_backing_dir = /srv/ram\n")
        self.finds("file-backed", "problem", "is /srv/ram, but libvirtd makes its files in "
                   "/var/lib/libvirt/qemu/ram", 'set memory_backing_dir = "/srv/ram"')

    def test_root_file_system_is_a_problem(self):
        self.files_in("var/lib/libvirt/qemu/ram")
        mounts = self.root / "proc/self/mounts"
        mounts.write_text("/dev/sda1 / ext4 rw 0 0\n" + mounts.read_text())
        self.finds("file-backed", "problem", "no file system is mounted for the memory files",
                   "/var/lib/libvirt/qemu/ram")

    def test_file_system_above_it_will_do(self):
        self.files_in("var/lib/libvirt/qemu/ram")
        mounts = self.root / "proc/self/mounts"
        mounts.write_text("/dev/sda1 / ext4 rw 0 0\n/dev/sdb /var/lib/libvirt xfs rw 0 0\n"
                          + mounts.read_text())
        self.assertEqual(self.doctor()["file-backed"][0]["level"], "ok")

    def test_all_claimed_is_a_note(self):
        self.files_in("var/lib/libvirt/qemu/ram")
        process = {"pid": 0, "start_ticks": 0}
        claim = {"uuid": "00000000-0000-0000-0000-00000000000a", "name": "vm", "generation": 1,
                 "state": "running", "owner_name": "x", "owner": process, "qemu": process,
                 "needs": [], "shared": True, "file_kib": 1 << 20, "file_dir": "/srv/ram"}
        self.ledger({**LEDGER, "last_generation": 1, "claims": [claim]})
        self.finds("file-backed", "note", "all of file_backed_memory is claimed")


if __name__ == "__main__":
    sys.exit(main())
