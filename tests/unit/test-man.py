#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares the man pages with what they describe. usage: test-man.py HUGEVMCTL DOC_DIRECTORY (TAP)

The pages are read as scdoc source: a heading begins with '#', a term of a list with '*', its text
with a tab. The JSON keys are those that hugevmctl prints for a made-up host.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

UUID = "11111111-2222-3333-4444-555555555555"
XML = f"""<domain type='kvm'><name>vm</name><uuid>{UUID}</uuid><memory unit='MiB'>64</memory>
<numatune><memory mode='strict' nodeset='0-1'/></numatune></domain>"""
CONF = """[performance]
use_dynamic_hugepages = true
[hugevm]
host_memory_floor = 0,0%
reserved = db=size:2M,count:1
[DEFAULT]
compact = true
"""
NODE_MEMORY = "Node {0} MemTotal: 8388608 kB\nNode {0} MemFree: 8388608 kB\n"


class Page:
    def __init__(self, path):
        self.text = path.read_text(encoding="utf-8")

    def sections(self, marks):
        """Heading -> text, for the headings of one level."""
        parts = re.split(rf"^{marks} (.*)$", self.text, flags=re.MULTILINE)
        ends = re.compile(rf"^#{{1,{len(marks)}}} .*", re.MULTILINE | re.DOTALL)
        return {name: ends.sub("", text) for name, text in zip(parts[1::2], parts[2::2])}

    def code(self, heading):
        return self.sections("#")[heading].split("```\n")[1]


def terms(text):
    return [line for line in text.splitlines() if line.startswith("*")]


def bold(text):
    return [word.replace("\\", "") for word in re.findall(r"\*([^*]+)\*", text)]


class Ctl:
    def __init__(self, path):
        self.path = path

    def run(self, *arguments):
        run = subprocess.run([self.path, *arguments], capture_output=True, text=True, check=False,
                             env=dict(os.environ, LC_ALL="C.UTF-8"))
        if run.returncode != 0:
            raise RuntimeError(f"{arguments}: {run.stderr}")
        return run.stdout

    def commands(self):
        return re.findall(r"^  ([a-z]+)  ", self.run("--help").split("Commands:")[1], re.MULTILINE)

    def options(self, *command):
        """{"--property=KEY=VALUE", "-p", ...}"""
        text = self.run(*command, "--help").split("Help Options:")[1].split("Commands:")[0]
        found = set()
        for line in re.findall(r"^  (-.*?)(?:  .*)?$", text, re.MULTILINE):
            found.update(line.split(", "))
        return found


def options_in(text):
    found = set()
    for line in terms(text):
        plain = line.replace("*", "").replace("_", "")
        found.update(one for one in plain.split(", ") if one.startswith("-"))
    return found


def difference(what, documented, real):
    return ([f"not in the page: {what} {name}" for name in sorted(real - documented)]
            + [f"only in the page: {what} {name}" for name in sorted(documented - real)])


def check_commands(ctl, doc):
    headings = Page(doc / "hugevmctl.8.scd").sections("##")
    documented = {name.split()[0] for name in headings if not name.startswith("JSON ")}
    return difference("command", documented, set(ctl.commands()))


def check_options(ctl, doc):
    page = Page(doc / "hugevmctl.8.scd")
    everywhere = options_in(page.sections("#")["OPTIONS"])
    wrong = difference("option", everywhere, ctl.options())
    for heading, text in page.sections("##").items():
        command = heading.split()[0]
        if command == "JSON":
            continue
        documented = options_in(text) | (everywhere - {"--version"})
        wrong += difference(f"option of {command}", documented, ctl.options(command))
    return wrong


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_pool(root, node, size_kib, total):
    directory = root / f"sys/devices/system/node/node{node}"
    write(directory / "meminfo", NODE_MEMORY.format(node))
    for name, pages in (("nr", total), ("free", total), ("surplus", 0)):
        write(directory / f"hugepages/hugepages-{size_kib}kB/{name}_hugepages", f"{pages}\n")
    write(root / f"sys/kernel/mm/hugepages/hugepages-{size_kib}kB/nr_hugepages", f"{2 * total}\n")


