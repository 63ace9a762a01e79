"""The generator that a command is asked for, and the settings it goes with.

A run's folder may be somebody else's. Its config.yaml therefore opens nothing: a path, a hub name or an extractor in it
counts only if it stands in ``experiments/conf`` too or is typed.
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
"""Settings that name what an evaluation opens."""


def asked_for(settings: DictConfig, overrides: list[str], opens: tuple[str, ...] = OPENED) -> tuple[Pretrained, Config]:
    """The generator of ``checkpoint=`` or ``run=``, and the settings; :class:`UserError` for neither, both, or none there.

    A run's data, autoencoder and evaluation are its own, unless ``overrides``, what was typed, say ``evaluation=NAME`` or set
    a field. ``opens``: which of ``OPENED`` the command does open.
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
    """The settings with those of a run's ``file`` for its data (and where they lie), autoencoder and evaluation.

    What was typed wins: a whole group (``evaluation=paper``) or single fields. Raises :class:`UserError` for a file that does
    not fit this version, or names what is not to be opened on its word (``opens``, and where its data lie).
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
    """Raise :class:`UserError` if a run's ``file`` names what neither the command's ``settings`` nor experiments/conf do."""
    group, _, name = field.partition(".")
    key = "extractor" if name == "also_extractors" else name
    presets = [OmegaConf.select(OmegaConf.load(preset), key) for preset in (CONF / group).glob("*.yaml")]
    known = {one for own in (OmegaConf.select(settings, field), *presets) for one in listed(own)}
    unknown = [one for one in listed(value) if one not in known]
    if unknown:
        raise UserError(not_typed(file, field, unknown[0]))


def listed(value: Any) -> list[str]:
    """Return the names in a setting of none, one or several."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def not_typed(file: Path, field: str, name: str) -> str:
    """Return the refusal to open what only a run's ``file`` names."""
    return (
        f"{file}: names {field}={name!r}, which is not opened on the word of a run's folder, as that may be somebody else's: "
        f"type {field}=... to have it opened, or to use another"
    )


def prepared_of(given: Path, file: Path) -> Path:
    """Where the prepared data of the run with that configuration ``file`` are.

    As given, or if that is not here, beside the run's folder or the folder of runs. Raises :class:`UserError` for a place
    that is in none of these and not in the present folder.
    """
    run = file.parent.resolve().parent
    near = (Path.cwd(), run, run.parent)
    places = (given, run / given, run.parent / given)
    inside = [p for p in places if any(Path(normpath(Path.cwd() / p)).is_relative_to(folder) for folder in near)]
    if not inside:
        raise UserError(not_typed(file, PREPARED, str(given)))
    return next((place for place in inside if place.is_dir()), inside[0])
