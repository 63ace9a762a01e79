"""The generator given by ``checkpoint=`` or ``run=``, and its settings.

A run's folder may come from someone else, so its config.yaml is not trusted: a path, hub name or extractor that it names
is opened only if ``experiments/conf`` names it too, or it is given on the command line.
"""

from os.path import normpath
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.settings import CONF, plain_settings, run_config, typed
from gat.config import Config
from gat.errors import UserError, first_line
from gat.pretrained import WHAT_THERE_IS, Pretrained, load_pretrained

OF_THE_RUN = ("data", "autoencoder", "evaluation")
PREPARED = "paths.prepared"
DECODERS = ("autoencoder.path", "evaluation.decoder")
OPENED = (
    *DECODERS,
    "evaluation.extractor",
    "evaluation.also_extractors",
    "evaluation.extractor_weights",
    "evaluation.reference",
)
"""Settings that name files, models or extractors that an evaluation opens."""


def asked_for(settings: DictConfig, overrides: list[str], opens: tuple[str, ...] = OPENED) -> tuple[Pretrained, Config]:
    """Load the generator of ``checkpoint=`` or ``run=``, and its settings.

    A run's data, autoencoder and evaluation are its own, unless ``overrides`` (from the command line) choose a group, as
    ``evaluation=NAME``, or set a field. ``opens``: the settings of ``OPENED`` that the command uses. Raises
    :class:`UserError` if neither or both are given, or nothing is there.
    """
    given = [where for where in (settings.checkpoint, settings.run) if where is not None]
    if len(given) != 1:
        raise UserError(f"give one of checkpoint= and run= (evaluate.py: or samples=): {WHAT_THERE_IS}")
    pretrained = load_pretrained(given[0])
    if pretrained.kind != "run":
        return pretrained, run_config(settings)
    if pretrained.home is None:
        raise UserError(
            f"{pretrained.source}: its run's config.yaml is not beside checkpoints/: leave it in its run folder"
        )
    return pretrained, merged(settings, pretrained.home / "config.yaml", overrides, opens)


def merged(settings: DictConfig, file: Path, overrides: list[str], opens: tuple[str, ...] = OPENED) -> Config:
    """Merge into ``settings`` those of a run's ``file`` for its data (and their place), autoencoder and evaluation.

    Overrides from the command line win: a whole group (``evaluation=paper``) or single fields. Raises :class:`UserError` for
    a file that does not fit this version, or that names something of ``opens``, or a place of data, that is not trusted.
    """
    typed_in = {override.lstrip("+~").partition("=")[0] for override in overrides}
    base = OmegaConf.masked_copy(settings, [f.name for f in Config.__dataclass_fields__.values()])
    try:
        run = plain_settings(file)
        for group in (group for group in OF_THE_RUN if group not in typed_in):
            base[group] = OmegaConf.merge(base[group], run[group])
            for field in (name for name in typed_in if name.startswith(f"{group}.")):
                OmegaConf.update(base, field, OmegaConf.select(settings, field))
        for field in (name for name in opens if not {name, name.partition(".")[0]} & typed_in):
            require_known(file, field, OmegaConf.select(base, field), settings)
        if PREPARED not in typed_in:
            base.paths.prepared = str(prepared_of(Path(run.paths.prepared), file))
        return typed(base)
    except UserError:
        raise
    except Exception as error:  # YAML and OmegaConf each raise their own kinds
        raise UserError(f"{file}: not the settings of a run of this version ({first_line(error)})") from error


def require_known(file: Path, field: str, value: Any, settings: DictConfig) -> None:
    """Raise :class:`UserError` if neither the command's ``settings`` nor experiments/conf name the ``value`` of ``field``."""
    group, _, name = field.partition(".")
    key = "extractor" if name == "also_extractors" else name
    presets = [OmegaConf.select(OmegaConf.load(preset), key) for preset in (CONF / group).glob("*.yaml")]
    known = {one for own in (OmegaConf.select(settings, field), *presets) for one in listed(own)}
    unknown = [one for one in listed(value) if one not in known]
    if unknown:
        raise UserError(not_typed(file, field, unknown[0]))


def listed(value: Any) -> list[str]:
    """Return the names in a setting as a list: None, one name or several."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def not_typed(file: Path, field: str, name: str) -> str:
    """Return the error for a ``name`` that only a run's ``file`` gives."""
    return (
        f"{file}: names {field}={name!r}, which is not opened, as a run's folder may come from someone else: add {field}=... "
        "to the command to open it, or to use another"
    )


def prepared_of(given: Path, file: Path) -> Path:
    """Return the folder of prepared data of the run with the configuration ``file``.

    It is ``given``, if that exists, or the same path beside the run's folder or beside the folder of runs. Raises
    :class:`UserError` for a place that is inside none of these and not in the current folder.
    """
    run = file.parent.resolve().parent
    near = (Path.cwd(), run, run.parent)
    places = (given, run / given, run.parent / given)
    inside = [p for p in places if any(Path(normpath(Path.cwd() / p)).is_relative_to(folder) for folder in near)]
    if not inside:
        raise UserError(not_typed(file, PREPARED, str(given)))
    return next((place for place in inside if place.is_dir()), inside[0])
