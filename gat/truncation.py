"""The check of psi, the pull of w towards its class mean."""

from numbers import Real
from typing import Any

from gat.errors import UserError


def check_truncation(truncation: Any) -> None:
    """Raise :class:`UserError` unless psi is a number in [0, 1]."""
    if isinstance(truncation, bool) or not isinstance(truncation, Real) or not 0 <= float(truncation) <= 1:
        raise UserError(f"truncation={truncation!r} must be a number from 0 (off) to 1")
