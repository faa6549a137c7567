#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""VDSM's hook, the half that runs as vdsm: whom it leaves alone, and how it refuses without root.

Runs as any user; as root it becomes nobody for the program, as sudo would help root. It never
reaches root's half, so no pool is touched: that a VM passes also says that sudo was not asked.

usage: test-vdsm-hook.py VDSM-HOOK INSTALLED-NAME
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import uuid as uuids

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vdsm"))

import tap  # noqa: E402
from vdsm_runner import HookError, Runner, VdsmVm  # noqa: E402

PROGRAM, INSTALLED = sys.argv[1:3]
BASE = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
BEGINS = ("before_vm_start", "before_vm_migrate_destination")
RESTORE = "before_vm_dehibernate"
ENDS = ("after_vm_start", "after_vm_migrate_destination", "after_vm_destroy",
        "after_vm_migrate_source", "after_vm_hibernate")
PLUGS = ("before_memory_hotplug", "after_memory_hotplug")
REPORTS = ("after_get_stats", "after_get_caps")
LOOKS = ("before_nic_hotplug", "before_disk_hotplug")
OF_VMS = (*BEGINS, RESTORE, *ENDS, *PLUGS, *LOOKS)
PASSED, LOGGED, REFUSED, NO_ROOT = 0, 1, 2, 3
HUGE = "<memoryBacking><hugepages/></memoryBacking>"
DIMM = "<memory model='dimm'><target><size unit='MiB'>64</size></target></memory>"
HUGE_DIMM = ("<memory model='dimm'><source><pagesize unit='KiB'>2048</pagesize></source><target>"
             "<size unit='MiB'>64</size></target></memory>")
PATIENCE_S = 30


def domain(inside="", name="web"):
    return (f"<domain type='kvm'><name>{name}</name><memory unit='MiB'>64</memory>{inside}"
            "<os><type>hvm</type></os></domain>")


def may_use_sudo(runner):
    """Would root's half of an installed hugevm really be run?"""
    if shutil.which("sudo") is None:
        return False
    words = ["sudo", "-n", "-l", INSTALLED, "--as-root", "before_vm_start"]
    return subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False,
                          **runner.user).returncode == 0


class HookCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="hugevm-vdsm-")
        self.addCleanup(directory.cleanup)
        self.top = pathlib.Path(directory.name)
        self.top.chmod(0o755)
        self.own = self.top / "own"
        self.own.mkdir()
        self.runner = Runner(str(self.top / "hooks"), str(self.own), base=BASE, user="nobody")
        self.runner.timeout = PATIENCE_S
        if os.geteuid() == 0:
            if not self.runner.user:
                self.skipTest("there is no user nobody, and sudo helps root")
            os.chown(self.own, self.runner.user["user"], self.runner.user["group"])
        if may_use_sudo(self.runner):
            self.skipTest(f"this user may run {INSTALLED} as root, and pools would be touched")
        # the build may be where nobody may not look
        self.program = shutil.copy2(PROGRAM, self.top / "vdsm-hook")
        for point in (*OF_VMS, *REPORTS, "before_vdsm_start", "before_vm_pause"):
            (self.top / "hooks" / point).mkdir(parents=True)
            (self.top / "hooks" / point / "50_hugevm").symlink_to(self.program)
        self.uuid = str(uuids.uuid4())

    def hook(self, point):
        return str(self.top / "hooks" / point / "50_hugevm")

    def vm(self, xml, **properties):
        return VdsmVm(self.runner, self.uuid, xml, properties)

    def file(self, content, name="domain.xml"):
        path = self.own / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o644)
        return str(path)

    def run_with_file(self, path, point="before_vm_start", **properties):
        """The hook alone, with a file that VDSM would not make."""
        environment = self.runner.environment(self.uuid, properties, str(path))
        return self.runner.run_script(self.hook(point), environment)

    def passes(self, result):
        self.assertEqual(result, (PASSED, ""))

    def is_one_line(self, text):
        self.assertEqual((text[:8], text.count("\n"), text[-1:]), ("hugevm: ", 1, "\n"), text)
        self.assertTrue(text[:-1].isprintable(), repr(text))

    def refuses(self, result, *parts, status=REFUSED):
        self.assertEqual(result[0], status, result[1])
        self.is_one_line(result[1])
        for part in parts:
            self.assertIn(part, result[1])


