"""The version of what training computes. A run's record carries it, and runs of different versions are never mixed.

A change that moves the results of training by more than rounding raises :data:`NUMERICS` and adds a line here; the golden
loss curve (``tests/test_golden_losses.py``) fails as a reminder. Runs of an older version are kept, named as such, and
trained again beside.

1. Until November 2026: each image was coloured about its own means, and the teacher's image moved before it was normalised.
2. Colour about the means that the release shares; the teacher's image is normalised, then moved.
"""

NUMERICS = 2
