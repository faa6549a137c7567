# SPDX-License-Identifier: LGPL-2.1-or-later
"""hugevm's ABI from Python: a host in another language, as far as the tests need it.

    host = Host(module, conf_files=["/etc/hugevm/hugevm.conf"])
    result = host.before_vm_start(xml, {"hugepages": "2048"})
    host.vm_launching(result.uuid, result.generation, memory_directories=["/dev/hugepages/vm"])
    ... start result.xml ...
    host.after_vm_start(result.uuid, result.generation)
    ... the VM ends ...
    host.after_vm_destroy(result.uuid, result.generation)

Errors are raised as HugevmError, whose code is one of the numbers of plugin.h.
"""

import ctypes
from ctypes import (CFUNCTYPE, POINTER, Structure, byref, c_char, c_char_p, c_int32, c_int64,
                    c_uint32, c_uint64, c_void_p)

CONFLICT, SHORTAGE, TIMEOUT, CANCELLED, UNKNOWN_VM = 7, 8, 9, 10, 14
WILL_CALL_LAUNCHING = 1

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
                ("timeout_ms", c_uint32), ("reserved", c_uint32)]


class Ref(Structure):
    """struct hugevm_vm_ref."""

    _fields_ = [("size", c_uint32), ("reserved", c_uint32), ("uuid", c_char_p),
                ("generation", c_uint64), ("qemu_pid", c_int64),
                ("memory_directories", POINTER(c_char_p))]


BEGIN = CFUNCTYPE(c_int32, c_void_p, POINTER(Vm), POINTER(c_void_p), POINTER(Error))
EVENT = CFUNCTYPE(c_int32, c_void_p, POINTER(Ref), POINTER(Error))


class Plugin(Structure):
    _fields_ = [
        ("size", c_uint32), ("abi_major", c_uint32), ("abi_minor", c_uint32),
        ("features", c_uint32), ("version", c_char_p),
        ("open", CFUNCTYPE(c_int32, POINTER(Offer), POINTER(Options), POINTER(c_void_p),
                           POINTER(Error))),
        ("close", CFUNCTYPE(None, c_void_p)), ("before_vm_start", BEGIN), ("vm_launching", EVENT),
        ("after_vm_start", EVENT), ("after_vm_destroy", EVENT),
        ("before_vm_migrate_destination", BEGIN), ("after_vm_migrate_destination", EVENT),
        ("after_vm_migrate_source", EVENT), ("before_vm_dehibernate", BEGIN),
        ("after_vm_hibernate", EVENT), ("vm_start_failed", EVENT),
        ("before_memory_hotplug", c_void_p), ("after_memory_hotplug", c_void_p),
        ("memory_hotplug_failed", c_void_p), ("after_memory_hotunplug", c_void_p),
        ("reconcile_begin", c_void_p), ("reconcile", c_void_p), ("get_caps", c_void_p),
        ("get_stats", c_void_p), ("plan", BEGIN),
        ("result_domain_xml", CFUNCTYPE(c_void_p, c_void_p, POINTER(c_uint64))),
        ("result_xml_changed", CFUNCTYPE(c_int32, c_void_p)),
        ("result_uuid", CFUNCTYPE(c_char_p, c_void_p)),
        ("result_generation", CFUNCTYPE(c_uint64, c_void_p)),
        ("result_json", CFUNCTYPE(c_char_p, c_void_p)),
        ("result_warning_count", CFUNCTYPE(c_uint64, c_void_p)),
        ("result_warning", CFUNCTYPE(c_char_p, c_void_p, c_uint64)),
        ("result_free", CFUNCTYPE(None, c_void_p)),
        ("adapt_incoming_xml", BEGIN),
    ]


class HugevmError(Exception):
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
        self.xml = ctypes.string_at(text, size.value).decode()
        self.xml_changed = plugin.result_xml_changed(pointer) != 0
        self.uuid = (plugin.result_uuid(pointer) or b"").decode()
        self.generation = plugin.result_generation(pointer)
        self.json = plugin.result_json(pointer).decode()
        self.warnings = [plugin.result_warning(pointer, i).decode()
                         for i in range(plugin.result_warning_count(pointer))]
        plugin.result_free(pointer)


