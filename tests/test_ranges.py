"""Ranges: in every numeric field, an impossible number is refused in one line that names the setting."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_type_hints

import pytest

from experiments.settings import ClaimConfig, DiagnosticsConfig, ExperimentConfig, group
from gat.config import Config
from gat.errors import UserError
from gat.ranges import Count, Decay, Range, check_ranges, range_of
from gat.training.check import check
from tests.conftest import compose_config, composed

TOO_LARGE = 2**64


def holds_numbers(hint: Any) -> bool:
    return hint in (int, float) or any(map(holds_numbers, get_args(hint)))


def number_fields(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and type of every numeric field, also in nested dataclasses."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from number_fields(hint, f"{prefix}{name}.")
        elif holds_numbers(hint):
            yield f"{prefix}{name}", hint


FIELDS = [*number_fields(ExperimentConfig), *number_fields(ClaimConfig), *number_fields(DiagnosticsConfig)]


@pytest.mark.parametrize("name", [name for name, _ in FIELDS])
def test_every_number_states_its_range(name: str) -> None:
    """Ranges exclude infinity, NaN, integers beyond 64 bits, and negative ones (except a layer's index)."""
    allowed = range_of(dict(FIELDS)[name])
    assert allowed is not None
    assert allowed.least >= 0 or allowed.above >= 0 or name == "teacher.layer"
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(UserError, match=rf"^{name}={value} must be finite"):
            allowed.check(name, value)
    if "int" in str(dict(FIELDS)[name]):
        with pytest.raises(UserError, match=f"^{name}={TOO_LARGE} must be at "):
            allowed.check(name, TOO_LARGE)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.seed=18446744073709551616",
            "training.seed=18446744073709551616 must be at least 0 and at most 9223",
        ),
        ("training.init_seed=-1", "training.init_seed=-1 must be at least 0"),
        ("training.total_steps=100000000", "training.total_steps=100000000 must be at least 1 and at most 99999999"),
        ("training.divergence.max_logit_gap=nan", "training.divergence.max_logit_gap=nan must be finite and above 0"),
        ("optim.lr_base=nan", "optim.lr_base=nan must be finite and above 0"),
        ("optim.eps=inf", "optim.eps=inf must be finite and above 0"),
        ("optim.lr_reference_width=0", "optim.lr_reference_width=0 must be at least 1"),
        ("optim.lr_reference_width=-5", "optim.lr_reference_width=-5 must be at least 1"),
        ("optim.also_ema_decays=[0.9,1.0]", r"optim.also_ema_decays\[1\]=1.0 must be at least 0 and below 1"),
        ("objective.penalty_weight=-1", "objective.penalty_weight=-1.0 must be at least 0"),
        ("objective.penalty_fraction=1e-320", "objective.penalty_fraction=1e-320 must be at least 1e-06 and at most 1"),
        ("autoencoder.latent_channels=0", "autoencoder.latent_channels=0 must be at least 1"),
        ("autoencoder.channels=[8,0]", r"autoencoder.channels\[1\]=0 must be at least 1"),
        ("autoencoder.scale=0", "autoencoder.scale=0.0 must be above 0"),
        ("autoencoder.train_images=-5", "autoencoder.train_images=-5 must be at least 0"),
        ("autoencoder.kl_weight=nan", "autoencoder.kl_weight=nan must be finite and at least 0"),
        ("objective.generator_alignment_block=-1", "objective.generator_alignment_block=-1 must be at least 0"),
        ("data.image_quality=101", "data.image_quality=101 must be at least 1 and at most 100"),
        ("model.num_classes=0", "model.num_classes=0 must be at least 1"),
        ("teacher.input_px=0", "teacher.input_px=0 must be at least 1"),
        ("evaluation.grid_columns=100000", "evaluation.grid_columns=100000 must be at least 1 and at most 100"),
        ("evaluation.truncation=nan", "evaluation.truncation=nan must be finite and at least 0 and at most 1"),
        ("evaluation.seed=-1", "evaluation.seed=-1 must be at least 0"),
        ("loader.workers=-1", "loader.workers=-1 must be at least 0"),
        ("loader.prefetch=0", "loader.prefetch=0 must be at least 1"),
        ("loader.memory_gb=nan", "loader.memory_gb=nan must be finite and at least 0"),
    ],
)
def test_settings_of_a_run_out_of_range(override: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        check(compose_config(override))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sample.seed=-1", "sample.seed=-1 must be at least 0"),
        ("sample.classes=[-1]", r"sample.classes\[0\]=-1 must be at least 0"),
        ("sample.fps=0", "sample.fps=0 must be at least 1"),
        ("measure.reference_images=0", "measure.reference_images=0 must be at least 1"),
        ("measure.also_samples=[100,1]", r"measure.also_samples\[1\]=1 must be at least 2"),
        ("benchmark.seconds=nan", "benchmark.seconds=nan must be finite and above 0"),
        ("benchmark.warmup_steps=-1", "benchmark.warmup_steps=-1 must be at least 0"),
        ("prepare.shards=0", "prepare.shards=0 must be at least 1"),
        ("launch.local_jobs=0", "launch.local_jobs=0 must be at least 1"),
        ("cluster.sustained_tflops=nan", "cluster.sustained_tflops=nan must be finite and above 0"),
        ("study.processes=-1", "study.processes=-1 must be at least 1"),
        ("study.patches.small=0", r"study.patches\[small\]=0 must be at least 1"),
        ("study.diagnostics.paths=0", "study.diagnostics.paths=0 must be at least 1"),
        ("study.effect=1", "study.effect=1.0 must be above 1"),
    ],
)
def test_settings_around_a_run_out_of_range(override: str, message: str) -> None:
    settings = composed("study=mini", override)
    with pytest.raises(UserError, match=f"^{message}"):
        group(settings, override.split(".")[0])


def test_a_configuration_made_in_python_is_checked_too() -> None:
    config = compose_config()
    wrong = dataclasses.replace(config, optim=dataclasses.replace(config.optim, clip_norm=math.nan))
    with pytest.raises(UserError, match=r"^optim\.clip_norm=nan must be finite and above 0$"):
        check(wrong)


@dataclasses.dataclass
class Inner:
    share: Decay | None
    by_name: dict[str, Count]


@dataclasses.dataclass
class Outer:
    free: float
    odd: Annotated[float, "no range"]
    inner: list[Inner]


def test_ranges_hold_within_lists_and_dictionaries_and_bounds_belong_where_they_say() -> None:
    check_ranges(Outer(math.nan, math.nan, [Inner(None, {}), Inner(0.0, {"a": 1})]))
    for inner, message in (
        (Inner(1.0, {}), "x.inner[1].share=1.0 must be at least 0 and below 1"),
        (Inner(None, {"a": 1, "b": 0}), "x.inner[1].by_name[b]=0 must be at least 1"),
    ):
        with pytest.raises(UserError) as error:
            check_ranges(Outer(0.0, 0.0, [Inner(None, {}), inner]), "x.")
        assert str(error.value) == message
    Range(0, 1).check("x", 0)
    Range(0, 1).check("x", 1)
    with pytest.raises(UserError, match="^x=1 must be above 1$"):
        Range(above=1).check("x", 1)


def test_omegaconf_reads_the_types_through_their_ranges() -> None:
    """Otherwise text, or a fraction in an integer's field, would pass."""
    assert get_type_hints(Config)["training"] is not None
    for override in ("training.seed=1.5", "optim.also_ema_decays=[text]", "training.keep_steps=text"):
        with pytest.raises(Exception, match=r"could not be converted to (Integer|Float)|Error merging"):
            compose_config(override)
