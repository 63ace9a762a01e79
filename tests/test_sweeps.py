"""Every sweep in every study: it composes, to the golden settings, and its claim's head can be applied."""

import dataclasses
import math
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from experiments.settings import SWEEPS, ClaimConfig, surroundings
from experiments.study.claims import check_claim, check_claims
from experiments.study.estimate import training_flops
from gat.training.check import check
from tests.conftest import compose_config
from tests.golden.update import GOLDEN, NAMES, STUDIES, base_of, composed, points_of, study_settings, sweep_settings

CLAIMS = {
    *("mng", "lr_crosscheck", "lr_boundary", "lr_grid", "update_size", "repa", "model_size", "patch_size", "gflops"),
    *("decoupled", "batch_rule", "headline", "repa_generator", "autoencoder", "noise_nesting", "consistency"),
    *("logit_centering", "penalty_fraction"),
}
REWRITE = "after an intended change: python -m tests.golden.update"


def golden(study: str, name: str) -> Any:
    return yaml.safe_load((GOLDEN / study / f"{name}.yaml").read_text())


WITHOUT_CLAIM = {"seed_noise"}
OF_DIAGNOSTICS = {"layer_use", "cknna", "interpolation", "metrics"}


def test_every_claim_has_its_sweep() -> None:
    assert set(NAMES) == CLAIMS | WITHOUT_CLAIM
    heads = [yaml.safe_load((SWEEPS / f"{name}.yaml").read_text()) for name in NAMES]
    assert {claim["id"] for head in heads for claim in head.get("diagnostic_claims", [])} == OF_DIAGNOSTICS


@pytest.mark.parametrize("study", STUDIES)
def test_study_equals_its_golden_settings(study: str) -> None:
    assert study_settings(study) == golden(study, "base"), REWRITE


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("sweep", NAMES)
def test_sweep_equals_its_golden_settings(sweep: str, study: str) -> None:
    assert sweep_settings(sweep, study) == golden(study, sweep), REWRITE


@pytest.mark.parametrize("sweep", sorted(CLAIMS))
def test_head_is_whole_and_its_rule_names_arms_that_exist(sweep: str) -> None:
    settings = composed([f"sweep={sweep}", *base_of("mini")])
    around = surroundings(settings)
    assert around.sweep.claim is not None
    assert around.sweep.name == sweep
    assert around.sweep.claim.id == sweep
    points = points_of(sweep, *base_of("mini"))
    arms = {point[-1].removeprefix("sweep.arm=").strip("'") for point in points}
    assert len(points) == around.sweep.claim.seeds * len(arms)
    assert {claim.diagnostic for claim in around.sweep.diagnostic_claims} <= set(around.sweep.diagnostics)
    for claim in (around.sweep.claim, *around.sweep.diagnostic_claims):
        values = dataclasses.asdict(claim)
        values.pop("family")
        assert (values.pop("diagnostic") is None) == (claim is around.sweep.claim)
        assert all(value not in ("", None) for value in values.values())
        assert all(number.keys() == {"what", "value", "about", "source"} for number in claim.paper)
        check_claim(claim, arms)


@pytest.mark.parametrize("sweep", NAMES)
def test_file_holds_nothing_but_a_claim_and_overrides(sweep: str) -> None:
    """No cluster, no path: the study says at which scale."""
    text = (SWEEPS / f"{sweep}.yaml").read_text()
    values = yaml.safe_load(text)
    assert text.startswith("# ")
    assert values.keys() <= {"defaults", "name", "claim", "diagnostics", "diagnostic_claims", "common", "arms", "grid"}
    assert values["defaults"] == [{"override /study@_global_.study": "imagenet256"}]
    assert "data." not in text.replace("about", "")


def test_same_comparison_at_every_scale() -> None:
    """Arms have the same names in all studies; only what they stand for differs."""
    for sweep in NAMES:
        arms = [list(golden(study, sweep)) for study in STUDIES]
        assert arms[0] == arms[1] == arms[2]
    assert golden("imagenet256", "patch_size")["large,size=S"] == {"model.patch": 8}
    assert golden("mini", "patch_size")["large,size=S"] == {"model.patch": 4}


def test_batch_rule_sees_the_same_number_of_images() -> None:
    for study in STUDIES:
        base, fourfold = golden(study, "base"), golden(study, "batch_rule")["fourfold"]
        for steps in ("training.total_steps", "training.eval_steps"):
            assert fourfold["training.batch_size"] * fourfold[steps] == base["training.batch_size"] * base[steps]
        assert fourfold["optim.ema_decay"] == base["optim.ema_decay"] ** 4  # per image the same average
        assert fourfold["optim.lr_multiple"] ** 2 * base["training.batch_size"] == fourfold["training.batch_size"]