class OrdinaryVm(HookCase):
    def all_points_pass(self, xml, **properties):
        for point in OF_VMS:
            with self.subTest(point=point, properties=properties):
                found, results = self.vm(xml, **properties).run_point(point)
                self.assertEqual((found, results), (xml, [(PASSED, "")]))

    def test_passes_at_each_point(self):
        self.all_points_pass(domain())

    def test_passes_with_properties_that_are_off(self):
        for value in ("", "0", "00", " 0 ", "\t"):
            self.all_points_pass(domain(), hugepages=value)

    def test_passes_whatever_hugepages_shared_is(self):
        for value in ("", "true", "false", "junk\n\x1b[31m", "\udcff"):
            self.all_points_pass(domain(), hugepages_shared=value)

    def test_passes_with_other_elements_of_memory_backing(self):
        self.all_points_pass(domain("<memoryBacking><access mode='shared'/></memoryBacking>"))

    def test_passes_with_the_word_elsewhere(self):
        self.all_points_pass(domain("<description>no hugepages, no pagesize</description>"))

    def test_passes_with_ovirts_metadata_that_is_off(self):
        custom = "<ovirt-vm:custom><ovirt-vm:hugepages>0</ovirt-vm:hugepages></ovirt-vm:custom>"
        self.all_points_pass(domain("<metadata><ovirt-vm:vm xmlns:ovirt-vm='http://ovirt.org/vm/1.0'>"
                                    f"{custom}</ovirt-vm:vm></metadata>"))

    def test_whole_life(self):
        vm = self.vm(domain())
        launched = []
        vm.start(launched.append)
        vm.destroy()
        vm.gone()
        self.assertEqual(launched, [domain()])
        self.assertEqual({(status, text) for _, status, text in self.runner.log}, {(PASSED, "")})

    def test_end_of_an_unknown_vm_passes(self):
        for point in ENDS:
            for uuid in (self.uuid, self.uuid.upper(), "", "../../etc", "%s%n", "x" * 100000, "\udcff"):
                with self.subTest(point=point, uuid=uuid[:40]):
                    vm = VdsmVm(self.runner, uuid, domain(HUGE), {"hugepages": "2048"})
                    self.assertEqual(vm.run_point(point)[1], [(PASSED, "")])


class Device(HookCase):
    def plugs(self, vm, device):
        plugged = []
        vm.plug_memory(device, plugged.append)
        self.assertEqual(plugged, [device])
        self.assertEqual([entry[1:] for entry in self.runner.log], [(PASSED, "")] * 2)
        self.runner.log.clear()

    def test_memory_of_a_vm_without_claim_passes(self):
        self.plugs(self.vm(domain(), hugepages="2048"), DIMM)

    def test_memory_of_no_named_vm_passes(self):
        """As VDSM called it before 4.2."""
        self.plugs(VdsmVm(self.runner, "", domain()), HUGE_DIMM)

    def test_other_devices_of_a_vm_without_claim_pass(self):
        for kind in ("nic", "disk"):
            for device in ("<interface type='vhostuser'/>", "<disk type='vhostuser'/>", "vhost", ""):
                self.vm(domain(HUGE), hugepages="2048").plug_device(kind, device, lambda xml: None)
        self.assertEqual({entry[1:] for entry in self.runner.log}, {(PASSED, "")})

    def test_broken_device_passes_to_libvirt(self):
        for text in ("", "<", "<memory>", "\0" * 10, "x" * 100000):
            self.plugs(self.vm(domain()), text)


