"""The pull of w towards its class mean, psi: what may be asked for."""

from gat.errors import UserError


def check_truncation(truncation: float, setting: str = "truncation") -> None:
    """:class:`UserError` unless psi lies in [0, 1]; ``setting``: what it is called there."""
    if not 0 <= truncation <= 1:
        raise UserError(f"{setting}={truncation} must lie between 0 (off) and 1")
