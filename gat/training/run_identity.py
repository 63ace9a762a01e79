"""Identities of runs and evaluations: hashes of the settings that change their results, and names made of these."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from gat.config import Config
from gat.errors import UserError
from gat.numerics import NUMERICS, version_named
from gat.training.results import any_record, numerics_of

WITHOUT_EFFECT: dict[str, tuple[str, ...] | None] = {
    "paths": None,
    "tracker": None,
    "loader": None,
    "training": ("log_steps", "checkpoint_steps", "keep_steps", "keep_checkpoints"),
    "evaluation": ("batch_size", "grid_columns", "grid_classes"),
}
"""Settings that change no number beyond rounding; None: the whole group."""
BY_ROUNDING: dict[str, tuple[str, ...]] = {
    "training": ("accumulation", "activation_checkpointing", "compile", "device"),
}
"""Settings that change results by rounding alone: not in a run's identity, but in its record."""
OF_EVALUATION: dict[str, tuple[str, ...] | None] = {"evaluation": None, "training": ("eval_steps", "total_steps")}
"""Settings that change what is measured and how far a run goes, not what is trained.

Another protocol adds numbers to a run; at a constant rate a longer run begins as a shorter one, and is the same run going on.
"""


def identity(config: Config) -> str:
    """Return the hash of what determines the trained networks: the :func:`trained` settings and the numerics' version."""
    return _hash({"numerics": NUMERICS, "settings": trained(config)})


def evaluation_id(config: Config) -> str:
    """Return a hash of the settings that determine a run's numbers, given its networks; empty without an evaluation."""
    return _hash(_less(_not_neutral(config), WITHOUT_EFFECT)["evaluation"]) if config.evaluation.samples else ""


def trained(config: Config) -> dict[str, Any]:
    """Return the settings, not at their neutral values, that determine the trained networks up to rounding."""
    return _less(effective(config), OF_EVALUATION)


def effective(config: Config) -> dict[str, Any]:
    """Return the settings that determine the trained networks and their numbers up to rounding.

    A setting at its neutral value (its default in gat/config.py) is left out, so that a new one changes no identity. A
    discriminator_size of null is the same as the generator's size by name.
    """
    settings = _not_neutral(config)
    settings["model"]["discriminator_size"] = config.model.discriminator_size or config.model.size
    return _less(_less(settings, WITHOUT_EFFECT), BY_ROUNDING)


def _not_neutral(settings: Any) -> dict[str, Any]:
    """Return a dataclass's fields, nested ones too, that have no default or differ from it."""
    values = {field: getattr(settings, field.name) for field in fields(settings)}
    return {
        field.name: _not_neutral(value) if is_dataclass(value) else value
        for field, value in values.items()
        if value != (field.default if field.default_factory is MISSING else field.default_factory())
    }


def has_effect(setting: str) -> bool:
    """Return whether a setting (dotted name) can change networks or numbers by more than rounding."""
    group, _, name = setting.partition(".")
    return all(
        (names := without.get(group, ())) is not None and name not in names for without in (WITHOUT_EFFECT, BY_ROUNDING)
    )


def _less(settings: dict[str, Any], without: Mapping[str, tuple[str, ...] | None]) -> dict[str, Any]:
    kept = {group: values for group, values in settings.items() if without.get(group, ()) is not None}
    return {
        group: {name: value for name, value in values.items() if name not in (without.get(group) or ())}
        for group, values in kept.items()
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def run_name(config: Config) -> str:
    """Return data, generator size and patch, seed and identity, e.g. ``digits-mini-S2-seed0-1a2b3c4d``."""
    model = config.model
    size = f"{model.family}-{model.size}{model.patch}"
    return f"{config.data.source}-{size}-seed{config.training.seed}-{identity(config)[:8]}"


def earlier_run(place: Path, config: Config) -> str | None:
    """Return a line about a run beside ``place`` with these settings and older numerics; None if there is none."""
    for folder in sorted(place.parent.glob(f"{place.name.rpartition('-')[0]}-*")):
        try:
            record = any_record(folder)
        except UserError:  # a damaged record of some other run
            continue
        if record is None or "config" not in record or numerics_of(record) == NUMERICS:
            continue
        if same_settings(record["config"], config):
            return f"{folder}: holds the same run under {version_named(numerics_of(record))}, which is kept"
    return None


def same_settings(theirs: Mapping[str, Any], config: Config) -> bool:
    """Return whether recorded settings train the same networks as ``config``; a setting they lack counts as equal."""
    wanted = _less(_less(_less(asdict(config), WITHOUT_EFFECT), BY_ROUNDING), OF_EVALUATION)
    sizes = theirs["model"]["discriminator_size"] or theirs["model"]["size"]
    if sizes != (config.model.discriminator_size or config.model.size):
        return False
    wanted["model"].pop("discriminator_size")
    return all(theirs.get(group, {}).get(name, v) == v for group in wanted for name, v in wanted[group].items())