def sized(kind, **fields):
    return kind(size=ctypes.sizeof(kind), **fields)


class Host:
    def __init__(self, module, conf_files=None, name="python", owner_pid=0, root=None):
        self.progress_calls = []  # (done, total, what)
        self.on_progress = None  # called with these; true cancels
        self._progress = PROGRESS(self._report_progress)  # kept: the plugin calls it
        offer = sized(Offer, abi_major=1, abi_minor=0, name=name.encode(), owner_pid=owner_pid,
                      progress=self._progress)
        options = sized(Options, root=root.encode() if root else None)
        if conf_files is not None:
            paths = [path.encode() for path in conf_files]
            options.conf_files = (c_char_p * (len(paths) + 1))(*paths, None)
        table, error = POINTER(Plugin)(), sized(Error)
        negotiate = ctypes.CDLL(module).hugevm_plugin_negotiate
        negotiate.argtypes = [POINTER(Offer), POINTER(POINTER(Plugin)), POINTER(Error)]
        self._check(negotiate(byref(offer), byref(table), byref(error)), error)
        self.plugin = table.contents
        self._handle = c_void_p()
        self._check(self.plugin.open(byref(offer), byref(options), byref(self._handle),
                                     byref(error)), error)

    def close(self):
        self.plugin.close(self._handle)
        self._handle = None

    @staticmethod
    def _check(code, error):
        if code != 0:
            raise HugevmError(code, error)

    def _report_progress(self, _opaque, done, total, what):
        self.progress_calls.append((done, total, what.decode()))
        return 1 if self.on_progress is not None and self.on_progress(done, total) else 0

    def _begin(self, slot, xml, properties, timeout_ms):
        text = xml.encode()
        pairs = [Property(k.encode(), v.encode()) for k, v in (properties or {}).items()]
        vm = sized(Vm, flags=WILL_CALL_LAUNCHING, domain_xml=text, domain_xml_bytes=len(text),
                   properties=(Property * len(pairs))(*pairs), property_count=len(pairs),
                   timeout_ms=timeout_ms)
        pointer, error = c_void_p(), sized(Error)
        self._check(slot(self._handle, byref(vm), byref(pointer), byref(error)), error)
        return Result(self.plugin, pointer)

    def _tell(self, slot, uuid, generation, qemu_pid, memory_directories=None):
        ref = sized(Ref, uuid=uuid.encode(), generation=generation, qemu_pid=qemu_pid)
        if memory_directories is not None:
            paths = [path.encode() for path in memory_directories]
            ref.memory_directories = (c_char_p * (len(paths) + 1))(*paths, None)
        error = sized(Error)
        self._check(slot(self._handle, byref(ref), byref(error)), error)

    def plan(self, xml, properties=None):
        return self._begin(self.plugin.plan, xml, properties, 0)

    def before_vm_start(self, xml, properties=None, timeout_ms=0):
        return self._begin(self.plugin.before_vm_start, xml, properties, timeout_ms)

    def vm_launching(self, uuid, generation=0, qemu_pid=0, memory_directories=None):
        """memory_directories: on hugetlbfs, where QEMU will make its files; None: not known."""
        self._tell(self.plugin.vm_launching, uuid, generation, qemu_pid, memory_directories)

    def after_vm_start(self, uuid, generation=0, qemu_pid=0):
        self._tell(self.plugin.after_vm_start, uuid, generation, qemu_pid)

    def after_vm_destroy(self, uuid, generation=0, qemu_pid=0):
        self._tell(self.plugin.after_vm_destroy, uuid, generation, qemu_pid)

    def vm_start_failed(self, uuid, generation=0, qemu_pid=0):
        self._tell(self.plugin.vm_start_failed, uuid, generation, qemu_pid)
