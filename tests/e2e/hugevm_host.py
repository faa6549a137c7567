# SPDX-License-Identifier: 0BSD
"""hugevm's ABI for hosts in Python: one file without dependencies, to copy into any agent.

    host = Host("/usr/lib/x86_64-linux-gnu/hugevm/1/hugevm.so", name="my agent")
    result = host.before_vm_start(xml, {"hugepages": "2048"}, flags=WILL_CALL_LAUNCHING)
    host.vm_launching(result.uuid, result.generation, memory_directories=["/dev/hugepages/vm"])
    ... start result.xml ...
    host.after_vm_start(result.uuid, result.generation)
    ... the VM ends ...
    host.after_vm_destroy(result.uuid, result.generation)

A refusal is raised as HugevmError, whose code is one of the numbers below. What each slot does and
promises stands in include/hugevm/plugin.h; doc/host-authors.md leads through a VM's life.

Slots may be called from any thread, and other threads of Python run on meanwhile. A Host may be
used by all of them; close() needs it to be idle.
"""

import ctypes
import json
import traceback
from ctypes import (CFUNCTYPE, POINTER, Structure, byref, c_char, c_char_p, c_int32, c_int64,
                    c_uint32, c_uint64, c_void_p)

ABI_MAJOR, ABI_MINOR = 1, 0

# HUGEVM_ERROR_*; a number that is not here means the same as SYSTEM
(INVALID_ARGUMENT, NOT_SUPPORTED, ABI_MISMATCH, BAD_PROPERTY, BAD_XML, BAD_CONFIG, CONFLICT,
 SHORTAGE, TIMEOUT, CANCELLED, PERMISSION, LEDGER, SYSTEM, UNKNOWN_VM) = range(1, 15)

# HUGEVM_VM_*
WILL_CALL_LAUNCHING, CANNOT_EDIT_XML, ADOPT_CLAIM, HOST_WAITS, BY_LIBVIRTD = 1, 2, 4, 8, 16

# HUGEVM_VM_REF_*
REF_OWN_CLAIM, REF_HOST_WAITS = 1, 2

# HUGEVM_LOG_*
LOG_DEBUG, LOG_INFO, LOG_WARNING = 1, 2, 3

LOG = CFUNCTYPE(None, c_void_p, c_uint32, c_char_p, c_char_p)
PROGRESS = CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64, c_char_p)


class Error(Structure):
    _fields_ = [("size", c_uint32), ("code", c_int32), ("system_errno", c_int32),
                ("reserved", c_uint32), ("message", c_char * 1024), ("hint", c_char * 1024)]


class Offer(Structure):
    """struct hugevm_host."""

    _fields_ = [("size", c_uint32), ("abi_major", c_uint32), ("abi_minor", c_uint32),
                ("features", c_uint32), ("name", c_char_p), ("opaque", c_void_p), ("log", LOG),
                ("progress", PROGRESS), ("owner_pid", c_int64)]


class Options(Structure):
    _fields_ = [("size", c_uint32), ("reserved", c_uint32), ("root", c_char_p),
                ("conf_files", POINTER(c_char_p))]


class Property(Structure):
    _fields_ = [("name", c_char_p), ("value", c_char_p)]


class Vm(Structure):
    _fields_ = [("size", c_uint32), ("flags", c_uint32), ("uuid", c_char_p),
                ("domain_xml", c_char_p), ("domain_xml_bytes", c_uint64),
                ("properties", POINTER(Property)), ("property_count", c_uint64),
                ("timeout_ms", c_uint32), ("reserved", c_uint32),
                ("libvirt_version", c_uint32), ("qemu_version", c_uint32)]


class Ref(Structure):
    """struct hugevm_vm_ref."""

    _fields_ = [("size", c_uint32), ("flags", c_uint32), ("uuid", c_char_p),
                ("generation", c_uint64), ("qemu_pid", c_int64),
                ("memory_directories", POINTER(c_char_p))]


