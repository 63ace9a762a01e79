"""CKNNA against platonic-rep's numbers, by hand, and against the definition written out; and of a discriminator's blocks."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from analysis import cknna as module
from analysis.alignment import (
    Batch,
    block_alignment,
    discriminator_of,
    fake_batches,
    features,
    objective_of,
    read_discriminator,
    real_batches,
    teacher_called,
)
from analysis.cknna import cka, cknna, prepared
from analysis.opening import Opened, opened
from gat.errors import UserError
from gat.teachers import Teacher
from tests.conftest import DATA
from tests.helpers import mini_discriminator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vectors() -> dict[str, Tensor]:
    """Computed by platonic-rep in float64 (see tests/data/README.md)."""
    return load_file(DATA / "cknna.safetensors")


def unit(n: int, d: int, seed: int) -> Tensor:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def written_out(a: Tensor, b: Tensor, k: int, unbiased: bool) -> float:
    """The definition, with whole matrices."""
    n = len(a)
    off = 1 - torch.eye(n, dtype=a.dtype)
    center = torch.eye(n, dtype=a.dtype) - 1 / n
    kernels = [x @ x.T for x in (a, b)]

    def neighbours(kernel: Tensor) -> Tensor:
        order = (kernel - 9 * (1 - off) if unbiased else kernel).argsort(dim=1, descending=True).argsort(dim=1)
        return (order < k).to(a.dtype)

    def align(p: Tensor, q: Tensor) -> float:
        mask = neighbours(p) * neighbours(q)
        p, q = p * mask, q * mask
        if not unbiased:
            return float(torch.trace(p @ center @ q @ center))
        cross = (p @ q).sum()
        return float((torch.trace(p @ q) + p.sum() * q.sum() / (n - 1) / (n - 2) - 2 * cross / (n - 2)) / n / (n - 3))

    own = [align(kernel, kernel) for kernel in kernels]
    return align(*kernels) / ((own[0] * own[1]) ** 0.5 + 1e-6)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("k", [5, 10, 99])
def test_agrees_with_the_source(vectors: dict[str, Tensor], k: int, unbiased: bool) -> None:
    expected = float(vectors[f"cknna.k{k}.{'unbiased' if unbiased else 'biased'}"])
    assert cknna(vectors["A"], vectors["B"], k, unbiased) == pytest.approx(expected, abs=1e-9)
    assert cknna(vectors["A"].numpy(), vectors["B"].numpy(), k, unbiased) == pytest.approx(expected, abs=1e-9)


def test_cka_agrees_with_the_source(vectors: dict[str, Tensor]) -> None:
    assert cka(vectors["A"], vectors["B"]) == pytest.approx(float(vectors["cka.unbiased"]), abs=1e-9)
    assert cka(vectors["A"], vectors["B"]) == pytest.approx(cknna(vectors["A"], vectors["B"], 99), abs=1e-9)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("block", [1, 3, 7, 1000])  # rows of a kernel at a time
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, block: int, unbiased: bool) -> None:
    a, b = unit(60, 5, 0), unit(60, 8, 1)
    monkeypatch.setattr(module, "BLOCK_VALUES", block * 60)
    assert cknna(a, b, 12, unbiased) == pytest.approx(written_out(a, b, 12, unbiased), abs=1e-12)
    assert cka(a, b, unbiased) == pytest.approx(written_out(a, b, 59 + (not unbiased), unbiased), abs=1e-12)


def test_by_hand() -> None:
    """Two pairs of equal vectors at right angles, k = 2, biased: every row's neighbours are its own pair.

    The masked kernel K is blocks of ones, HKH is +1/2 or -1/2 in all 16 places: tr(K H K H) = |HKH|^2 = 4. Features that pair
    the images otherwise share the diagonal only, the identity I: |HIH|^2 = |H|^2 = 3.
    """
    x, y = torch.eye(2), torch.tensor([[0.0, 1.0]])
    same = torch.stack([x[0], x[0], x[1], x[1]])
    crossed = torch.stack([x[0], y[0], x[0], y[0]])
    assert cknna(same, same, 2, unbiased=False) == pytest.approx(4 / (4 + 1e-6))
    assert cknna(same, crossed, 2, unbiased=False) == pytest.approx(3 / (4 + 1e-6))


def test_same_geometry_is_one_and_none_is_zero() -> None:
    a = unit(400, 16, 0)
    turned = a @ torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(2), dtype=a.dtype))[0]
    assert cknna(a, turned, 10) == pytest.approx(1, abs=2e-3)
    assert abs(cknna(a, unit(400, 16, 1), 10)) < 0.05
    closer = [cknna(a, prepared(a + noise * unit(400, 16, 1), 1), 10) for noise in (0.2, 0.5, 1.0)]
    assert closer[0] > closer[1] > closer[2] > 0.05


def test_prepared_by_hand() -> None:
    """Absolute values in order: 1 1 2 3 4 30; 0.5 of six values: place 3, from 0: 3."""
    x = torch.tensor([[1.0, -30.0], [3.0, 4.0], [-1.0, 2.0]])
    expected = torch.tensor([[1.0, -3.0], [3.0, 3.0], [-1.0, 2.0]], dtype=torch.float64)
    expected /= expected.norm(dim=1, keepdim=True)
    assert torch.equal(prepared(x, 0.5), expected)
    assert torch.allclose(prepared(x, 1.0).norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert prepared(x, 1.0)[0, 1] == pytest.approx(-30 / 901**0.5)


def test_prepared_takes_the_95th_percentile() -> None:
    x = np.random.default_rng(0).normal(size=(50, 40))
    bound = np.sort(np.abs(x), axis=None)[1900]
    clamped = x.clip(-bound, bound)
    expected = clamped / np.linalg.norm(clamped, axis=1, keepdims=True)
    assert prepared(x).numpy() == pytest.approx(expected, abs=1e-15)


def with_value(value: float) -> Tensor:
    x = unit(20, 4, 0)
    x[3, 1] = value
    return x


@pytest.mark.parametrize(
    ("a", "b", "k", "message"),
    [
        (2 * unit(20, 4, 0), unit(20, 4, 1), 5, r"row 0 of the first features has norm 2, not 1: give prepared\(feat"),
        (unit(20, 4, 0), unit(20, 4, 0) * 1.01, 5, r"second features has norm 1.01, not 1"),
        (unit(20, 4, 0), unit(19, 4, 0), 5, "features of 20 and of 19 images: give both of the same images"),
        (unit(20, 4, 0), unit(20, 4, 0), 1, "k=1 must lie between 2 and n-1 = 19"),
        (unit(20, 4, 0), unit(20, 4, 0), 20, "k=20 must lie between 2 and n-1 = 19"),
        (unit(3, 4, 0), unit(3, 4, 0), 2, "features of 3 images: give at least 4"),
        (with_value(float("nan")), unit(20, 4, 0), 5, "row 3 of the first features holds NaN or infinity"),
        (unit(20, 4, 0), with_value(float("inf")), 5, "row 3 of the second features holds NaN or infinity"),
        (torch.ones(20, 4, 2), unit(20, 4, 0), 5, r"first features of shape \(20, 4, 2\): give \(images, width\)"),
        (torch.ones(20, 1), unit(20, 4, 0), 19, "the first features do not tell the images apart"),
    ],
)
def test_mistakes_are_told(a: Tensor, b: Tensor, k: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        cknna(a, b, k)


def test_mistakes_in_preparation() -> None:
    with pytest.raises(UserError, match=r"quantile=0 must lie in \(0, 1\]"):
        prepared(unit(5, 4, 0), 0)
    with pytest.raises(UserError, match="row 1 of the features is all zeros"):
        prepared(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), 1.0)
    with pytest.raises(UserError, match="row 0 of the features holds NaN"):
        prepared(torch.tensor([[float("nan"), 2.0]]))


@pytest.fixture(scope="module")
def run(trained: Path) -> Opened:
    return opened(str(trained / "run"), CPU)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return teacher_called("efficientnet-lite0", CPU)


def test_the_discriminator_of_a_checkpoint(run: Opened, trained: Path) -> None:
    """Its dimensions are those that the run recorded; its weights those of the file."""
    discriminator = discriminator_of(run)
    record = json.loads((trained / "run" / "record.json").read_text())
    recorded = record["model"]["discriminator"] | {"projector_width": 0}  # without a teacher there is no projector
    assert asdict(discriminator.dims) == recorded
    stored = load_file(run.pretrained.source)
    assert all(torch.equal(value, stored[f"discriminator.{key}"]) for key, value in discriminator.state_dict().items())
    with pytest.raises(UserError, match="holds no discriminator of ours: give a run's folder or checkpoint"):
        discriminator_of(replace(run, pretrained=replace(run.pretrained, kind="release")))


def test_dimensions_with_a_projector(run: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    discriminator = mini_discriminator().float()
    state = discriminator.state_dict()
    monkeypatch.setattr("analysis.alignment.read_checkpoint", lambda *_: ({}, state))
    read = read_discriminator(tmp_path, replace(run.subject.generator.dims, latent_side=8))
    assert read.dims == discriminator.dims
    del state["blocks.3.ls_mlp"]
    with pytest.raises(UserError, match="its discriminator cannot be read"):
        read_discriminator(tmp_path, run.subject.generator.dims)


def test_features_are_mean_patch_tokens(run: Opened, teacher: Teacher) -> None:
    discriminator, objective = discriminator_of(run), objective_of(run)
    batch = next(iter(fake_batches(run, objective, 5, seed=0)))
    blocks, target = features(discriminator, teacher, [batch, batch])
    record: dict[str, Tensor] = {}
    discriminator(batch.stages, batch.labels, record=record)
    expected = torch.stack(list(record["block_3"].unbind(1))[1:]).mean(dim=0)
    assert len(blocks) == 8
    assert blocks[3].shape == (10, 64)
    assert torch.allclose(blocks[3][:5], expected, atol=1e-6)
    assert torch.equal(blocks[3][:5], blocks[3][5:])
    assert torch.allclose(target[5:], teacher(batch.images).cls, atol=1e-6)  # a CNN's [cls] is its mean token


def test_what_the_discriminator_sees(run: Opened) -> None:
    """Real: one image at all stages, noised less and less; each image once. Fake: the stages and the decoded last one."""
    objective = objective_of(run)
    (real,) = real_batches(run, objective, 16, seed=0)
    assert real.stages.shape == (4, 16, 4, 8, 8)
    assert run.data is not None
    assert sorted(real.images.flatten(1).sum(1).tolist()) == sorted(
        torch.from_numpy(run.data.images(range(16))).flatten(1).sum(1).tolist()
    )
    late, early = (
        float((real.stages[i] - real.stages[3]).std()) for i in (2, 0)
    )  # levels 0.51 and 0.885 of noise over that of 0.01
    assert 0 < late < early
    fakes = [next(iter(fake_batches(run, objective, 6, seed))) for seed in (0, 0, 1)]
    assert torch.equal(fakes[0].stages, fakes[1].stages)
    assert not torch.equal(fakes[0].stages, fakes[2].stages)
    assert fakes[0].labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert fakes[0].images.shape == (6, 32, 32, 3)
    with pytest.raises(UserError, match="samples=17 are more than the 16 images of .*: use fewer"):
        next(iter(real_batches(run, objective, 17, seed=0)))


def test_alignment_of_blocks(run: Opened, teacher: Teacher) -> None:
    found = block_alignment(run, teacher, samples=16, seed=0, k=5)
    assert [one.block for one in found] == list(range(8))
    assert found == block_alignment(run, teacher, samples=16, seed=0, k=5)
    batches: list[Batch] = list(real_batches(run, objective_of(run), 16, seed=0))
    blocks, target = features(discriminator_of(run), teacher, batches)
    assert found[6].real == cknna(prepared(blocks[6]), prepared(target), 5)


def test_unknown_teacher() -> None:
    with pytest.raises(UserError, match="teacher='clip' is unknown: choose one of dinov2-g, efficientnet-lite0"):
        teacher_called("clip", CPU)