class Host(HookCase):
    """Points about no VM. What they do with the module: test-vdsm-report.py, and the e2e tests."""

    def test_report_that_is_no_json_stays_and_fails_nothing(self):
        for content in (b"", b"{", b"\xff", b"{}\0"):
            for point in REPORTS:
                path = self.file(content, "report.json")
                status, text = self.runner.run_script(
                    self.hook(point), self.runner.environment("", {}, path, "_hook_json"))
                self.assertEqual((status, pathlib.Path(path).read_bytes()), (PASSED, content))
                if os.path.isdir("/sys/kernel/mm/hugepages"):
                    self.is_one_line(text)

    def test_report_without_file_fails_nothing(self):
        fifo = self.own / "fifo"
        os.mkfifo(fifo, 0o666)
        os.chmod(fifo, 0o666)
        for path in ("", "/nonexistent", fifo, self.own):
            environment = self.runner.environment("", {}, str(path), "_hook_json")
            for point in REPORTS:
                self.assertEqual(self.runner.run_script(self.hook(point), environment)[0], PASSED)
        self.assertEqual(self.runner.run_script(self.hook(REPORTS[0]), {})[0], PASSED)

    def test_start_of_vdsm_is_for_root(self):
        status, text = self.runner.run_script(
            self.hook("before_vdsm_start"), self.runner.environment("", {}, self.file("")))
        self.refuses((status, text), "root", status=LOGGED)


class OddFile(HookCase):
    def test_broken_xml_passes_to_libvirt(self):
        for xml in ("", "<", "<domain", "<domain></x>", "\0\0", domain()[:-20], "no XML"):
            with self.subTest(xml=xml):
                self.passes(self.run_with_file(self.file(xml)))

    def test_broken_xml_that_may_want_huge_pages_is_no_ordinary_vm(self):
        for xml in (domain(HUGE)[:-20], "<hugepages", "hugepages"):
            with self.subTest(xml=xml):
                self.refuses(self.run_with_file(self.file(xml)))

    def test_without_a_file_an_ordinary_vm_passes(self):
        for point in (*BEGINS, *ENDS):
            self.passes(self.run_with_file("", point))
        self.passes(self.runner.run_script(self.hook("before_vm_start"), BASE))

    def test_file_that_cannot_be_read_refuses_the_start(self):
        fifo = self.own / "fifo"
        os.mkfifo(fifo, 0o666)
        loop = self.own / "loop"
        loop.symlink_to(loop)
        for path in (self.own / "none", fifo, self.own, loop, "/dev/zero", "x" * 5000):
            for point in BEGINS:
                with self.subTest(path=str(path)[:80], point=point):
                    self.refuses(self.run_with_file(path, point),
                                 "cannot read the domain XML that _hook_domxml names")

    def test_after_points_do_not_read_it(self):
        for point in ENDS:
            self.passes(self.run_with_file(self.own / "none", point))

    def test_unreadable_file_is_named_with_its_reason(self):
        path = self.file(domain())
        os.chmod(path, 0)
        self.refuses(self.run_with_file(path), "Permission denied")

    def test_long_description_passes_quickly(self):
        for word in ("words ", "hugepages ", "pagesize "):
            xml = domain(f"<description>{word * (5 * 1024 * 1024 // len(word))}</description>")
            begin = time.monotonic()
            self.passes(self.run_with_file(self.file(xml)))
            self.assertLess(time.monotonic() - begin, 5)

    def test_file_of_65_mib_is_refused(self):
        path = self.file("")
        os.truncate(path, 65 * 1024 * 1024)
        self.refuses(self.run_with_file(path), "File too large")

    def test_text_that_is_not_utf8_passes_to_libvirt(self):
        self.passes(self.run_with_file(self.file(domain(name="w").encode() + b"\xff\xfe")))
        self.passes(self.run_with_file(self.file(domain().encode("utf-16"))))

    def test_text_that_is_not_utf8_and_may_want_huge_pages_is_no_ordinary_vm(self):
        self.refuses(self.run_with_file(self.file(b"\xff" + domain(HUGE).encode())))

    def test_file_stays_as_it_is(self):
        for xml in (domain(), domain(HUGE)):
            path = self.file(xml)
            before = os.stat(path)
            self.run_with_file(path)
            after = os.stat(path)
            self.assertEqual((pathlib.Path(path).read_text(), after.st_ino, after.st_mtime_ns),
                             (xml, before.st_ino, before.st_mtime_ns))
            self.assertEqual(os.listdir(self.own), ["domain.xml"])


