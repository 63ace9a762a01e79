"""Exceptions with which a command ends, and helpers for one-line messages."""

import unicodedata

UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are not UTF-8, line and paragraph separators


class UserError(ValueError):
    """A mistake in the input, in one line: the offending value and the remedy.

    Commands print it without a traceback and exit with code 2. Newlines in the message, e.g. from a file's name, are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(escaped(message.strip()))


def escaped(text: str) -> str:
    r"""Return ``text`` with control characters and line separators escaped: a newline in a file's name becomes ``\n``."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in UNPRINTABLE else char for char in text
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name if it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise :class:`UserError` unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise UserError(f"{name}={value!r} is unknown: choose one of {', '.join(choices)}")


EXIT_LOST_PROCESS = 70


class LostProcessError(RuntimeError):
    """Another process of the run has ended; this one cannot go on, the run can (from its last checkpoint)."""


class Interrupted(Exception):  # noqa: N818
    """The run was asked to stop (SIGTERM, SIGUSR2), and goes on when started again.

    From here, as its state is saved; or, if it may be diverging, from the last checkpoint.

    ``signals``: those that this process received; with several processes another one may have received it.
    """

    def __init__(self, message: str, signals: frozenset[int] = frozenset()) -> None:
        super().__init__(message)
        self.signals = signals
