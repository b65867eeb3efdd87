"""Checks everything in deploy/ that some other program will read, and shows each check something wrong.

A check takes documents and yields problems. For every check there are changes that somebody could make by mistake; each
must be refused, and by the words that are written beside it. Ends with a table, and with 1 when anything is not as it
must be.
"""

import copy
import sys

import fits
import hosts
import monitoring
import pods

CHECKS = [*pods.CHECKS, *fits.CHECKS, *hosts.CHECKS, *monitoring.CHECKS]


def main(rendered):
    failed = 0
    print(f"{'check':44} {'what':30} verdict")
    for check in CHECKS:
        for name, document in check.documents(rendered):
            problems = list(check.problems(copy.deepcopy(document)))
            failed += bool(problems)
            print(f"{check.name:44} {name:30} {'ok' if not problems else 'FAILED'}")
            for problem in problems:
                print(f"    {problem}")
        refused = 0
        for what, change, words in check.wrong:
            name, document = next(iter(check.documents(rendered)))
            document = copy.deepcopy(document)
            changed = change(document)
            problems = list(check.problems(document if changed is None else changed))
            if any(words in problem for problem in problems):
                refused += 1
            else:
                failed += 1
                print(f"    NOT REFUSED in {name}: {what} (found: {problems or 'nothing'})")
        print(f"{check.name:44} {f'{refused} of {len(check.wrong)} mistakes refused':30}")
        failed += not check.wrong
    print(f"\n{'all as it must be' if not failed else f'{failed} FAILED'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