def make_ledger(root):
    """One claim whose owner, process 7, is alive, on pages of node 0 or 1."""
    write(root / "proc/7/stat", "7 (agent) S" + " 0" * 18 + " 5 0\n")
    owner = {"pid": 7, "start_ticks": 5}
    need = {"nodes": "0-1", "size_kib": 2048, "pages": 4}
    claim = {"uuid": UUID.replace("1", "2"), "name": "other", "generation": 1, "state": "claimed",
             "owner_name": "test", "owner": owner, "qemu": {"pid": 0, "start_ticks": 0},
             "needs": [need], "shared": False, "from_hugetlbfs": True,
             "files": [], "may_hand_over": False, "is_handed_over": False}
    write(root / "run/hugevm/ledger.json",
          json.dumps({"format": 1, "boot_id": "boot", "last_generation": 1,
                      "handover_failed": False, "grown": [],
                      "intents": [], "claims": [claim]}))
    (root / "run/hugevm").chmod(0o755)


def make_user_of_pages(root):
    """A process that audit has a note for, and for whom pages are reserved."""
    write(root / "proc/8/status", "Name:\tdb\nUid:\t0\t0\t0\t0\nHugetlbPages:\t2048 kB\n")
    write(root / "proc/8/comm", "db\n")
    (root / "proc/8/exe").symlink_to("/usr/bin/db")


def make_running_vm(root):
    """Process 9, whose claim is on nodes 0 and 1, and which has its pages elsewhere."""
    write(root / "proc/9/stat", "9 (qemu) S" + " 0" * 18 + " 6 0\n")
    write(root / "proc/9/numa_maps", "7f00 default huge N2=1 N3=1 kernelpagesize_kB=2048\n"
          "7f10 default N0=65536 kernelpagesize_kB=4\n7f20 default huge N0=1 "
          "kernelpagesize_kB=1048576\n")
    path = root / "run/hugevm/ledger.json"
    ledger = json.loads(path.read_text(encoding="utf-8"))
    ledger["claims"].append({**ledger["claims"][0], "uuid": UUID, "state": "running",
                             "generation": 2, "qemu": {"pid": 9, "start_ticks": 6}})
    write(path, json.dumps({**ledger, "last_generation": 2}))