class OddEnvironment(HookCase):
    names = {"PATH": "/nonexistent", "LD_LIBRARY_PATH": "/nonexistent", "IFS": "u", "TMPDIR": "/none",
             "HOME": "/none", "LC_ALL": "xx_YY.UTF-8", "LANGUAGE": "../..", "G_DEBUG": "fatal-warnings",
             "G_MESSAGES_DEBUG": "all", "GLIBC_TUNABLES": "x=y", "MALLOC_CHECK_": "3", "a b": "c",
             "BASH_FUNC_sudo%%": "() { :; }", "hugepages ": "2048", "HUGEPAGES": "2048",
             "vmId": "property", "_hook_domxml": "/etc/passwd", "SUDO_ASKPASS": "/bin/true"}

    def test_properties_with_names_of_others_change_nothing(self):
        for name, value in self.names.items():
            with self.subTest(name=name):
                self.assertEqual(self.vm(domain(), **{name: value}).run_point("before_vm_start"),
                                 (domain(), [(PASSED, "")]))
        self.assertEqual(self.vm(domain(), **self.names).run_point("before_vm_start"),
                         (domain(), [(PASSED, "")]))

    def test_ld_preload_of_nothing_refuses_nobody(self):
        """ld.so complains before our first line: what counts is that the VM starts."""
        vm = self.vm(domain(), LD_PRELOAD="/nonexistent.so")
        vm.before_vm_start()
        self.assertEqual(vm.xml, domain())
        self.assertNotIn("hugevm:", self.runner.log[0][2])

    def test_names_of_others_change_no_refusal(self):
        for name, value in self.names.items():
            with self.subTest(name=name):
                vm = self.vm(domain(HUGE), **{name: value})
                with self.assertRaises(HookError) as caught:
                    vm.before_vm_start()
                self.is_one_line(str(caught.exception))

    def test_sudo_of_a_property_is_not_run(self):
        trap = self.top / "trap"
        trap.mkdir()
        for name in ("sudo", "vdsm-hook", "sh"):
            (trap / name).write_text(f"#!/bin/sh\ntouch {self.own}/trapped\n")
            (trap / name).chmod(0o755)
        with self.assertRaises(HookError):
            self.vm(domain(HUGE), PATH=str(trap)).before_vm_start()
        self.assertEqual(os.listdir(self.own), [])

    def test_thousand_properties_pass(self):
        self.vm(domain(), **{f"p{i}": "x" * 1000 for i in range(1000)}).before_vm_start()


class Call(HookCase):
    def run_as(self, path, *arguments):
        return self.runner.run_script(str(path), self.runner.environment(self.uuid, {}, ""),
                                      arguments)

    def test_point_that_is_not_served_stops_no_vm(self):
        self.refuses(self.run_as(self.hook("before_vm_pause")), "to be run by VDSM", status=PASSED)

    def test_program_itself_is_no_hook(self):
        self.refuses(self.run_as(self.program), "to be run by VDSM", status=PASSED)

    def test_arguments_make_it_no_hook(self):
        for arguments in (("x",), ("--help",), ("--as-root",), ("--as-root", "before_vm_start", "x"),
                          ("before_vm_start", "--as-root")):
            with self.subTest(arguments=arguments):
                self.refuses(self.run_as(self.hook("before_vm_start"), *arguments),
                             "to be run by VDSM", status=PASSED)

    def test_roots_half_wants_root(self):
        for point in (*BEGINS, RESTORE, *ENDS, *PLUGS):
            self.assertEqual(self.run_as(self.program, "--as-root", point),
                             (NO_ROOT, "this half must run as root\n"))

    def test_roots_half_serves_its_points_only(self):
        for point in (*REPORTS, *LOOKS, "before_vdsm_start", "", "before_vm_pause", "../before_vm_start", "before_vm_start ", "x" * 10000):
            self.assertEqual(self.run_as(self.program, "--as-root", point),
                             (NO_ROOT, "this point is not served\n"))


