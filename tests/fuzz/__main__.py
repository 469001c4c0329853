"""Try mutated input from the command line: `python -m tests.fuzz set --count 100 --seed 1`."""

import argparse
import sys
import time
import traceback

from tests.fuzz.cases import KINDS, tried


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; or all")
    parser.add_argument("--count", type=int, help="cases of each kind; the full set where absent")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--traceback", action="store_true", help="show where a case fell")
    given = parser.parse_args()
    if strangers := set(given.kinds) - set(KINDS):
        parser.error(f"no kind {', '.join(strangers)}; expected some of {', '.join(KINDS)}")
    fell = False
    for kind in given.kinds or KINDS:
        count = KINDS[kind][1] if given.count is None else given.count
        began = time.monotonic()
        tally = tried(kind, range(given.first, given.first + count), seed=given.seed)
        counts = ", ".join(f"{number} {verdict}" for verdict, number in tally.verdicts.items())
        print(f"{kind}: {counts}; {time.monotonic() - began:.1f} s", flush=True)
        for number, error in tally.fallen:
            fell = True
            print(f"  {kind} {number}: {type(error).__name__}: {str(error)[:300]}")
            if given.traceback:
                traceback.print_exception(error)
    return int(fell)


if __name__ == "__main__":
    sys.exit(main())