def make_grown(root):
    """Pages of node 1 that hugevm added, and that are in use."""
    path = root / "run/hugevm/ledger.json"
    ledger = json.loads(path.read_text(encoding="utf-8"))
    write(root / "sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "0\n")
    pages = int((root / "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages")
                .read_text(encoding="ascii"))
    ledger["grown"] = [{"node": 1, "size_kib": 2048, "grown_pages": 1, "persistent_pages": pages,
                        "handed_pages": 0, "regained_pages": 0}]
    write(path, json.dumps(ledger))


def make_host(root):
    write(root / "proc/meminfo",
          "MemTotal: 16777216 kB\nMemFree: 16777216 kB\nMemAvailable: 16777216 kB\n"
          "Hugepagesize: 2048 kB\n")
    write(root / "proc/sys/kernel/random/boot_id", "boot\n")
    write(root / "etc/hugevm/hugevm.conf", CONF)
    write(root / "vm.xml", XML)
    for node in (0, 1):
        make_pool(root, node, 2048, 8)
    make_ledger(root)
    make_user_of_pages(root)


def keys(value, prefix=""):
    """Paths of all keys: {"need[].pages", ...}"""
    found = set()
    if isinstance(value, dict):
        for name, inner in value.items():
            found |= {prefix + name} | keys(inner, f"{prefix}{name}.")
    elif isinstance(value, list):
        for inner in value:
            found |= keys(inner, prefix[:-1] + "[].")
    return found


# the made-up VM has its pages elsewhere, and the made-up host a key in the wrong section
# for drain its host is full
STATUS = {"verify": 1, "doctor": 1, "drain": 1}


def json_of(ctl, root, command):
    if command == "verify":
        make_running_vm(root)
    if command == "drain":
        make_grown(root)
    operands = {"plan": [str(root / "vm.xml"), "-p", "hugepages=2048"], "verify": ["9"],
                "define": ["--print", str(root / "vm.xml"), "-p", "hugepages=2048"]}
    run = subprocess.run([ctl.path, "--root", str(root), "--json", command,
                          *operands.get(command, [])], capture_output=True, text=True, check=False)
    if run.returncode != STATUS.get(command, 0):
        raise RuntimeError(f"{command}: {run.stderr}")
    return json.loads(run.stdout)


def refusal_of(ctl, root):
    """The keys of a refusal, which comes with an exit status of its own."""
    run = subprocess.run([ctl.path, "--root", str(root), "--json", "plan", str(root / "vm.xml"),
                          "-p", "hugepages=abc"], capture_output=True, text=True, check=False)
    return keys(json.loads(run.stdout)["refusal"], "refusal.")


def settled_of(ctl, root):
    """The keys of a plan for a VM that leaves page sizes and node to it."""
    write(root / "open.conf", "[hugevm]\nbind_unbound = prefer\n")
    write(root / "open.xml",
          f"<domain><name>vm</name><uuid>{UUID}</uuid><memory>8192</memory></domain>")
    plan = json.loads(ctl.run("--root", str(root), "--conf", str(root / "open.conf"), "--json",
                              "plan", str(root / "open.xml"), "-p", "hugepages=large"))
    return keys({name: plan[name] for name in ("chosen", "binding")})


def files_of(ctl, root, *command):
    """The keys of a command on a host that has VMs' memory in files."""
    (root / "srv/ram").mkdir(parents=True, exist_ok=True)
    write(root / "files.conf", "[hugevm]\nfile_backed_memory = 1024\nmemory_backing_dir = /srv/ram\n")
    write(root / "files.xml",
          f"<domain><name>vm</name><uuid>{UUID}</uuid><memory>8192</memory></domain>")
    report = json.loads(ctl.run("--root", str(root), "--conf", str(root / "files.conf"), "--json",
                                *command))
    return keys({"file_backed": report["file_backed"]})


def check_json(ctl, doc):
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        make_host(root)
        for heading, text in Page(doc / "hugevmctl.8.scd").sections("##").items():
            if not heading.startswith("JSON of "):
                continue
            command = heading.removeprefix("JSON of ")
            real = keys(json_of(ctl, root, command))
            documented = {key for line in terms(text) for key in re.split(r", ", line)}
            documented = {key.replace("*", "") for key in documented}
            if command == "plan":
                real |= refusal_of(ctl, root) | settled_of(ctl, root)
                real |= files_of(ctl, root, "plan", str(root / "files.xml"))
            if command == "status":
                real |= files_of(ctl, root, "status")
            if command in ("plan", "verify"):
                documented.add("vm")
            if command == "verify":
                documented |= {"normal"} | {key for key in bold(text) if "[]." in key}
            if command == "drain":  # documented as those of claims
                real -= {key for key in real if key.startswith("claims[].")}
            if command == "claims":
                documented |= {key for key in bold(text) if ".need[]." in key}
            wrong += difference(f"JSON key of {command}", documented, real)
    return wrong


def check_metadata(ctl, doc):
    """The page's elements are those that `define` writes, and that a plan reads."""
    text = Page(doc / "hugevmctl.8.scd").sections("#")["VM METADATA"]
    elements = text.split("```\n")[1::2]
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        make_host(root)
        run = ["--root", str(root), "--json"]
        wrong = [] if len(elements) == 2 else [f"{len(elements)} elements"]
        for element in elements:
            write(root / "vm.xml", XML.replace("<numatune>", element + "<numatune>"))
            plan = json.loads(ctl.run(*run, "plan", str(root / "vm.xml")))
            if plan["need"][0]["size_kib"] != 2048 or not plan["shared"]:
                wrong.append(f"{element} is read as {plan['need']}, shared {plan['shared']}")
        write(root / "vm.xml", XML.replace("<numatune>", "\n<numatune>"))
        xml = json.loads(ctl.run(*run, "define", "--print", str(root / "vm.xml"), "-p",
                                 "hugepages=2048", "-p", "shared=true"))["xml"]
        written = re.sub(r"<hugevm:added[^>]*/>|\s", "", xml)
        return wrong + ([] if re.sub(r"\s", "", elements[0]) in written else [xml])


def check_findings(_ctl, doc):
    table = (doc.parent / "core/audit.c").read_text(encoding="utf-8")
    real = set(re.findall(r'^    \[HV_FINDING_\w+\] = {"([a-z-]+)", (FALSE|TRUE)', table,
                          re.MULTILINE))
    text = Page(doc / "hugevmctl.8.scd").sections("##")["audit"]
    errors, notes = text.split("\nErrors:\n")[1].split("\nNotes, ")
    documented = {(name, level) for part, level in ((errors, "FALSE"), (notes, "TRUE"))
                  for line in terms(part) for name in bold(line)}
    return difference("finding", {" ".join(one) for one in documented},
                      {" ".join(one) for one in real})


def check_diagnoses(_ctl, doc):
    table = (doc.parent / "core/doctor.c").read_text(encoding="utf-8")
    real = re.findall(r'^    {"([a-z-]+)", check_', table, re.MULTILINE)
    text = Page(doc / "hugevmctl.8.scd").sections("##")["doctor"]
    documented = [bold(line)[0] for line in terms(text)]
    return [] if documented == real else [f"{documented} in the page, {real} in the table"]


def check_keys(ctl, doc):
    page = Page(doc / "hugevm.conf.5.scd")
    settings = json.loads(ctl.run("--conf", "/dev/null", "--json", "config"))["settings"]
    real = {f"[{one['section']}] {one['key']}" for one in settings}
    documented = {f"{section} {bold(line)[0]}"
                  for section, text in page.sections("#").items() if section.startswith("[")
                  for line in terms(text)}
    return difference("key", documented, real)


def check_defaults(ctl, doc):
    text = Page(doc / "hugevm.conf.5.scd").text
    wrong = []
    for one in json.loads(ctl.run("--conf", "/dev/null", "--json", "config"))["settings"]:
        entry = re.search(rf"^\*{one['key']}\* = .*?\sDefault:\s+(\S+)\.$", text,
                          re.MULTILINE | re.DOTALL)
        wanted = f"*{one['value']}*" if one["value"] != "" else "empty"
        if entry is None or entry[1] != wanted:
            wrong.append(f"{one['key']}: the page should say Default: {wanted}")
    return wrong


def check_errors(_ctl, doc):
    header = (doc.parent / "include/hugevm/plugin.h").read_text(encoding="utf-8")
    real = set(re.findall(r"^#define (HUGEVM_ERROR_\w+) (\d+)", header, re.MULTILINE))
    text = Page(doc / "hugevm-plugin.7.scd").sections("#")["ERRORS"]
    documented = set(re.findall(r"^\*(HUGEVM_ERROR_\w+)\* \((\d+)\)$", text, re.MULTILINE))
    return difference("error", {" ".join(one) for one in documented},
                      {" ".join(one) for one in real})


def slots(doc):
    header = (doc.parent / "include/hugevm/plugin.h").read_text(encoding="utf-8")
    table = header.split("struct hugevm_plugin {")[1].split("\n};")[0]
    return set(re.findall(r"\(\*(\w+)\)\(", table))


def check_slots(_ctl, doc):
    page = Page(doc / "hugevm-plugin.7.scd").sections("#")["SLOTS"]
    named = set(re.findall(r"\*([a-z_]+)\*(?!\()", page))
    return difference("slot", named, slots(doc))


def check_events(_ctl, doc):
    """The table of host-authors.md has a row for each slot that tells of an event, or asks."""
    rows = Page(doc / "host-authors.md").sections("##")["Your event, the slot, and what if it goes "
                                                        "wrong"]
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|[^|]*\|([^|]*)\|", rows,
                                                         re.MULTILINE))))
    real = {name for name in slots(doc) if not name.startswith("result_")} - {"open", "close"}
    return difference("slot", named, real)