def test_paper_scale_is_the_papers() -> None:
    config = compose_config(*base_of("imagenet256"))
    check(config)
    assert (config.training.batch_size, config.training.total_steps, config.model.patch) == (512, 50_000, 2)
    study = surroundings(composed(base_of("imagenet256"))).study
    flops = training_flops(dataclasses.replace(config, model=dataclasses.replace(config.model, size="XL")), study)
    assert flops is not None
    # G 237.1 and D 242.0 GFLOPs forward: D's step 3 x 4 D, G's step 3 D + 3 G, the projector on the real images on top
    assert flops / (512 * 50_000) == pytest.approx((15 * 242.0e9 + 3 * 237.1e9), rel=0.02)


PAIR = {"kind": "difference", "arms": ["a", "b"], "decides": True}
TRAINS = {"kind": "trains", "arms": ["a"], "decides": True}
SLOPE = {"kind": "power_law", "x": "flops", "predicted": 1.0, "within": 0.1, "decides": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": "never"}, "at='never' is unknown"),
        ({"rule": [{"kind": "vote", "decides": True}]}, "kind='vote' is unknown"),
        ({"rule": [{"kind": "ordered", "decides": True}]}, "ordered has decides, kind, expected arms, decides, kind"),
        ({"rule": [{"kind": "ordered", "arms": ["a", "x"], "decides": True}]}, "names arm 'x', but there are a, b"),
        ({"rule": [PAIR | {"decides": False}]}, "none of its tests decides"),
        ({"rule": [{"kind": "difference", "arms": ["a"], "decides": True}]}, "difference compares 2 arms, not 1"),
        (
            {"rule": [{"kind": "ordered", "arms": ["a"], "decides": True}]},
            "names the arms a: give at least 2, each once",
        ),
        ({"rule": [PAIR | {"arms": ["a", "a"]}]}, "names the arms a, a: give at least 2, each once"),
        ({"rule": [PAIR | {"equivalent": 0.5}]}, "difference: equivalent=0.5 must be above 1"),
        ({"rule": [PAIR | {"equivalent": float("inf")}]}, "difference: equivalent=inf must be finite and above 1"),
        ({"rule": [PAIR | {"equivalent": [1.3]}]}, r"difference: equivalent=\[1.3\] must be a number"),
        ({"rule": [PAIR | {"equivalent": 1.3}], "metric": "d_loss", "at": "end"}, "its metric must be frechet"),
        (
            {"rule": [{"kind": "difference", "arms": ["a", "b"]}]},
            "difference has arms, kind, expected arms, decides, kind",
        ),
        ({"rule": [PAIR | {"decides": "no"}]}, "difference: decides=no must be true or false"),
        ({"rule": [PAIR | {"arms": "ab"}]}, "difference: arms=ab must be a list of names"),
        ({"rule": [PAIR | {"arms": ["a", 2]}]}, r"difference: arms=\['a', 2\] must be a list of names"),
        ({"rule": [TRAINS | {"share": math.nan}]}, "trains: share=nan must be finite and at least 0 and at most 1"),
        ({"rule": [TRAINS | {"share": 2}]}, "trains: share=2 must be at least 0 and at most 1"),
        ({"rule": [SLOPE | {"predicted": "one"}]}, "power_law: predicted=one must be a number"),
        ({"rule": [SLOPE | {"x": 1}]}, "power_law: x=1 must be a name"),
        ({"paper": [{"what": "FID"}]}, r"paper has \{'what': 'FID'\}: give each about, source, value, what, with"),
        ({"confidence": math.nan}, "confidence=nan must be finite and at least 0.5 and below 1"),
        ({"confidence": 95}, "confidence=95 must be at least 0.5 and below 1"),
        ({"looks": 3, "family": None}, "looks=3 must be at least 1 and at most 2"),
        ({"looks": 2}, "looks=2 with family=base: Holm's correction needs 1 look"),
        ({"metric": "d_loss"}, "at=last_third is for metric frechet, not d_loss: use end"),
        (
            {"rule": [{"kind": "trains", "arms": ["a"], "share": 1.0, "decides": True}]},
            "family=base, but none of its deciding tests compares arms: leave family out",
        ),
    ],
)
def test_rules_that_cannot_be_applied(change: dict[str, Any], message: str) -> None:
    claim = OmegaConf.to_object(composed(["sweep=mng", *base_of("mini")]).sweep.claim)
    assert isinstance(claim, ClaimConfig)
    with pytest.raises(ValueError, match=message):
        check_claim(dataclasses.replace(claim, **change), {"a", "b"})


def test_claims_about_diagnostics_that_are_not_made() -> None:
    sweep = surroundings(composed(["sweep=mng", *base_of("mini")])).sweep
    arms = {"exponential", "linear", "flat", "none", "msg"}
    check_claims(sweep, arms)
    with pytest.raises(ValueError, match="the diagnostic interpolation of a claim must stand in its diagnostics"):
        check_claims(dataclasses.replace(sweep, diagnostics=["layer_lpips"]), arms)
