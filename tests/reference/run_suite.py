"""The ONNX suite on the reference, in one process, with a line per failing case and totals per operator.

    python -m tests.reference.run_suite --filter '/(gru|lstm)/' [--kind node] [--verbose]

While operators are being written it is faster to read than pytest; test_onnx_suite.py is what must pass.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import traceback
from collections import Counter

from tests.reference.onnx_suite import check
from webdnn_conformance.suites.onnx_suite import KINDS, cases
from webdnn_onnx.errors import WebDNNError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--filter", default="", help="regular expression searched in case ids")
    parser.add_argument("--kind", action="append", choices=KINDS, help="kinds of case; default: node")
    parser.add_argument("--op", default="", help="only cases of this operator")
    parser.add_argument("--verbose", action="store_true", help="print tracebacks")
    parser.add_argument("--summary", action="store_true", help="print only the totals")
    arguments = parser.parse_args()
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    started = time.perf_counter()
    for kind in arguments.kind or ["node"]:
        for case in cases(kind):
            operator = case.facts.op
            if not re.search(arguments.filter, case.id) or (arguments.op and arguments.op != operator):
                continue
            total[operator] += 1
            try:
                check(case)
                passed[operator] += 1
            except (WebDNNError, AssertionError, NotImplementedError, TypeError, ValueError, AttributeError) as error:
                if arguments.verbose:
                    traceback.print_exc()
                if not arguments.summary:
                    print(f"FAIL {case.id}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    for operator in sorted(total):
        if passed[operator] < total[operator]:
            print(f"{operator}: {passed[operator]}/{total[operator]}")
    print(f"passed {passed.total()} of {total.total()} in {time.perf_counter() - started:.1f} s")
    return 0 if passed == total else 1


if __name__ == "__main__":
    sys.exit(main())