RESULT, ERROR = POINTER(c_void_p), POINTER(Error)
BEGIN = CFUNCTYPE(c_int32, c_void_p, POINTER(Vm), RESULT, ERROR)
EVENT = CFUNCTYPE(c_int32, c_void_p, POINTER(Ref), ERROR)
PLUG = CFUNCTYPE(c_int32, c_void_p, POINTER(Ref), c_char_p, c_uint64, RESULT, ERROR)
PLUG_END = CFUNCTYPE(c_int32, c_void_p, POINTER(Ref), c_char_p, c_uint64, ERROR)
REPORT = CFUNCTYPE(c_int32, c_void_p, RESULT, ERROR)


class Plugin(Structure):
    _fields_ = [
        ("size", c_uint32), ("abi_major", c_uint32), ("abi_minor", c_uint32),
        ("features", c_uint32), ("version", c_char_p),
        ("open", CFUNCTYPE(c_int32, POINTER(Offer), POINTER(Options), POINTER(c_void_p), ERROR)),
        ("close", CFUNCTYPE(None, c_void_p)), ("before_vm_start", BEGIN), ("vm_launching", EVENT),
        ("after_vm_start", EVENT), ("after_vm_destroy", EVENT),
        ("before_vm_migrate_destination", BEGIN), ("after_vm_migrate_destination", EVENT),
        ("after_vm_migrate_source", EVENT), ("before_vm_dehibernate", BEGIN),
        ("after_vm_hibernate", EVENT), ("vm_start_failed", EVENT),
        ("before_memory_hotplug", PLUG), ("after_memory_hotplug", PLUG_END),
        ("memory_hotplug_failed", PLUG_END), ("after_memory_hotunplug", PLUG_END),
        ("reconcile_begin", CFUNCTYPE(c_int32, c_void_p, POINTER(c_uint64), ERROR)),
        ("reconcile", CFUNCTYPE(c_int32, c_void_p, c_uint64, POINTER(c_char_p), c_uint64, ERROR)),
        ("get_caps", REPORT), ("get_stats", REPORT), ("plan", BEGIN),
        ("result_domain_xml", CFUNCTYPE(c_void_p, c_void_p, POINTER(c_uint64))),
        ("result_xml_changed", CFUNCTYPE(c_int32, c_void_p)),
        ("result_uuid", CFUNCTYPE(c_char_p, c_void_p)),
        ("result_generation", CFUNCTYPE(c_uint64, c_void_p)),
        ("result_json", CFUNCTYPE(c_char_p, c_void_p)),
        ("result_warning_count", CFUNCTYPE(c_uint64, c_void_p)),
        ("result_warning", CFUNCTYPE(c_char_p, c_void_p, c_uint64)),
        ("result_free", CFUNCTYPE(None, c_void_p)), ("adapt_incoming_xml", BEGIN),
        ("before_device_hotplug", PLUG_END),
    ]


class HugevmError(Exception):
    """A refusal: message for whoever wanted the VM, hint (may be empty) what to do about it."""

    def __init__(self, code, error):
        self.code = code
        self.message = error.message.decode()
        self.hint = error.hint.decode()
        super().__init__(f"code {code}: {self.message}")


class Result:
    """Copied out of the plugin's memory, which is freed."""

    def __init__(self, plugin, pointer):
        size = c_uint64()
        text = plugin.result_domain_xml(pointer, byref(size))
        self.xml = ctypes.string_at(text, size.value).decode() if text else None
        self.xml_changed = plugin.result_xml_changed(pointer) != 0
        self.uuid = (plugin.result_uuid(pointer) or b"").decode()
        self.generation = plugin.result_generation(pointer)  # 0: no claim, nothing more to call
        self.json = (plugin.result_json(pointer) or b"").decode()
        self.warnings = [plugin.result_warning(pointer, i).decode()
                         for i in range(plugin.result_warning_count(pointer))]
        plugin.result_free(pointer)


def sized(kind, **fields):
    return kind(size=ctypes.sizeof(kind), **fields)


def strings(texts):
    """A NULL-terminated array; texts None: NULL."""
    if texts is None:
        return None
    return (c_char_p * (len(texts) + 1))(*(text.encode() for text in texts), None)


