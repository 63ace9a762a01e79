"""One page about all studies: verdicts, figures, pictures, every run, and how its numbers were measured."""

from analysis.report.write import write_report

__all__ = ["write_report"]
