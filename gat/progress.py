"""Progress of long work: a bar on a terminal, lines in a file or a job's log."""

import sys
from typing import Any

from tqdm import tqdm

LINE_S = 30.0
LINE = "{desc}: {n_fmt} of {total_fmt}, {elapsed} elapsed, {remaining} left, {rate_fmt}{postfix}"


class Progress(tqdm):
    """tqdm's bar. If standard error is no terminal: a line at the start, every 30 s, and at the end (with ``leave``)."""

    def __init__(self, *args: Any, **how: Any) -> None:
        self.in_lines = not sys.stderr.isatty()
        self.last_line = self.in_lines and how.get("leave", True)
        if self.in_lines:
            how |= {"leave": False, "mininterval": LINE_S, "miniters": 1, "bar_format": LINE}
        super().__init__(*args, **how)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Show the current state."""
        if not self.in_lines:
            return bool(super().display(msg, pos))
        if msg is None:
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return False

    def clear(self, nolock: bool = False) -> None:
        """Remove the bar from the terminal; lines stay."""
        if not self.in_lines:
            super().clear(nolock)

    def close(self) -> None:
        """Close the bar, or write the last line."""
        if self.last_line and not self.disable:  # once: tqdm sets ``disable`` when it ends
            self.display()
        super().close()
