"""How commands end: one line on standard error and an exit code instead of a traceback."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import MissingMandatoryValue
from omegaconf.errors import InterpolationResolutionError

from gat.errors import EXIT_LOST_PROCESS, Interrupted, LostProcessError, UserError

EXIT_USER_ERROR = 2
EXIT_CTRL_C = 130  # 128 + SIGINT, as shells report it
EXIT_INTERRUPTED = 75  # "temporary failure": the same command goes on


@contextmanager
def exits() -> Iterator[None]:
    """Turn the errors that a user can mend into one line and an exit code."""
    try:
        yield
    except MissingMandatoryValue as error:
        sys.exit(fail(f"{error.full_key} is not set: give {error.full_key}=VALUE on the command line", EXIT_USER_ERROR))
    except InterpolationResolutionError as error:
        told = str(error).splitlines()[0].removeprefix("UserError raised while resolving interpolation: ")
        sys.exit(fail(told, EXIT_USER_ERROR))
    except UserError as error:
        sys.exit(fail(str(error), EXIT_USER_ERROR))
    except LostProcessError as error:
        sys.exit(fail(str(error), EXIT_LOST_PROCESS))
    except Interrupted as interruption:
        sys.exit(fail(str(interruption), EXIT_INTERRUPTED, kind="stopped"))
    except KeyboardInterrupt:
        sys.exit(fail("by Ctrl-C; files already written are complete", EXIT_CTRL_C, kind="stopped"))


def fail(message: str, code: int, kind: str = "error") -> int:
    """Print one line to standard error; returns the exit ``code``."""
    print(f"{kind}: {message}", file=sys.stderr, flush=True)
    return code


def not_many(arguments: Sequence[str]) -> None:
    """Exit with code 2 if ``-m`` is among the arguments of a command that has no jobs to launch."""
    with exits():
        if {"-m", "--multirun"} & set(arguments):
            raise UserError(
                f"{Path(arguments[0]).name} launches no jobs: leave -m away, and start it under torchrun or sbatch"
            )
