#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a user sees of a ledger, or a /run/hugevm, that hugevm has not made: a clear error or
warning, nothing followed or overwritten, no crash, no long wait.

usage: test-hugevmctl-hostile.py HUGEVMCTL MAKE-TREE TREES
"""

import copy
import importlib.util
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import time
import unittest

spec = importlib.util.spec_from_file_location(
    "hugevmctl_cases", pathlib.Path(__file__).with_name("test-hugevmctl.py"))
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)

UUID, DONE, REFUSED, SYSTEM = cases.UUID, cases.DONE, cases.REFUSED, cases.SYSTEM
OTHER = "11111111-1111-4111-8111-111111111111"
MOST = 2**63 - 1
LIMIT_S = 5
COMMANDS = "status", "claims", "plan", "reconcile", "drain", "audit"
FILES = "ledger.json", "ledger.copy.json"

CLAIM = {"uuid": OTHER, "name": "web", "generation": 3, "state": "claimed", "owner_name": "agent",
         "owner": {"pid": 4711, "start_ticks": 5}, "qemu": {"pid": 0, "start_ticks": 0},
         "shared": False, "from_hugetlbfs": True, "may_hand_over": False, "is_handed_over": False,
         "files": [], "needs": [{"nodes": "any", "size_kib": 2048, "pages": 4}]}
GROWN = {"node": 0, "size_kib": 2048, "grown_pages": 7, "persistent_pages": 96, "handed_pages": 0,
         "regained_pages": 0}
INTENT = {"node": 0, "size_kib": 2048, "before_pages": 96, "target_pages": 98, "others_pages": 0,
          "is_handover": False}


def ledger(**changes):
    return {"format": 1, "boot_id": "0b6b6e4c-0000-4000-8000-000000000001", "last_generation": 9,
            "handover_failed": False, "grown": [GROWN], "intents": [], "claims": [CLAIM],
            **copy.deepcopy(changes)}


def claims(*pages, **changes):
    return [{**CLAIM, "uuid": OTHER[:-1] + str(n), "generation": n + 1, **changes,
             "needs": [{"nodes": "any", "size_kib": 2048, "pages": p}]}
            for n, p in enumerate(pages)]


class HostileCase(cases.HostCase):
    root = None

    def make(self, tree):
        if self.root is not None:
            shutil.rmtree(self.root)  # some hold hundreds of MiB
        super().make(tree)
        process = self.root / "proc/4711/stat"
        process.parent.mkdir(parents=True)
        process.write_text("4711 (agent) S" + " 0" * 18 + " 5 0\n")
        self.store = self.root / "run/hugevm"

    def put(self, content):
        """Both files on a fresh host."""
        self.make(self.tree)
        self.store.mkdir(mode=0o755)
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        content = content.encode() if isinstance(content, str) else content
        for name in FILES:
            (self.store / name).write_bytes(content)
        # a tree does not answer a write as a kernel would, which pinning surplus needs
        for path in self.root.glob("sys/**/hugepages-2048kB/surplus_hugepages"):
            path.write_text("0\n")
        return content

    def call(self, command, pages=1):
        """Runs one command; whatever it says, it must say it soon, and must not crash."""
        words = ["plan", "-"] if command == "plan" else [command]
        begin = time.monotonic()
        try:
            result = subprocess.run(
                [cases.HUGEVMCTL, "--root", str(self.root), *words], timeout=LIMIT_S,
                input=cases.domain(memory_mib=2 * pages).encode(), capture_output=True, check=False)
        except subprocess.TimeoutExpired:
            self.fail(f"{command} took more than {LIMIT_S} s")
        self.assertLess(time.monotonic() - begin, LIMIT_S)
        said = result.stdout.decode() + result.stderr.decode()  # which must be UTF-8
        self.assertIn(result.returncode, (DONE, REFUSED, SYSTEM), said)
        for sign in ("CRITICAL **", "WARNING **", "Sanitizer", "runtime error", "\x1b"):
            self.assertNotIn(sign, said)
        return result.returncode, said

    def pool(self, node=0):
        path = self.root / f"sys/devices/system/node/node{node}/hugepages/hugepages-2048kB"
        return {name: int((path / f"{name}_hugepages").read_text())
                for name in ("nr", "free", "surplus")}

    def kept(self):
        return [path.read_bytes() for path in self.store.glob("ledger*.json*")]


class Damaged(HostileCase):
    """No command uses anything of these; those that may, set them aside with each byte."""

    texts = {
        "number that is too large": ledger(grown=[{**GROWN, "grown_pages": MOST + 1}]),
        "number beyond all": ledger(grown=[{**GROWN, "grown_pages": 2**64}]),
        "negative number": ledger(claims=claims(-1)),
        "fraction": ledger(claims=claims(1.5)),
        "text for a number": ledger(claims=claims("4")),
        "one VM twice": ledger(claims=[CLAIM, {**CLAIM, "generation": 4}]),
        "one generation twice": ledger(claims=[CLAIM, {**CLAIM, "uuid": UUID}]),
        "grown pool twice": ledger(grown=[GROWN, GROWN]),
        "intent twice": ledger(intents=[INTENT, INTENT]),
        "path for a UUID": ledger(claims=[{**CLAIM, "uuid": "../../../../etc/passwd"}]),
        "escapes in a UUID": ledger(claims=[{**CLAIM, "uuid": "\u001b[31m" + OTHER}]),
        "upper case": ledger(claims=[{**CLAIM, "uuid": UUID.upper()}]),
        "unknown state": ledger(claims=[{**CLAIM, "state": "flying"}]),
        "no state": ledger(claims=[{k: v for k, v in CLAIM.items() if k != "state"}]),
        "files that are none": ledger(claims=[{**CLAIM, "files": ["/etc/passwd"]}]),
        "nesting": '{"format":' + "[" * 500000,
        "no UTF-8": json.dumps(ledger()).encode().replace(b'"web"', b'"\xff\xfe"'),
        "NUL bytes": b"\0" * 5000,
        "nothing": b"",
    }

    def test_damaged_ledger_is_told_and_kept(self):
        for name, text in self.texts.items():
            for command in COMMANDS:
                with self.subTest(text=name, command=command):
                    content = self.put(text)
                    before = self.pool()
                    _, said = self.call(command)
                    self.assertIn("ledger.json", said)
                    self.assertIn("damaged", said)
                    self.assertIn(content, self.kept())
                    self.assertEqual(self.pool(), before)

    def test_nesting_behind_a_comment_does_no_harm(self):
        for cover in ('/* " */', "'\"'"):
            for command in COMMANDS:
                with self.subTest(cover=cover, command=command):
                    content = self.put(cover + "[" * 500000)
                    self.call(command)
                    self.assertIn(content, self.kept())


class Large(HostileCase):
    def test_ledger_of_100_mib_is_told_and_left(self):
        for content in (json.dumps(ledger()) + " " * (100 << 20), "hole"):
            for command in COMMANDS:
                with self.subTest(content=content[:10], command=command):
                    self.put(content)
                    if content == "hole":
                        for name in FILES:
                            os.truncate(self.store / name, 100 << 20)
                    status, said = self.call(command)
                    self.assertEqual(status, SYSTEM, said)
                    self.assertIn("ledger.json: File too large", said)
                    self.assertIn("move it away", said)
                    for name in FILES:
                        self.assertGreaterEqual((self.store / name).stat().st_size, 100 << 20)

    def test_long_lists_are_no_long_wait(self):
        """Small enough to be read, and all of it sound."""
        for name, text in {
                "grown": ledger(grown=[{**GROWN, "size_kib": n + 1} for n in range(100000)]),
                "intents": ledger(intents=[{**INTENT, "size_kib": n + 1} for n in range(100000)]),
                "claims": ledger(claims=claims(*[1] * 30000, uuid=None)),
                "needs": ledger(claims=[{**CLAIM, "needs": CLAIM["needs"] * 20000}]),
                "files": ledger(claims=[{**CLAIM, "files": [
                    {"major": 0, "minor": 15, "inode": n} for n in range(20000)]}])}.items():
            for n, claim in enumerate(text["claims"]):
                claim["uuid"] = claim["uuid"] or f"{n:08x}-0000-4000-8000-000000000000"
            for command in ("status", "drain"):
                with self.subTest(list=name, command=command):
                    self.put(text)
                    self.call(command)


class Huge(HostileCase):
    """Sound as a text, but with numbers that no host has."""

    def test_huge_claims_leave_nothing_to_others(self):
        # 57 pages of those free are not promised: the rest in KiB would wrap to 0
        for pages in ((MOST,), (MOST, MOST, 2), (MOST, MOST, 3), (MOST, MOST, MOST, 4),
                      (2**53 + 57,)):
            for conf in ("", "[performance]\nuse_dynamic_hugepages=true\n"
                             "[hugevm]\nhost_memory_floor=0,0%\n"):
                with self.subTest(pages=pages, conf=conf):
                    self.put(ledger(claims=claims(*pages)))
                    self.configure(conf)
                    status, said = self.call("plan")
                    self.assertEqual(status, REFUSED, said)
                    self.assertIn("0 available", said)

    def test_status_does_not_make_huge_claims_small(self):
        for pages in ((MOST, MOST, 2), (MOST, MOST, 9)):
            with self.subTest(pages=pages):
                self.put(ledger(claims=claims(*pages)))
                pool = self.json_of("status")["pools"][0]
                self.assertGreaterEqual(pool["claimed"], MOST)
                self.assertEqual(pool["allocatable"], 0)

    def assert_took_free_pages(self, before, at_least=0):
        after = self.pool()["nr"]
        self.assertGreaterEqual(after, before["nr"] - before["free"])
        self.assertLessEqual(after, before["nr"] - at_least)

    def test_huge_grown_count_gives_back_what_is_free_at_most(self):
        for persistent, command, at_least in (
                (0, "drain", 1), (96, "drain", 1), (100, "drain", 1), (MOST, "drain", 0),
                (100, "status", 0), (100, "audit", 0)):
            with self.subTest(persistent=persistent, command=command):
                self.put(ledger(claims=[], grown=[{**GROWN, "grown_pages": MOST,
                                                   "persistent_pages": persistent}]))
                before = self.pool()
                self.call(command)
                self.assert_took_free_pages(before, at_least)

    def test_huge_intents_give_back_what_is_free_at_most(self):
        for begin, target in ((0, MOST), (MOST, 0), (MOST, MOST), (MOST, 96), (96, MOST)):
            for handover in (False, True):
                with self.subTest(begin=begin, target=target, handover=handover):
                    self.put(ledger(grown=[], claims=[], intents=[
                        {**INTENT, "before_pages": begin, "target_pages": target,
                         "is_handover": handover}]))
                    before = self.pool()
                    self.call("drain")
                    self.assert_took_free_pages(before)

    def test_no_command_fails_over_huge_numbers(self):
        huge = {"handed_pages": MOST, "regained_pages": MOST}
        for name, text in {
                "pid": ledger(claims=claims(1, owner={"pid": MOST, "start_ticks": MOST},
                                            qemu={"pid": MOST, "start_ticks": MOST})),
                "files": ledger(claims=claims(1, state="draining", files=[
                    {"major": MOST, "minor": MOST, "inode": MOST}])),
                "generation": ledger(last_generation=1 << 62, claims=claims(1, generation=MOST)),
                "place": ledger(grown=[{**GROWN, "node": 1023, "size_kib": MOST}],
                                intents=[{**INTENT, "node": 1023, "size_kib": MOST}]),
                "pages": ledger(grown=[{**GROWN, "grown_pages": MOST, "persistent_pages": MOST,
                                        **huge}], claims=claims(MOST, MOST, state="running")),
                "size": ledger(claims=[{**CLAIM, "needs": [
                    {"nodes": "0-1023", "size_kib": MOST, "pages": MOST}] * 3}])}.items():
            for command in COMMANDS:
                with self.subTest(text=name, command=command):
                    self.put(text)
                    _, said = self.call(command)
                    self.assertNotIn("damaged", said)


class Planted(HostileCase):
    """Links and strange files in the place of ours."""

    def outside(self):
        """What links point to, with modes and contents."""
        return {str(p.relative_to(self.root)):
                (p.lstat().st_mode, p.read_bytes() if stat.S_ISREG(p.lstat().st_mode) else None)
                for p in sorted((self.root / "outside").rglob("*"))}

    def plant(self, name, target):
        self.put(ledger())
        (self.root / "outside").mkdir()
        (self.root / "outside/ledger.json").write_text(json.dumps(
            ledger(claims=[{**CLAIM, "name": "not-ours"}])))
        (self.root / "outside/empty").mkdir(mode=0o700)
        path = self.store / name
        path.unlink(missing_ok=True)
        path.symlink_to(self.root / "outside" / target)

    def test_links_are_not_followed(self):
        for name in ("ledger.json", "ledger.copy.json", "ledger.new", "ledger.lock",
                     "size-2048.lock", "vault"):
            for target in ("ledger.json", "empty", "missing"):
                for command in COMMANDS:
                    with self.subTest(name=name, target=target, command=command):
                        self.plant(name, target)
                        before = self.outside()
                        status, said = self.call(command)
                        self.assertEqual(self.outside(), before)
                        self.assertNotIn("not-ours", said)
                        if name == "ledger.json":
                            self.assertEqual(status, SYSTEM, said)
                            self.assertIn("ledger.json: ", said)
                            self.assertIn("must be a plain file", said)

    def test_link_instead_of_the_directory_is_not_followed(self):
        for target in ("store", "missing"):
            for command in COMMANDS:
                with self.subTest(target=target, command=command):
                    self.make(self.tree)
                    (self.root / "outside/store").mkdir(parents=True)
                    (self.root / "outside/store/ledger.json").write_text(json.dumps(
                        ledger(claims=[{**CLAIM, "name": "not-ours"}])))
                    self.store.symlink_to(self.root / "outside" / target)
                    before = self.outside()
                    status, said = self.call(command)
                    self.assertEqual(status, SYSTEM, said)
                    self.assertIn("run/hugevm", said)
                    self.assertNotIn("not-ours", said)
                    self.assertEqual(self.outside(), before)

    def test_ledger_that_is_no_file_is_told(self):
        def device(path):
            try:
                os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))
            except PermissionError:
                os.mkfifo(path)
        for plant in (os.mkfifo, os.mkdir, device):
            for command in COMMANDS:
                with self.subTest(plant=plant.__name__, command=command):
                    self.put(ledger())
                    path = self.store / "ledger.json"
                    path.unlink()
                    plant(path)
                    before = path.lstat()
                    status, said = self.call(command)
                    self.assertEqual(status, SYSTEM, said)
                    self.assertIn("must be a plain file: remove it", said)
                    self.assertEqual((path.lstat().st_ino, path.lstat().st_mode),
                                     (before.st_ino, before.st_mode))

    def test_directory_that_others_may_write_is_told_and_left(self):
        for mode in (0o775, 0o757, 0o1777):
            for command in COMMANDS:
                with self.subTest(mode=oct(mode), command=command):
                    self.put(ledger(claims=[{**CLAIM, "name": "not-ours"}]))
                    self.store.chmod(mode)
                    before = self.files()
                    status, said = self.call(command)
                    self.assertEqual(status, SYSTEM, said)
                    self.assertIn(f"mode {mode:04o}", said)
                    self.assertIn("writable by root alone", said)
                    self.assertNotIn("not-ours", said)
                    self.assertEqual(self.files(), before)
                    self.assertEqual(stat.S_IMODE(self.store.stat().st_mode), mode)

    @unittest.skipIf(os.geteuid() != 0, "only root can give a directory away")
    def test_directory_of_another_user_is_told_and_left(self):
        for command in COMMANDS:
            with self.subTest(command=command):
                self.put(ledger(claims=[{**CLAIM, "name": "not-ours"}]))
                os.chown(self.store, 12345, 12345)
                before = self.files()
                status, said = self.call(command)
                self.assertEqual(status, SYSTEM, said)
                self.assertIn("owner 12345", said)
                self.assertNotIn("not-ours", said)
                self.assertEqual(self.files(), before)


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    print(f"1..{suite.countTestCases()}")
    result = cases.TapResult()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
