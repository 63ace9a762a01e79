"""Files: written whole or not at all, also after a power cut; read with a one-line error; and locked."""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import IO, Any, BinaryIO

from yaml import YAMLError

from gat.errors import UserError, escaped, first_line

HEX_DIGITS = "[0-9a-f]" * 8  # glob pattern of the suffix of a half-written file
SAVING = ".saving"  # suffix of the name of a folder in which gat.tensors writes

LOOK_S = 0.02  # much longer than :func:`is_locked` holds a lock


@contextmanager
def replacing_path(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``file`` at the end; after an error nothing is left. Several processes may do so."""
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def remove_leftovers(file: Path) -> None:
    """Delete half-written copies of ``file`` left by killed processes. Call it holding the lock that all its writers take."""
    for end in ("", SAVING):
        for left in file.parent.glob(f".{escape(file.name)}.{HEX_DIGITS}{end}"):
            remove_leftover(left)


def remove_leftover(left: Path) -> None:
    """Remove a half-written file, or the folder in which tensors were being written; any other folder stays."""
    if left.is_file():
        left.unlink()
    elif left.suffix == SAVING:
        shutil.rmtree(left)


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A stream that becomes ``file`` at the end, flushed to disk; after an error nothing is left."""
    with replacing_path(file) as partial, partial.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def told(place: str, remedy: str) -> Iterator[None]:
    """Turn an error of the file system at ``place`` (disk full, no permission) into one line for the user.

    What was whole before stays whole, as long as files are written by :func:`replacing`.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{place}: cannot be written ({reason}): make room or mend its permissions; then {remedy}"
        ) from error


@contextmanager
def reading(file: Path, kind: str, remedy: str) -> Iterator[None]:
    """Turn errors of the block, which reads ``file`` as ``kind`` (e.g. "a plan"), into one :class:`UserError`.

    The file may be missing or damaged, or fields may be missing or of another type.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, YAMLError) as error:
        raise UserError(f"{file}: not {kind} ({_reason(error)}): {remedy}") from error


def json_object(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise ``ValueError`` for anything else. Use it inside :func:`reading`."""
    text = file.read_text(encoding="utf-8")
    if not text.strip("\0 \t\r\n"):
        raise ValueError("it is empty")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"a JSON {type(found).__name__}, not an object")  # noqa: TRY004
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"lacks {error}"
    if isinstance(error, TypeError | AttributeError):
        return "a field is of the wrong type"
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


@contextmanager
def one_at_a_time(file: Path, doing: str) -> Iterator[None]:
    """Let one process at a time into the block, among those that name the same lock ``file``; others say so and wait.

    ``doing``: the work, in words. The lock is released when the process ends, however it ends.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        if not lock(stream, wait=False):
            line = escaped(f"waiting for another process that is {doing} ({file})")
            print(line, file=sys.stderr, flush=True)  # noqa: T201
            lock(stream, wait=True)
        yield


def lock(stream: IO[str], *, wait: bool) -> bool:
    """Take the lock of an open file, which goes when it is closed; whether it was to be had (without ``wait`` it may not be).

    Raises :class:`UserError` on a file system that knows no locks.
    """
    if _flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB):
        return True
    time.sleep(LOOK_S)  # the holder may only have been in :func:`is_locked`
    return _flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(file: Path) -> bool:
    """Return whether a process holds the lock of ``file``, which need not exist. The lock is not changed."""
    if not file.exists():
        return False
    with file.open(encoding="utf-8") as stream:
        return not _flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _flock(stream: IO[str], operation: int) -> bool:
    try:
        fcntl.flock(stream, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{stream.name}: cannot be locked ({error.strerror}): use another file system, or mount this one with locks "
            "(Lustre: -o flock)"
        ) from error
    return True


def write_json(file: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with replacing(file) as stream:
        stream.write((json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def sha256(file: Path) -> str:
    """Checksum of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
