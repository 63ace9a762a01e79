"""Which runs of the sweeps are queued, running, finished, diverged or failed: ``python experiments/status.py [sweep=NAME]``.

``study=NAME`` and ``runs=FOLDER`` choose further; ``--watch`` shows it again every few seconds until Ctrl-C.
"""

import argparse
import contextlib
import time

from experiments.exits import exits
from experiments.study.arguments import FILTERS, find_submissions, parse
from experiments.study.states import run_states
from experiments.study.table import rows_of, table

WATCH_S = 5.0
CLEAR = "\033[H\033[2J"


def show(values: dict[str, str]) -> str:
    """The table as it is now."""
    everything, chosen = find_submissions(values)
    rows = rows_of(chosen)
    return table(rows, run_states([entry for _, entry in rows], everything))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filters", nargs="*", help="sweep=NAME study=NAME runs=FOLDER")
    parser.add_argument("--watch", action="store_true", help="again and again")
    arguments = parser.parse_args()
    with exits(), contextlib.suppress(KeyboardInterrupt):
        values = parse(arguments.filters, FILTERS)
        while arguments.watch:
            print(CLEAR + show(values), flush=True)
            time.sleep(WATCH_S)
        print(show(values))


if __name__ == "__main__":
    main()
