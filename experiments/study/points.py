"""The points of a sweep: every arm x grid point x seed, as overrides that Hydra understands."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from gat.errors import UserError

SEED = "training.seed"
ARMS = "launch.arms"
ARM = "sweep.arm"


def expand(sweep: DictConfig, typed: Mapping[str, list[str]], only: Sequence[str] | None = None) -> list[list[str]]:
    """Overrides of every job, in order of arms, grid and seeds; the last one names arm and point.

    ``typed``: values by setting of the command line, in Hydra's spelling (``+a`` and ``++a`` are the setting ``a``). They
    win: a grid axis of that name is replaced, and several values of another setting are a further axis. ``only``: names of
    the arms to take; None for all. Raises :class:`UserError` for a setting that the arms differ in, and for an unknown arm.
    """
    plain = {key.lstrip("+"): values for key, values in typed.items()}
    own = cast(dict[str, Any], OmegaConf.to_container(sweep, resolve=True, throw_on_missing=True))
    arms = chosen_arms(own, only)
    for key, values in plain.items():
        if key == ARMS and len(values) > 1:
            raise UserError(f"{ARMS} is a list: type {ARMS}=[{','.join(values)}]")
        if len(values) > 1 and key.split(".")[0] in ("sweep", "study", "cluster", "launch"):
            raise UserError(f"{key} cannot be swept: type one value of it, and the command once for each")
        if any(key in overrides for overrides in arms.values()):
            raise UserError(f"{key} is what the arms of sweep {own['name']!r} differ in: leave it out")
    seeds = plain.get(SEED) or [str(seed) for seed in range(own["claim"]["seeds"] if own["claim"] else 1)]
    axes = {
        key: [as_spelled(text, values) for text in plain[key]] if key in plain else [spell(value) for value in values]
        for key, values in own["grid"].items()
    }
    others = {key: values for key, values in typed.items() if key.lstrip("+") not in (*axes, SEED)}
    axes |= {key: values for key, values in others.items() if len(values) > 1}
    fixed = {key: values[0] for key, values in others.items() if len(values) == 1}
    jobs = []
    for (arm, overrides), values in itertools.product(arms.items(), itertools.product(*axes.values())):
        point = dict(zip(axes, values, strict=True))
        chosen = {key: spell(value) for key, value in (own["common"] | overrides).items()} | point | fixed
        name = spell(label(arm, point))
        jobs += [[f"{key}={value}" for key, value in (chosen | {SEED: seed, ARM: name}).items()] for seed in seeds]
    return jobs


def chosen_arms(sweep: Mapping[str, Any], only: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Overrides by name of the arm; one without name or overrides where a sweep has a grid alone."""
    arms: dict[str, dict[str, Any]] = sweep["arms"]
    for name in only or ():
        if name not in arms:
            known = ", ".join(arms) if arms else f"none: its runs differ in {', '.join(sweep['grid']) or 'nothing'}"
            raise UserError(f"{ARMS}: sweep {sweep['name']!r} has no arm {name!r} (its arms: {known})")
    return {name: own for name, own in arms.items() if not only or name in only} or {"": {}}


def as_spelled(text: str, values: Sequence[Any]) -> str:
    """``text``, spelled as the one of ``values`` that is the same number: ``1`` is a grid's ``1.0``, not a further point."""
    try:
        number = float(text)
    except ValueError:
        return text
    return next((spell(value) for value in values if isinstance(value, float | int) and value == number), text)


def label(arm: str, point: Mapping[str, str]) -> str:
    """Name of an arm at a grid point: ``mng``'s ``linear``; ``lr_grid``'s ``size=S,lr_multiple=0.5``; ``baseline``."""
    if not arm and len(point) == 1:
        (value,) = point.values()
        if value.isidentifier() and value not in ("true", "false", "null"):
            return value
    parts = [f"{key.split('.')[-1]}={value}" for key, value in point.items()]
    return ",".join([arm] * bool(arm) + parts) or "baseline"


def spell(value: Any) -> str:
    """``value`` in Hydra's override grammar; its strings are quoted where they are more than a word."""
    if isinstance(value, str):
        return value if value.replace("_", "").isalnum() else "'" + value.replace("'", "\\'") + "'"
    return json.dumps(value)