def check_quotes(_ctl, doc):
    """Fenced code of host-authors.md stands in the programs that are run with the tests."""
    text = (doc / "host-authors.md").read_text(encoding="utf-8")
    ends = {"python": "py", "go": "go", "c": "c"}
    quotes = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [f"example-host.{ends[language]} has another text than: {quote}"
            for language, quote in quotes
            if quote not in (doc / f"example-host.{ends[language]}").read_text(encoding="utf-8")]


def check_hooks(_ctl, doc):
    """First columns of the page's tables, and the tables of the hook programs."""
    page = Page(doc / "hugevm-hooks.8.scd").sections("#")
    calls, points = (set(re.findall(r"^\|  (\w.*)$", page[name], re.MULTILINE))
                     for name in ("LIBVIRT", "VDSM"))
    table = {name: (doc.parent / f"plugin/{name}.c").read_text(encoding="utf-8")
             for name in ("libvirt-hook", "vdsm-hook", "vdsm-root")}
    events = set(re.findall(r'^    {"(\w+", "\w+)", \w+', table["libvirt-hook"], re.MULTILINE))
    wrong = difference("call", calls - {"everything else"},
                       {event.replace('", "', " ") for event in events})
    real = {name: set(re.findall(r'^    {"(\w+)"[,}]', table[name], re.MULTILINE))
            for name in ("vdsm-hook", "vdsm-root")}
    wrong += difference("point of vdsm-hook", points, real["vdsm-hook"])
    sudoers = (doc.parent / "plugin/meson.build").read_text(encoding="utf-8")
    asked = set(re.findall(r"'(\w+)'", sudoers.split("vdsm_root_points = [")[1].split("]")[0]))
    return wrong + difference("point of vdsm-root", asked, real["vdsm-root"])


