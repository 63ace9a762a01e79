"""The generator that a command is asked for, and the settings it goes with."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from experiments.settings import run_config, typed
from gat.config import Config
from gat.errors import UserError, first_line
from gat.pretrained import WHAT_THERE_IS, Pretrained, load_pretrained

OF_THE_RUN = ("data", "autoencoder", "evaluation")
PREPARED = "paths.prepared"


def asked_for(settings: DictConfig, overrides: list[str]) -> tuple[Pretrained, Config]:
    """The generator of ``checkpoint=`` or ``run=``, and the settings; :class:`UserError` for neither, both, or none there.

    A run's data, autoencoder and evaluation are its own, unless ``overrides``, what was typed, say ``evaluation=NAME`` or set
    a field.
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
    return pretrained, merged(settings, pretrained.home / "config.yaml", overrides)


def merged(settings: DictConfig, file: Path, overrides: list[str]) -> Config:
    """The settings with those of a run's ``file`` for its data (and where they lie), autoencoder and evaluation.

    What was typed wins: a whole group (``evaluation=paper``) or single fields. Raises :class:`UserError` for a file that does
    not fit this version.
    """
    typed_in = {override.lstrip("+~").partition("=")[0] for override in overrides}
    base = OmegaConf.masked_copy(settings, [f.name for f in Config.__dataclass_fields__.values()])
    try:
        run = OmegaConf.load(file)
        assert isinstance(run, DictConfig)
        for group in (group for group in OF_THE_RUN if group not in typed_in):
            base[group] = OmegaConf.merge(base[group], run[group])
            for field in (name for name in typed_in if name.startswith(f"{group}.")):
                OmegaConf.update(base, field, OmegaConf.select(settings, field))
        if PREPARED not in typed_in:
            base.paths.prepared = str(prepared_of(Path(run.paths.prepared), file.parent))
        return typed(base)
    except UserError:
        raise
    except Exception as error:  # YAML and OmegaConf each raise their own kinds
        raise UserError(f"{file}: not the settings of a run of this version ({first_line(error)})") from error


def prepared_of(given: Path, run: Path) -> Path:
    """Where a run's prepared data are: as given, or if that is not here, beside the run's folder or the folder of runs."""
    places = (given, run.resolve().parent / given, run.resolve().parent.parent / given)
    return next((place for place in places if place.is_dir()), given)
