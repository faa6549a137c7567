# SPDX-License-Identifier: LGPL-2.1-or-later
"""VDSM's side of its hook protocol, for programs that want to be run by VDSM.

    runner = Runner("/usr/libexec/vdsm/hooks", directory, base={"PATH": "/usr/bin:/bin"})
    vm = VdsmVm(runner, uuid, xml, {"hugepages": "2048"})
    vm.start(launch)        # launch(xml) starts QEMU
    vm.destroy(end)         # end() ends it

What a hook point does (vdsm/common/hooks.py and vdsmd(8) of VDSM 4.5, in own words):

- All non-hidden executable regular files of HOOKS/POINT/, by name, one after the other, as user
  vdsm: no arguments, argv[0] is the full path, nothing on stdin, stdout is thrown away, stderr goes
  to vdsm.log when the script has ended. There is no time limit.
- Environment: VDSM's own, above it the VM's custom properties under their plain names, above
  those vmId and _hook_domxml. That is a file of vdsm's, mode 0600, with the XML in UTF-8 (empty for
  before_vm_destroy). Each script sees what those before it made of it; after the last one it is
  read by its name, with vdsm's rights, and removed.
- Exit status 0: good. 1: failed, go on. 2: failed, and the scripts after it are not run. Others:
  as 1, with a warning.
- A failure aborts the action at before_*, but not at before_vm_destroy, and never at after_*. At
  before_vm_start the XML is taken over all the same before the error is raised, and its text is the
  stderr of the last script that failed; elsewhere it is that of the last script that was run.
- The XML that scripts leave is used at before_vm_start of a normal start, and that of the device at
  before_memory_hotplug, before_nic_hotplug and before_disk_hotplug. It is ignored on restore and at all other points that are here.
- Points about the host's figures get JSON instead, in the file that _hook_json names, and neither a
  VM nor properties; what is read back is what VDSM reports, so it must be JSON: a failure to parse
  it fails the report.
- before_vdsm_start is run by root before VDSM itself, with an empty file; it never aborts.
- At before_vm_dehibernate the environment has FROM_SNAPSHOT as text, at after_vm_dehibernate as a
  bool, so that no script can be run there at all.
- PYTHONPATH ends with the directory of the module `hooking`, by which scripts in Python read and
  write those files; hooking.py beside this has the few functions that count here.
"""

import contextlib
import json
import os
import pwd
import subprocess
import tempfile
import threading

GOES_ON_AFTER_FAILURE = ("before_vm_destroy", "before_vdsm_start")
HOOKING = os.path.dirname(os.path.abspath(__file__))
STOP_CHAIN = 2


class HookError(Exception):
    """A before_* point aborts the action."""