def check_c_example(_ctl, doc):
    snippet = Page(doc / "hugevm-plugin.7.scd").code("A HOST IN C")
    source = (doc / "example-host.c").read_text(encoding="utf-8")
    return [] if snippet in source else ["the page quotes another text than example-host.c has"]


def check_python_example(ctl, doc):
    module = pathlib.Path(ctl.path).resolve().parent / "hugevm.so"
    snippet = Page(doc / "hugevm-plugin.7.scd").code("A HOST IN PYTHON")
    run = subprocess.run([sys.executable, "-c", f"path = {str(module)!r}\n{snippet}"],
                         capture_output=True, text=True, check=False)
    if run.returncode != 0 or json.loads(run.stdout)["vm"]["name"] != "example":
        return (run.stdout + run.stderr).splitlines()
    return []


def main(path, directory):
    checks = [
        ("hugevmctl(8) has every command and no other", check_commands),
        ("hugevmctl(8) has every option of every command and no other", check_options),
        ("hugevmctl(8) has every key of the JSON and no other", check_json),
        ("the metadata elements of hugevmctl(8) are read and written so", check_metadata),
        ("hugevmctl(8) has every finding of audit and no other", check_findings),
        ("hugevmctl(8) has every check of doctor, in order", check_diagnoses),
        ("hugevm.conf(5) has every key and no other", check_keys),
        ("hugevm.conf(5) has the built-in value of every key", check_defaults),
        ("hugevm-plugin(7) has every error with its number and no other", check_errors),
        ("hugevm-plugin(7) has every slot and no other", check_slots),
        ("hugevm-hooks(8) has every call and point, and no other", check_hooks),
        ("hugevm-plugin(7) quotes doc/example-host.c", check_c_example),
        ("host-authors.md says of every slot what if its event is lost", check_events),
        ("host-authors.md quotes the example hosts", check_quotes),
        ("the Python host of hugevm-plugin(7) runs", check_python_example),
    ]
    ctl, doc = Ctl(path), pathlib.Path(directory).resolve()
    print(f"1..{len(checks)}")
    for number, (name, check) in enumerate(checks, 1):
        try:
            wrong = check(ctl, doc)
        except (RuntimeError, KeyError, IndexError, ValueError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        print(f"{'not ok' if wrong else 'ok'} {number} - {name}")
        for line in wrong:
            print(f"# {line}")


if __name__ == "__main__":
    main(*sys.argv[1:])
