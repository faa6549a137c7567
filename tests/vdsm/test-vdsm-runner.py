#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The runner that plays VDSM follows VDSM's hook protocol: with shell scripts as hooks.

usage: test-vdsm-runner.py
"""

import os
import pathlib
import stat
import sys
import tempfile
import threading
import unittest

import tap
from vdsm_runner import HookError, Runner, VdsmVm

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
XML = "<domain><name>wéb</name></domain>"
BASE = {"PATH": "/usr/bin:/bin", "MINE": "base"}
IGNORING = ("before_vm_dehibernate", "before_vm_migrate_destination", "after_vm_start",
            "after_vm_destroy", "after_vm_migrate_destination", "before_vm_destroy")


class RunnerCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="vdsm-runner-")
        self.addCleanup(directory.cleanup)
        self.top = pathlib.Path(directory.name)
        self.top.chmod(0o755)
        self.hooks, self.own, self.notes = (self.top / name for name in ("hooks", "own", "notes"))
        self.hooks.mkdir(mode=0o755)
        for path in (self.own, self.notes):
            path.mkdir()
            path.chmod(0o777)
        # as root: by a user that is on every machine
        self.runner = Runner(str(self.hooks), str(self.own), base=BASE, user="nobody")
        self.vm = self.make_vm()

    def make_vm(self, **properties):
        return VdsmVm(self.runner, UUID, XML, properties)

    def script(self, point, name, text, mode=0o755):
        path = self.hooks / point / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return str(path)

    def note(self, name="order"):
        path = self.notes / name
        return path.read_text() if path.exists() else ""

    def noting(self, word):
        return f"echo {word} >>{self.notes}/order"


class Chain(RunnerCase):
    def test_scripts_run_by_name(self):
        for name in ("90_c", "10_a", "5_b", "A_d"):
            self.script("before_vm_start", name, self.noting(name))
        self.vm.before_vm_start()
        self.assertEqual(self.note().split(), ["10_a", "5_b", "90_c", "A_d"])

    def test_only_visible_executable_files_run(self):
        self.script("before_vm_start", ".hidden", self.noting("hidden"))
        self.script("before_vm_start", "20_text", self.noting("text"), mode=0o644)
        (self.hooks / "before_vm_start/30_directory").mkdir()
        (self.hooks / "before_vm_start/40_dangling").symlink_to("/nonexistent/program")
        target = self.script("elsewhere", "program", self.noting("link"))
        (self.hooks / "before_vm_start/50_link").symlink_to(target)
        self.vm.before_vm_start()
        self.assertEqual(self.note().split(), ["link"])

    def test_point_without_directory_changes_nothing(self):
        self.vm.before_vm_start()
        self.assertEqual((self.vm.xml, self.runner.log), (XML, []))

    def test_status_1_fails_and_goes_on(self):
        self.script("before_vm_start", "10_fail", "echo first >&2; exit 1")
        self.script("before_vm_start", "20_next", self.noting("next"))
        with self.assertRaises(HookError):
            self.vm.before_vm_start()
        self.assertEqual(self.note().split(), ["next"])

    def test_status_2_stops_the_chain(self):
        self.script("before_vm_start", "10_fail", "echo first >&2; exit 2")
        self.script("before_vm_start", "20_next", self.noting("next"))
        with self.assertRaises(HookError) as caught:
            self.vm.before_vm_start()
        self.assertEqual((self.note(), str(caught.exception)), ("", "first\n"))

    def test_higher_status_is_as_1_with_a_warning(self):
        path = self.script("before_vm_start", "10_fail", "exit 7")
        self.script("before_vm_start", "20_next", self.noting("next"))
        with self.assertRaises(HookError):
            self.vm.before_vm_start()
        self.assertEqual(self.note().split(), ["next"])
        self.assertEqual(self.runner.warnings, [f"{path}: unexpected status 7"])

    def test_stderr_is_logged_and_stdout_is_not(self):
        path = self.script("after_vm_start", "10_talk", "echo out; echo one >&2; echo two >&2")
        self.vm.run_point("after_vm_start")
        self.assertEqual(self.runner.log, [(path, 0, "one\ntwo\n")])


class Errors(RunnerCase):
    def fail_twice_then_succeed(self, point):
        self.script(point, "10_fail", "echo first >&2; exit 1")
        self.script(point, "20_fail", "echo second >&2; exit 1")
        self.script(point, "30_good", "echo third >&2")

    def test_start_shows_the_last_script_that_failed(self):
        self.fail_twice_then_succeed("before_vm_start")
        with self.assertRaises(HookError) as caught:
            self.vm.before_vm_start()
        self.assertEqual(str(caught.exception), "second\n")

    def test_other_points_show_the_last_script_that_ran(self):
        self.fail_twice_then_succeed("before_vm_migrate_destination")
        with self.assertRaises(HookError) as caught:
            self.vm.migrate_in(lambda xml: self.fail("the migration went on"))
        self.assertEqual(str(caught.exception), "third\n")

    def test_failed_start_launches_nothing_but_keeps_the_xml(self):
        self.script("before_vm_start", "10_edit", "echo '<new/>' >$_hook_domxml")
        self.script("before_vm_start", "20_fail", "exit 2")
        self.script("after_vm_start", "10_note", self.noting("after"))
        with self.assertRaises(HookError):
            self.vm.start(lambda xml: self.fail("QEMU was started"))
        self.assertEqual((self.vm.xml, self.note()), ("<new/>\n", ""))

    def test_after_points_and_destroy_never_abort(self):
        for point in ("after_vm_start", "after_vm_destroy", "before_vm_destroy"):
            self.script(point, "10_fail", f"{self.noting(point)}; exit 2")
        launched = []
        self.vm.start(launched.append)
        self.vm.destroy()
        self.assertEqual(launched, [XML])
        self.assertEqual(self.note().split(),
                         ["after_vm_start", "before_vm_destroy", "after_vm_destroy"])


class Output(RunnerCase):
    def test_start_takes_what_the_chain_made(self):
        self.script("before_vm_start", "10_edit", "echo a >>$_hook_domxml")
        self.script("before_vm_start", "20_rename",
                    "(cat $_hook_domxml; echo b) >$_hook_domxml.new;"
                    " mv $_hook_domxml.new $_hook_domxml")
        launched = []
        self.vm.start(launched.append)
        self.assertEqual(launched, [XML + "a\nb\n"])

    def test_restore_ignores_it(self):
        for point in ("before_vm_start", "before_vm_dehibernate"):
            self.script(point, "10_edit", f"{self.noting(point)}; echo a >$_hook_domxml")
        launched = []
        self.vm.restore(launched.append)
        self.assertEqual(launched, [XML])
        self.assertEqual(self.note().split(), ["before_vm_start", "before_vm_dehibernate"])

    def test_migration_ignores_it(self):
        self.script("before_vm_migrate_destination", "10_edit", "echo a >$_hook_domxml")
        launched = []
        self.vm.migrate_in(launched.append)
        self.assertEqual(launched, [XML])

    def test_after_points_ignore_it(self):
        for point in IGNORING:
            self.script(point, "10_edit", f"{self.noting(point)}; echo a >$_hook_domxml")
        self.vm.start(lambda xml: None)
        self.vm.destroy()
        self.assertEqual(self.vm.xml, XML)
        self.assertIn("after_vm_destroy", self.note())

    def test_file_that_cannot_be_read_back_aborts_the_start(self):
        self.script("before_vm_start", "10_away", "rm $_hook_domxml; ln -s /none $_hook_domxml")
        with self.assertRaises(OSError):
            self.vm.before_vm_start()

    def test_file_is_removed(self):
        self.script("before_vm_start", "10_fail", "exit 2")
        self.script("after_vm_start", "10_good", "true")
        with self.assertRaises(HookError):
            self.vm.before_vm_start()
        self.vm.run_point("after_vm_start")
        self.assertEqual(list(self.own.iterdir()), [])


class Surroundings(RunnerCase):
    def dump(self, point="before_vm_start", **properties):
        self.script(point, "10_dump", f"env -0 >{self.notes}/env")
        self.make_vm(**properties).run_point(point)
        pairs = (entry.split("=", 1) for entry in self.note("env").split("\0")[:-1])
        return dict(pairs)

    def test_environment_is_base_then_properties_then_vdsms_own(self):
        found = self.dump(MINE="property", hugepages="2048", vmId="liar", _hook_domxml="/etc/passwd")
        self.assertEqual((found["MINE"], found["hugepages"], found["vmId"], found["PATH"]),
                         ("property", "2048", UUID, BASE["PATH"]))
        self.assertEqual(os.path.dirname(found["_hook_domxml"]), str(self.own))
        self.assertNotIn("HOME", found)

    def test_property_may_replace_the_path(self):
        self.script("before_vm_start", "10_dump", f"echo $PATH >{self.notes}/path")
        VdsmVm(self.runner, UUID, XML, {"PATH": "/else:/usr/bin"}).run_point("before_vm_start")
        self.assertEqual(self.note("path"), "/else:/usr/bin\n")

    def test_file_is_private_and_in_utf8(self):
        self.script("before_vm_start", "10_look",
                    f"stat -c '%a %u' $_hook_domxml >{self.notes}/mode; id -u >{self.notes}/uid;"
                    f"cp $_hook_domxml {self.notes}/xml; chmod 644 {self.notes}/xml")
        self.vm.before_vm_start()
        self.assertEqual(self.note("mode").split(), ["600", self.note("uid").strip()])
        self.assertEqual((self.notes / "xml").read_bytes(), XML.encode())

    def test_file_is_empty_before_destroy(self):
        self.script("before_vm_destroy", "10_look", f"wc -c <$_hook_domxml >{self.notes}/size")
        self.vm.destroy()
        self.assertEqual(self.note("size").strip(), "0")

    def test_script_gets_no_arguments_and_no_input(self):
        path = self.script("before_vm_start", "10_look",
                           f'(echo "$# $0"; cat) >{self.notes}/call')
        self.vm.before_vm_start()
        self.assertEqual(self.note("call"), f"0 {path}\n")

    def test_scripts_do_not_run_as_root(self):
        self.script("before_vm_start", "10_look", f"id -u >{self.notes}/uid; id -G >{self.notes}/gid")
        self.vm.before_vm_start()
        self.assertNotEqual(self.note("uid"), "0\n")
        self.assertNotIn("0", self.note("gid").split())

    def test_file_of_root_is_not_read_back(self):
        if os.geteuid() != 0:
            self.skipTest("only root has files that the user may not read")
        secret = self.top / "secret"
        secret.write_text("secret")
        secret.chmod(stat.S_IRUSR)
        self.script("before_vm_start", "10_link", f"ln -sf {secret} $_hook_domxml")
        with self.assertRaises(OSError) as caught:
            self.vm.before_vm_start()
        self.assertNotIn("secret\n", str(caught.exception))
        self.assertEqual(self.vm.xml, XML)

    def test_scripts_in_python_have_the_module_hooking(self):
        path = self.script("before_vm_start", "10_python", "")
        pathlib.Path(path).write_text(
            "#!/usr/bin/python3\nimport hooking\nxml = hooking.read_domxml()\n"
            "xml.documentElement.setAttribute('seen', 'yes')\nhooking.write_domxml(xml)\n")
        self.vm.before_vm_start()
        self.assertIn('<domain seen="yes">', self.vm.xml)
        pathlib.Path(path).write_text(
            "#!/usr/bin/python3\nimport hooking\nhooking.exit_hook('not today')\n")
        with self.assertRaises(HookError) as caught:
            self.vm.before_vm_start()
        self.assertEqual(str(caught.exception), "not today")

    def test_vms_run_side_by_side(self):
        self.script("before_vm_start", "10_meet",
                    f"touch {self.notes}/$vmId; for i in $(seq 200); do"
                    f" [ $(ls {self.notes} | wc -l) -ge 4 ] && break; sleep 0.05; done;"
                    f" [ $(ls {self.notes} | wc -l) -ge 4 ] && echo $vmId >$_hook_domxml")
        vms = [VdsmVm(self.runner, f"vm-{i}", XML) for i in range(4)]
        threads = [threading.Thread(target=vm.before_vm_start) for vm in vms]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([vm.xml for vm in vms], [f"vm-{i}\n" for i in range(4)])


class Life(RunnerCase):
    """The points of one event, in their order."""

    def order(self, action, points):
        for point in points:
            self.script(point, "10_note", self.noting(point))
        action()
        return self.note().split()

    def test_hibernation(self):
        points = ["before_vm_hibernate", "after_vm_hibernate"]
        self.assertEqual(self.order(lambda: self.vm.hibernate(lambda: None), points), points)

    def test_outgoing_migration(self):
        points = ["before_vm_migrate_source", "after_vm_migrate_source"]
        self.assertEqual(self.order(lambda: self.vm.migrate_out(lambda: None), points), points)

    def test_failed_migration_goes_no_further(self):
        def fail():
            raise OSError("no route to host")
        with self.assertRaises(OSError):
            self.order(lambda: self.vm.migrate_out(fail), ["after_vm_migrate_source"])
        self.assertEqual(self.note(), "")

    def test_restore_is_shown_the_saved_xml_and_takes_no_edit(self):
        launched = []
        for point in ("before_vm_start", "before_vm_dehibernate"):
            self.script(point, "10_look", f"cat $_hook_domxml >>{self.notes}/order;"
                        f"echo \" $FROM_SNAPSHOT\" >>{self.notes}/order; echo >$_hook_domxml")
        self.vm.restore(launched.append, saved="<saved/>")
        self.assertEqual(self.note(), f"{XML} \n<saved/> False\n")
        self.assertEqual(launched, ["<saved/>"])

    def test_no_script_can_be_run_after_a_restore(self):
        self.script("after_vm_dehibernate", "10_note", self.noting("after"))
        with self.assertRaises(TypeError):
            self.vm.restore(lambda xml: None)
        self.assertEqual(self.note(), "")

    def test_plug_takes_the_devices_xml_and_its_edit(self):
        self.script("before_memory_hotplug", "10_edit",
                    f"cat $_hook_domxml >{self.notes}/seen; echo '<edited/>' >$_hook_domxml")
        self.script("after_memory_hotplug", "10_look", f"cat $_hook_domxml >{self.notes}/after")
        plugged = []
        self.vm.plug_memory("<memory/>", plugged.append)
        self.assertEqual((self.note("seen"), plugged, self.note("after")),
                         ("<memory/>", ["<edited/>\n"], "<edited/>\n"))
        self.assertEqual(self.vm.xml, XML)

    def test_other_devices_are_plugged_the_same_way(self):
        for kind in ("nic", "disk"):
            self.script(f"before_{kind}_hotplug", "10_edit", "echo '<edited/>' >$_hook_domxml")
            plugged = []
            self.vm.plug_device(kind, "<device/>", plugged.append)
            self.assertEqual(plugged, ["<edited/>\n"])
            self.script(f"before_{kind}_hotplug", "20_fail", "echo no >&2; exit 2")
            with self.assertRaises(HookError):
                self.vm.plug_device(kind, "<device/>", lambda xml: self.fail("it is plugged"))

    def test_refused_plug_goes_no_further(self):
        self.script("before_memory_hotplug", "10_fail", "echo no >&2; exit 2")
        self.script("after_memory_hotplug", "10_note", self.noting("after"))
        with self.assertRaises(HookError) as caught:
            self.vm.plug_memory("<memory/>", lambda xml: self.fail("it is plugged"))
        self.assertEqual((str(caught.exception), self.note()), ("no\n", ""))


class Host(RunnerCase):
    """Points about no VM."""

    def test_reports_go_through_the_file(self):
        path = self.script("after_get_stats", "10_python", "")
        pathlib.Path(path).write_text(
            "#!/usr/bin/python3\nimport hooking\ndata = hooking.read_json()\n"
            "data['seen'] = data.pop('é')\nhooking.write_json(data)\n")
        self.assertEqual(self.runner.report("after_get_stats", {"é": 1}),
                         ({"seen": 1}, [(0, "")]))

    def test_report_that_becomes_no_json_fails(self):
        for text in ("echo x >$_hook_json", ": >$_hook_json"):
            self.script("after_get_caps", "10_break", text)
            with self.assertRaises(ValueError):
                self.runner.report("after_get_caps", {})

    def test_failure_of_a_report_is_only_logged(self):
        self.script("after_get_stats", "10_fail", "echo why >&2; exit 2")
        self.assertEqual(self.runner.report("after_get_stats", {"a": 1}),
                         ({"a": 1}, [(2, "why\n")]))

    def test_they_know_of_no_vm(self):
        self.script("after_get_stats", "10_dump", f"env >{self.notes}/env; id -u >{self.notes}/uid")
        self.runner.report("after_get_stats", {})
        self.assertNotIn("vmId", self.note("env"))
        self.assertNotIn("_hook_domxml", self.note("env"))
        self.assertNotEqual(self.note("uid"), "0\n")

    def test_start_of_vdsm_is_this_processs_own_and_never_aborts(self):
        self.script("before_vdsm_start", "10_look",
                    f"id -u >{self.notes}/uid; cat $_hook_domxml >{self.notes}/size; exit 2")
        self.assertEqual(self.runner.before_vdsm_start(), [(2, "")])
        self.assertEqual((self.note("uid"), self.note("size")), (f"{os.getuid()}\n", ""))


if __name__ == "__main__":
    sys.exit(tap.main())
