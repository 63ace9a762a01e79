"""The version of what training computes. A run's record carries it, and runs of different versions are never mixed.

A change that moves training results by more than rounding increments :data:`NUMERICS` and adds an entry to
:data:`WHAT_CHANGED`; the golden loss curve (``tests/test_golden_losses.py``) fails as a reminder. Runs of an older version
are kept, marked as such, and trained again beside the old ones.

1. Until November 2026: colour augmentation used each image's own means; the teacher's image moved before normalisation.
2. Until 28 November 2026: colour augmentation uses the means that the release shares, and the teacher's image is normalised,
   then moved; but position codes were fixed.
3. Position codes are trained, as the release's loop does.
"""

NUMERICS = 3
WHAT_CHANGED = {1: "before the augmentation was corrected", 2: "before position codes were trained"}
"""How results of each older version are marked."""


def mark_of(version: int) -> str | None:
    """Return the mark on results of a version; None for the current one, which needs none."""
    return WHAT_CHANGED.get(version, f"by version {version} of the numerics") if version != NUMERICS else None


def version_named(version: int) -> str:
    """Return a version in words, with what marks its results if it is an older one."""
    marked = f" ({WHAT_CHANGED[version]})" if version in WHAT_CHANGED else ""
    return f"version {version} of the numerics{marked}"
