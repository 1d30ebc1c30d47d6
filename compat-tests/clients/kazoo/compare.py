"""Compares two JUnit reports of kazoo's suite: what the real ZooKeeper passes, ours must pass.

Usage: compare.py REPORT [BASELINE]
"""

import collections
import sys
import xml.etree.ElementTree as ElementTree


def outcomes(path):
    """Test name -> (outcome, first line of the reason)."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = case.get("classname", "") + "::" + case.get("name", "")
        result = ("passed", "")
        for kind, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
            element = case.find(kind)
            if element is not None:
                lines = (element.get("message") or "").splitlines() or [""]
                result = (outcome, lines[0][:160])
        found[name] = result
    return found


def skips(results):
    """How many tests were skipped for which reason."""
    reasons = collections.Counter(r for outcome, r in results.values() if outcome == "skipped")
    return [(count, reason) for reason, count in reasons.most_common()]


def main():
    ours = outcomes(sys.argv[1])
    baseline = outcomes(sys.argv[2]) if len(sys.argv) > 2 else None
    for (count, reason) in skips(ours):
        print(f"skipped {count}: {reason}")
    passed = sum(1 for outcome, _ in ours.values() if outcome == "passed")
    skipped = sum(1 for outcome, _ in ours.values() if outcome == "skipped")
    failed, excused = [], []
    for name, (outcome, reason) in sorted(ours.items()):
        if outcome != "failed":
            continue
        real = baseline.get(name, ("absent", ""))[0] if baseline is not None else "passed"
        (failed if real == "passed" else excused).append((name, reason))
    for name, reason in excused:
        print(f"fails on the real ZooKeeper too: {name}: {reason}")
    for name, reason in failed:
        print(f"FAILED {name}: {reason}")
    if baseline is not None:
        for name in sorted(set(baseline) - set(ours)):
            print(f"FAILED {name}: did not run")
            failed.append((name, "did not run"))
    print(f"{passed} passed, {len(failed)} failed, {skipped + len(excused)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