class Runner:
    """Runs hooks. Any number of threads may use one; log: (path, exit status, stderr) in order."""

    def __init__(self, hooks, directory, base=None, user="vdsm"):
        """directory: where the user may write; base: VDSM's own environment, else this process's."""
        self.hooks = hooks
        self.directory = directory
        self.base = dict(os.environ if base is None else base)
        self.user = self._identity(user)
        self.timeout = None  # seconds for one script; VDSM waits for ever
        self.log = []
        self.warnings = []
        self.lock = threading.Lock()

    @staticmethod
    def _identity(user):
        """What Popen needs to become that user; nothing where this process cannot, or he is not."""
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(user)
            if os.geteuid() == 0:
                return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        return {}

    def scripts(self, point):
        directory = f"{self.hooks}/{point}"
        names = os.listdir(directory) if os.path.isdir(directory) else []
        paths = sorted(f"{directory}/{name}" for name in names if not name.startswith("."))
        return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]

    def environment(self, vm_id, properties, file, variable="_hook_domxml"):
        path = f"{properties.get('PYTHONPATH', self.base.get('PYTHONPATH', ''))}:{HOOKING}"
        own = {"vmId": vm_id} if vm_id else {}
        return {**self.base, **properties, **own, "PYTHONPATH": path, variable: file}

    def run_script(self, path, environment, arguments=(), as_root=False):
        """One script; its exit status and its stderr. VDSM passes no arguments."""
        done = subprocess.run([path, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=environment, timeout=self.timeout,
                              check=False, **({} if as_root else self.user))
        text = done.stderr.decode(errors="backslashreplace")
        with self.lock:
            self.log.append((path, done.returncode, text))
            if done.returncode not in (0, 1, 2):
                self.warnings.append(f"{path}: unexpected status {done.returncode}")
        return done.returncode, text

    def store(self, text):
        """The file that _hook_domxml or _hook_json names."""
        fd, path = tempfile.mkstemp(dir=self.directory)  # mode 0600
        with os.fdopen(fd, "wb") as file:
            if self.user:
                os.fchown(fd, self.user["user"], self.user["group"])
            file.write(text.encode())
        return path

    def read_back(self, path):
        """By name and with the user's rights: this process may have more, and threads."""
        done = subprocess.run(["cat", path], stdin=subprocess.DEVNULL, capture_output=True,
                              check=False, **self.user)
        if done.returncode != 0:
            raise OSError(done.stderr.decode())
        return done.stdout.decode()

    def run_point(self, point, vm_id, text, properties, variable="_hook_domxml"):
        """All scripts of a point: the file as they left it, and (exit status, stderr) of each."""
        scripts = self.scripts(point)
        results = []
        if not scripts:
            return text, results
        path = self.store(text)
        try:
            environment = self.environment(vm_id, properties, path, variable)
            for script in scripts:
                results.append(self.run_script(script, environment,
                                               as_root=point == "before_vdsm_start"))
                if results[-1][0] == STOP_CHAIN:
                    break
            if point != "before_vm_start":
                self._raise(point, results)
            return self.read_back(path), results
        finally:
            os.unlink(path)

    def before_vdsm_start(self):
        """What VDSM's unit does before the daemon; each script's result."""
        return self.run_point("before_vdsm_start", "", "", {})[1]

    def report(self, point, document):
        """after_get_stats or after_get_caps: what VDSM reports then, and each script's result."""
        text, results = self.run_point(point, "", json.dumps(document), {}, "_hook_json")
        return json.loads(text), results

    @staticmethod
    def _raise(point, results):
        aborts = point.startswith("before_") and point not in GOES_ON_AFTER_FAILURE
        if aborts and any(status != 0 for status, _ in results):
            raise HookError(results[-1][1])


class VdsmVm:
    """VDSM for one VM. xml is what VDSM would start it with, and thus changes."""

    def __init__(self, runner, uuid, xml, properties=None):
        self.runner = runner
        self.uuid = uuid
        self.xml = xml
        self.properties = dict(properties or {})

    def run_point(self, point, xml=None, **params):
        """The point's output, which most callers have to ignore; and each script's result."""
        return self.runner.run_point(point, self.uuid, self.xml if xml is None else xml,
                                     {**params, **self.properties})

    def before_vm_start(self, takes_output=True):
        xml, results = self.run_point("before_vm_start")
        if takes_output:
            self.xml = xml
        errors = [text for status, text in results if status != 0]
        if errors:
            raise HookError(errors[-1])

    def start(self, launch):
        self.before_vm_start()
        launch(self.xml)
        self.run_point("after_vm_start")

    def restore(self, launch, saved=None):
        """libvirt takes the XML that is in the saved image, not the one that the engine sends."""
        self.before_vm_start(takes_output=False)
        saved = self.xml if saved is None else saved
        self.run_point("before_vm_dehibernate", saved, FROM_SNAPSHOT="False")
        launch(saved)
        self.run_point("after_vm_dehibernate", saved, FROM_SNAPSHOT=False)

    def hibernate(self, save):
        self.run_point("before_vm_hibernate")
        save()
        self.run_point("after_vm_hibernate")

    def migrate_out(self, migrate):
        """To another host; the engine destroys what is left of it here, some time."""
        self.run_point("before_vm_migrate_source")
        migrate()
        self.run_point("after_vm_migrate_source")

    def plug_memory(self, device, attach):
        """attach(device) plugs it; there is no point for its failure."""
        device, _ = self.run_point("before_memory_hotplug", device)
        attach(device)
        self.run_point("after_memory_hotplug", device)

    def plug_device(self, kind, device, attach):
        """kind: "nic" or "disk"."""
        device, _ = self.run_point(f"before_{kind}_hotplug", device)
        attach(device)
        self.run_point(f"after_{kind}_hotplug", device)

    def migrate_in(self, launch):
        """xml is the source's, and libvirt starts it from there; launch is the migration itself."""
        self.run_point("before_vm_migrate_destination")
        launch(self.xml)
        self.run_point("after_vm_migrate_destination")

    def destroy(self, end=lambda: None):
        """Of a VM that runs, or that failed to start and is destroyed by the engine later."""
        self.run_point("before_vm_destroy", xml="")
        end()
        self.gone()

    def gone(self):
        """The guest has shut down, or its QEMU has died."""
        self.run_point("after_vm_destroy")
