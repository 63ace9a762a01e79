"""The version of what training computes. A run's record carries it, and runs of different versions are never mixed.

A change that moves the results of training by more than rounding raises :data:`NUMERICS` and adds a line to
:data:`WHAT_CHANGED`; the golden loss curve (``tests/test_golden_losses.py``) fails as a reminder. Runs of an older version
are kept, named as such, and trained again beside.

1. Until November 2026: each image was coloured about its own means, and the teacher's image moved before it was normalised.
2. Colour about the means that the release shares; the teacher's image is normalised, then moved.
"""

NUMERICS = 2
WHAT_CHANGED = {1: "before the augmentation was corrected"}
"""By older version: how its results are marked, everywhere."""


def mark_of(version: int) -> str | None:
    """Return how results of a version are marked; None for the present one's, which need no mark."""
    return WHAT_CHANGED.get(version, f"by version {version} of the numerics") if version != NUMERICS else None