class WithoutRoot(HookCase):
    """sudo is not installed, or knows nothing of us."""

    def is_refused(self, xml, **properties):
        for point in BEGINS:
            with self.subTest(point=point, **properties):
                found = VdsmVm(self.runner, self.uuid, xml, properties)
                with self.assertRaises(HookError) as caught:
                    found.before_vm_start() if point == BEGINS[0] else found.migrate_in(self.fail)
                self.assertEqual(found.xml, xml)
                self.refuses((self.runner.log[-1][1], self.runner.log[-1][2]), "sudo",
                             "; what to do: ", "/etc/sudoers.d/50_vdsm_hook_hugevm")
                self.assertNotIn("it says nothing", str(caught.exception))
                self.assertEqual(str(caught.exception), self.runner.log[-1][2])

    def test_vm_with_huge_pages_is_refused(self):
        self.is_refused(domain(HUGE))

    def test_vm_with_a_dimm_on_huge_pages_is_refused(self):
        dimm = "<memory model='dimm'><source><pagesize unit='KiB'>2048</pagesize></source></memory>"
        self.is_refused(domain(f"<devices>{dimm}</devices>"))

    def test_vm_with_the_property_is_refused(self):
        self.is_refused(domain(), hugepages="2048")

    def test_vm_with_ovirts_metadata_is_refused(self):
        custom = "<ovirt-vm:custom><ovirt-vm:hugepages>2048</ovirt-vm:hugepages></ovirt-vm:custom>"
        self.is_refused(domain("<metadata><ovirt-vm:vm xmlns:ovirt-vm='http://ovirt.org/vm/1.0'>"
                               f"{custom}</ovirt-vm:vm></metadata>"))

    def test_saved_vm_with_huge_pages_is_refused(self):
        vm = self.vm(domain())
        with self.assertRaises(HookError):
            vm.restore(self.fail, saved=domain(HUGE))
        self.refuses(self.runner.log[-1][1:], "sudo")

    def test_saved_vm_without_them_passes_whatever_the_property_says(self):
        vm = self.vm(domain(), hugepages="2048")
        self.assertEqual(vm.run_point(RESTORE, FROM_SNAPSHOT="True"), (domain(), [(PASSED, "")]))

    def test_device_on_huge_pages_is_refused(self):
        with self.assertRaises(HookError):
            self.vm(domain()).plug_memory(HUGE_DIMM, self.fail)
        self.refuses(self.runner.log[-1][1:], "sudo")

    def test_junk_in_the_property_is_refused(self):
        for value in ("abc", "-1", "2048; id", "$(id)", "a\nb", "\x1b[31m", "%s%n", "../..", "9" * 5000,
                      "\udcff"):
            self.is_refused(domain(), hugepages=value)

    def test_scripts_after_it_are_not_run(self):
        later = self.top / "hooks/before_vm_start/99_later"
        later.write_text(f"#!/bin/sh\ntouch {self.own}/later\n")
        later.chmod(0o755)
        self.is_refused(domain(HUGE))
        self.assertEqual(os.listdir(self.own), [])

    def test_large_xml_is_refused_all_the_same(self):
        """sudo ends while the text is still being written to it."""
        self.is_refused(domain(f"{HUGE}<description>{'words ' * 900000}</description>"))


if __name__ == "__main__":
    sys.exit(tap.main())