def describe(xml, properties, timeout_ms, flags, versions):
    """A struct hugevm_vm, which keeps what it points to."""
    text = xml.encode()
    pairs = [Property(name.encode(), value.encode()) for name, value in (properties or {}).items()]
    return sized(Vm, flags=flags, domain_xml=text, domain_xml_bytes=len(text),
                 properties=(Property * len(pairs))(*pairs), property_count=len(pairs),
                 timeout_ms=timeout_ms, libvirt_version=versions[0], qemu_version=versions[1])


def refer(uuid, generation, qemu_pid=0, memory_directories=None, flags=0):
    """A struct hugevm_vm_ref, likewise."""
    return sized(Ref, flags=flags, uuid=uuid.encode(), generation=generation, qemu_pid=qemu_pid,
                 memory_directories=strings(memory_directories))


class Host:
    """A handle. Raises OSError where there is no module, HugevmError where it does not fit."""

    def __init__(self, module, conf_files=None, name="python", owner_pid=0, root=None):
        self.versions = 0, 0  # of libvirt and QEMU, as virConnectGetLibVersion has them
        self.on_progress = None  # called with (done pages, total pages, what); true cancels
        self.on_log = None  # called with (level, text)
        self._callbacks = LOG(self._log), PROGRESS(self._progress)  # kept: the plugin calls them
        log, progress = self._callbacks
        offer = sized(Offer, abi_major=ABI_MAJOR, abi_minor=ABI_MINOR, name=name.encode(), log=log,
                      progress=progress, owner_pid=owner_pid)
        self._offer = offer  # its name must live as long as the handle
        options = sized(Options, root=root.encode() if root else None,
                        conf_files=strings(conf_files))
        table, error = POINTER(Plugin)(), sized(Error)
        negotiate = ctypes.CDLL(module).hugevm_plugin_negotiate
        negotiate.argtypes = [POINTER(Offer), POINTER(POINTER(Plugin)), ERROR]
        self._check(negotiate(byref(offer), byref(table), byref(error)), error)
        self.plugin = Plugin()  # of an older module's table the end stays zero
        ctypes.memmove(byref(self.plugin), table,
                       min(table.contents.size, ctypes.sizeof(Plugin)))
        self._handle = c_void_p()
        self._call(self.plugin.open, byref(offer), byref(options), byref(self._handle),
                   of_handle=False)

    def close(self):
        """Claims stay: they belong to VMs."""
        self.plugin.close(self._handle)
        self._handle = None

    @staticmethod
    def _check(code, error):
        if code != 0:
            raise HugevmError(code, error)

    def _call(self, slot, *arguments, of_handle=True):
        error = sized(Error)
        handle = [self._handle] if of_handle else []
        if not slot:
            error.message = b"the module is older than this slot"
            raise HugevmError(NOT_SUPPORTED, error)
        self._check(slot(*handle, *arguments, byref(error)), error)

    def _ask(self, slot, *arguments):
        pointer = c_void_p()
        self._call(slot, *arguments, byref(pointer))
        return Result(self.plugin, pointer)

    def _log(self, _opaque, level, _domain, text):
        if self.on_log is not None:
            self.on_log(level, text.decode())

    def _progress(self, _opaque, done, total, what):
        if self.on_progress is None:
            return 0
        try:
            return 1 if self.on_progress(done, total, what.decode()) else 0
        except BaseException:  # cannot pass through C: the growth ends instead
            traceback.print_exc()
            return 1

    def _describe(self, xml, properties, timeout_ms, flags):
        return describe(xml, properties, timeout_ms, flags, self.versions)

    # --- a VM's start and end ---

    def plan(self, xml, properties=None, flags=0):
        return self._ask(self.plugin.plan, byref(self._describe(xml, properties, 0, flags)))

    def before_vm_start(self, xml, properties=None, timeout_ms=0, flags=WILL_CALL_LAUNCHING):
        return self._ask(self.plugin.before_vm_start,
                         byref(self._describe(xml, properties, timeout_ms, flags)))

    def vm_launching(self, uuid, generation=0, qemu_pid=0, memory_directories=None):
        """memory_directories: on hugetlbfs, where QEMU will make its files; None: not known."""
        self._call(self.plugin.vm_launching,
                   byref(refer(uuid, generation, qemu_pid, memory_directories)))

    def after_vm_start(self, uuid, generation=0, qemu_pid=0):
        self._call(self.plugin.after_vm_start, byref(refer(uuid, generation, qemu_pid)))

    def after_vm_destroy(self, uuid, generation=0, qemu_pid=0, flags=0):
        self._call(self.plugin.after_vm_destroy,
                   byref(refer(uuid, generation, qemu_pid, flags=flags)))

    def vm_start_failed(self, uuid, generation=0, qemu_pid=0):
        self._call(self.plugin.vm_start_failed, byref(refer(uuid, generation, qemu_pid)))

    # --- migration and saved states ---

    def before_vm_migrate_destination(self, xml, properties=None, timeout_ms=0,
                                      flags=WILL_CALL_LAUNCHING):
        return self._ask(self.plugin.before_vm_migrate_destination,
                         byref(self._describe(xml, properties, timeout_ms, flags)))

    def adapt_incoming_xml(self, xml):
        """For a page size that this host lacks, before the claim; takes nothing."""
        return self._ask(self.plugin.adapt_incoming_xml, byref(self._describe(xml, None, 0, 0))).xml

    def after_vm_migrate_destination(self, uuid, generation=0, qemu_pid=0):
        self._call(self.plugin.after_vm_migrate_destination,
                   byref(refer(uuid, generation, qemu_pid)))

    def after_vm_migrate_source(self, uuid, generation=0):
        self._call(self.plugin.after_vm_migrate_source, byref(refer(uuid, generation)))

    def before_vm_dehibernate(self, saved_xml, timeout_ms=0, flags=WILL_CALL_LAUNCHING):
        return self._ask(self.plugin.before_vm_dehibernate,
                         byref(self._describe(saved_xml, None, timeout_ms, flags)))

    def after_vm_hibernate(self, uuid, generation=0):
        self._call(self.plugin.after_vm_hibernate, byref(refer(uuid, generation)))

    # --- memory devices; generation: of before_memory_hotplug's result ---

    def before_memory_hotplug(self, uuid, device_xml, qemu_pid=0):
        text = device_xml.encode()
        return self._ask(self.plugin.before_memory_hotplug, byref(refer(uuid, 0, qemu_pid)), text,
                         len(text))

    def before_device_hotplug(self, uuid, device_xml):
        """Of any other device; raises where it cannot work in this VM."""
        self._end_plug(self.plugin.before_device_hotplug, uuid, device_xml, 0)

    def after_memory_hotplug(self, uuid, device_xml, generation=0):
        self._end_plug(self.plugin.after_memory_hotplug, uuid, device_xml, generation)

    def memory_hotplug_failed(self, uuid, device_xml, generation=0):
        self._end_plug(self.plugin.memory_hotplug_failed, uuid, device_xml, generation)

    def after_memory_hotunplug(self, uuid, device_xml):
        self._end_plug(self.plugin.after_memory_hotunplug, uuid, device_xml, 0)

    def _end_plug(self, slot, uuid, device_xml, generation):
        text = device_xml.encode()
        self._call(slot, byref(refer(uuid, generation)), text, len(text))

    # --- the host ---

    def reconcile_begin(self):
        """The sequence for reconcile(); find out which VMs run between the two."""
        sequence = c_uint64()
        self._call(self.plugin.reconcile_begin, byref(sequence))
        return sequence.value

    def reconcile(self, sequence, running_uuids):
        uuids = list(running_uuids)
        self._call(self.plugin.reconcile, sequence, strings(uuids), len(uuids))

    def get_caps(self):
        return json.loads(self._ask(self.plugin.get_caps).json)

    def get_stats(self):
        return json.loads(self._ask(self.plugin.get_stats).json)
