"""How commands end: one line on standard error and an exit code instead of a traceback."""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
import yaml
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, MissingMandatoryValue
from omegaconf.errors import InterpolationResolutionError

from experiments.settings import CONF, register
from gat.errors import EXIT_LOST_PROCESS, Interrupted, LostProcessError, UserError, first_line

EXIT_USER_ERROR = 2
EXIT_CTRL_C = 130  # 128 + SIGINT, as shells report it
EXIT_INTERRUPTED = 75  # "temporary failure": the same command goes on


def hydra_command(main: Callable[[DictConfig], None]) -> Callable[[], None]:
    """Turn ``main`` into a command whose settings Hydra composes from ``conf/config.yaml`` and the command line.

    A user's mistake ends it with one line and exit code 2, also if Hydra finds the mistake before ``main``.
    """

    @functools.wraps(main)
    def ending(settings: DictConfig) -> None:
        with exits():  # inside Hydra, which would put all overrides before the error
            main(settings)

    composed = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(ending)

    def typed() -> None:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors instead of printing them
        with exits():
            register()
            composed()

    return typed


@contextmanager
def exits() -> Iterator[None]:
    """Turn the errors that a user can fix into one line and an exit code."""
    try:
        yield
    except MissingMandatoryValue as error:
        sys.exit(fail(f"{error.full_key} is not set: give {error.full_key}=VALUE on the command line", EXIT_USER_ERROR))
    except InterpolationResolutionError as error:
        told = str(error).splitlines()[0].removeprefix("UserError raised while resolving interpolation: ")
        sys.exit(fail(told, EXIT_USER_ERROR))
    except (CompactHydraException, yaml.YAMLError) as error:
        sys.exit(fail(f"{composition_error(error)}: --cfg job shows all settings", EXIT_USER_ERROR))
    except UserError as error:
        sys.exit(fail(str(error), EXIT_USER_ERROR))
    except LostProcessError as error:
        sys.exit(fail(str(error), EXIT_LOST_PROCESS))
    except Interrupted as interruption:
        sys.exit(fail(str(interruption), EXIT_INTERRUPTED, kind="stopped"))
    except KeyboardInterrupt:
        sys.exit(fail("by Ctrl-C; files already written are complete", EXIT_CTRL_C, kind="stopped"))


def composition_error(error: Exception) -> str:
    """Return, as one line, the message of Hydra or YAML for a mistake on the command line or in a configuration file.

    Omitted are the hint that + adds an unknown setting (which is refused later), Hydra's search path, and links.
    """
    said = str(error).partition("Config search path:")[0].replace(":\n\t", ": ").replace("\n\t", ", ").splitlines()
    if error.__cause__ is not None:
        said.append(first_line(error.__cause__))
    lines = [line.strip(" .") for line in said if not line.startswith(("To append", "See https"))]
    return "; ".join(line for line in lines if line)


def fail(message: str, code: int, kind: str = "error") -> int:
    """Print one line to standard error; returns the exit ``code``."""
    print(f"{kind}: {message}", file=sys.stderr, flush=True)
    return code


def not_many(arguments: Sequence[str]) -> None:
    """Exit with code 2 if ``-m`` is among the arguments of a command that has no jobs to launch."""
    with exits():
        if {"-m", "--multirun"} & set(arguments):
            raise UserError(
                f"{Path(arguments[0]).name} launches no jobs: leave out -m, and start it under torchrun or sbatch"
            )
