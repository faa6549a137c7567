# SPDX-License-Identifier: LGPL-2.1-or-later
"""unittest's results as TAP, one line per test, as meson reads them."""

import sys
import unittest


class TapResult(unittest.TestResult):
    def __init__(self):
        super().__init__()
        self.is_bad = False
        self.reason = None

    def _trouble(self, test, err):
        self.is_bad = True
        for line in [str(test.id()), *self._exc_info_to_string(err, test).splitlines()]:
            print("#", line.encode("ascii", "backslashreplace").decode())

    def startTest(self, test):
        super().startTest(test)
        self.is_bad, self.reason = False, None

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._trouble(test, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._trouble(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._trouble(subtest, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.reason = reason

    def stopTest(self, test):
        super().stopTest(test)
        name = test.id().replace("__main__.", "")
        skip = f" # SKIP {self.reason}" if self.reason is not None else ""
        print("not ok" if self.is_bad else "ok", self.testsRun, "-", name + skip, flush=True)


def main():
    """Runs the tests of the main module."""
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    print(f"1..{suite.countTestCases()}")
    result = TapResult()
    suite.run(result)
    return 0 if result.wasSuccessful() else 1
