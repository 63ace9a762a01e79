"""Contributions of blocks: planted dead blocks, by hand, and analysis/layer_lpips.py as a user types it."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from analysis.blocks import block_contributions, distances_without, inputs_of, removed_sets, summary
from analysis.layer_lpips import contribute, main, rows_of_checkpoint
from analysis.opening import newest_finished, opened
from analysis.perceptual import FeatureDistance, load_distance
from gat.errors import UserError
from gat.models import Generator
from gat.models.generator import GeneratorBlock
from tests.helpers import CLASSES, dims_of, mini_generator

DEAD = 2


class PixelDistance:
    """Mean absolute difference of pixels."""

    name = "pixels"

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return (a.double() - b.double()).abs().mean(dim=(1, 2, 3))


def decode(latents: Tensor) -> Tensor:
    """Its first three channels, as uint8."""
    return (latents[:, :3] * 64 + 128).clamp(0, 255).to(torch.uint8)


def generator_with_dead(*dead: int) -> Generator:
    """Blocks of ordinary size, but ``dead`` whose branches end in zeros."""
    generator = mini_generator().requires_grad_(False)
    for i, block in enumerate(generator.blocks):
        assert isinstance(block, GeneratorBlock)
        block.modulation.weight *= 10
        if i in dead:
            for last in last_linears(block):
                last.weight.zero_()
                assert last.bias is not None
                last.bias.zero_()
    return generator


def last_linears(block: GeneratorBlock) -> Sequence[nn.Linear]:
    """Of its two branches."""
    last = [[m for m in branch.modules() if isinstance(m, nn.Linear)][-1] for branch in (block.attn, block.mlp)]
    assert [m.out_features for m in last] == [64, 64]
    return last


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    z, labels = inputs_of(10, dims_of(CLASSES), None, seed=0)
    return z.double(), labels


@pytest.mark.parametrize("distance", [PixelDistance(), FeatureDistance("toy", lambda images: [images.double()])])
def test_a_dead_block_contributes_nothing_and_no_other_does(
    inputs: tuple[Tensor, Tensor], distance: PixelDistance | FeatureDistance
) -> None:
    found = block_contributions(generator_with_dead(DEAD), decode, distance, *inputs)
    assert found.shape == (10, 8)
    assert (found[:, DEAD] == 0).all()
    assert (np.delete(found, DEAD, axis=1) > 0).all()
    numbers = summary(found, 4)
    assert [c.block for c in numbers if c.raw == 0] == [DEAD]
    assert (numbers[DEAD].raw_low, numbers[DEAD].raw_high, numbers[DEAD].share) == (0, 0, 0)
    assert [c.stage for c in numbers] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_taking_out_is_putting_zeros_in(inputs: tuple[Tensor, Tensor]) -> None:
    """The distance without block 5 is that between the generator and one whose block 5 is dead."""
    z, labels = inputs
    found = block_contributions(generator_with_dead(), decode, PixelDistance(), z, labels)[:, 5]
    images = [decode(generator(z, labels)[-1]) for generator in (generator_with_dead(), generator_with_dead(5))]
    assert found == pytest.approx(PixelDistance()(*images).numpy())


def test_cumulative(inputs: tuple[Tensor, Tensor]) -> None:
    generator = generator_with_dead(0, 1)
    none, first, all_of = distances_without(
        generator, decode, PixelDistance(), *inputs, [(), (0, 1, 2), range(8)], truncation=0.0, batch_size=4
    ).T
    assert (none == 0).all()
    found = block_contributions(generator, decode, PixelDistance(), *inputs, removal="cumulative")
    assert (found[:, :2] == 0).all()
    assert (found[:, 2] == first).all()
    assert (found[:, 7] == all_of).all()
    assert (first > 0).all()
    assert summary(found, 4, "cumulative")[-1].share == 1


def test_batches_do_not_matter(inputs: tuple[Tensor, Tensor]) -> None:
    generator = generator_with_dead(DEAD)
    whole = block_contributions(generator, decode, PixelDistance(), *inputs, batch_size=64)
    for batch in (1, 3):
        parts = block_contributions(generator, decode, PixelDistance(), *inputs, batch_size=batch)
        assert parts == pytest.approx(whole, abs=1e-2)  # a grey level of a few pixels: rounding of sums
        assert (parts[:, DEAD] == 0).all()


def test_truncation_counts(inputs: tuple[Tensor, Tensor]) -> None:
    generator = generator_with_dead()
    generator.mean_w.fill_(0.5)
    free, pulled = (
        block_contributions(generator, decode, PixelDistance(), *inputs, truncation=psi) for psi in (0.0, 1.0)
    )
    assert not np.allclose(free, pulled)
    same_class = pulled[inputs[1].numpy() == 0]
    assert same_class == pytest.approx(np.broadcast_to(same_class[0], same_class.shape))  # psi = 1: z is gone


def test_removed_sets() -> None:
    assert [list(blocks) for blocks in removed_sets(3, "zeroed")] == [[0], [1], [2]]
    assert [list(blocks) for blocks in removed_sets(3, "cumulative")] == [[0], [0, 1], [0, 1, 2]]
    with pytest.raises(UserError, match="removal='half' is unknown: choose one of zeroed, cumulative"):
        removed_sets(3, "half")


def test_summary_by_hand() -> None:
    """Means 2, 6, 4 of a sum of 12; taken out together: 2 and 6 of 4 (some blocks alone move the image farther)."""
    distances = np.array([[1.0, 6.0, 3.0], [3.0, 6.0, 5.0]])
    found = summary(distances, 3)
    assert [c.raw for c in found] == [2, 6, 4]
    assert [c.share for c in found] == pytest.approx([1 / 6, 1 / 2, 1 / 3])
    assert [c.of_largest for c in found] == pytest.approx([1 / 3, 1, 2 / 3])
    assert [c.share for c in summary(distances, 3, "cumulative")] == pytest.approx([0.5, 1.5, 1])
    assert (found[1].raw_low, found[1].raw_high) == (6, 6)
    assert (found[1].of_largest_low, found[1].of_largest_high) == (1, 1)
    assert (found[0].raw_low, found[0].raw_high) == (1, 3)  # of two samples


def test_intervals_are_the_normal_ones() -> None:
    """Of the mean; and of the share, by the delta method: (d_b - share * sum) / mean sum."""
    distances = np.random.default_rng(0).gamma(4.0, size=(500, 3)) * [1.0, 2.0, 3.0]
    found = summary(distances, 3)[0]
    half = 1.96 * distances[:, 0].std() / 500**0.5
    assert (found.raw_low, found.raw_high) == pytest.approx((found.raw - half, found.raw + half), abs=0.15 * half)
    whole = distances.sum(axis=1)
    half = 1.96 * ((distances[:, 0] - found.share * whole) / whole.mean()).std() / 500**0.5
    assert (found.share_low, found.share_high) == pytest.approx(
        (found.share - half, found.share + half), abs=0.15 * half
    )


def test_a_generator_without_any_contribution_has_no_shares() -> None:
    found = summary(np.zeros((5, 2)), 1)
    assert [c.raw for c in found] == [0, 0]
    assert all(np.isnan([c.share, c.share_low, c.of_largest]).all() for c in found)


def test_a_diverged_generator_is_told(inputs: tuple[Tensor, Tensor]) -> None:
    generator = generator_with_dead()
    generator.class_embedding.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="samples are not finite: the run has diverged, choose an earlier checkpoint"):
        block_contributions(generator, decode, PixelDistance(), *inputs)


def test_classes_are_balanced() -> None:
    z, labels = inputs_of(7, dims_of(3), None, seed=0)
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert inputs_of(5, dims_of(10), [7, 2], seed=0)[1].tolist() == [7, 2, 7, 2, 7]
    assert inputs_of(4, dims_of(1000), None, seed=0)[1].tolist() == [0, 250, 500, 750]
    assert torch.equal(inputs_of(7, dims_of(3), None, seed=0)[0], z)
    assert not torch.equal(inputs_of(7, dims_of(3), None, seed=1)[0], z)
    with pytest.raises(UserError, match="classes=3: there are classes 0 to 2"):
        inputs_of(4, dims_of(3), [0, 3], seed=0)
    with pytest.raises(UserError, match="samples=0 must be at least 1"):
        inputs_of(0, dims_of(3), None, seed=0)


def record(folder: Path, **content: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/step-00000004.safetensors").touch()
    (folder / "record.json").write_text(json.dumps(content))
    return folder


def test_the_newest_finished_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run with a checkpoint: train one .* or give checkpoint="):
        newest_finished(tmp_path)
    record(tmp_path / "b", status="finished", ended_at="2026-01-01T00:00:00+00:00")
    newest = record(tmp_path / "a", status="finished", ended_at="2026-01-02T00:00:00+00:00")
    record(tmp_path / "c", status="diverged", ended_at="2026-01-03T00:00:00+00:00")
    record(tmp_path / "d", status="finished")
    (record(tmp_path / "e") / "record.json").write_text("{")
    assert newest_finished(tmp_path) == newest
    (newest / "checkpoints/step-00000004.safetensors").unlink()
    assert newest_finished(tmp_path).name == "b"
    assert newest_finished(tmp_path, needs_checkpoint=False) == newest


def run_of(trained: Path, tmp_path: Path) -> list[str]:
    return [f"run={trained}/run", "samples=4", f"out={tmp_path}"]


def values_of(*arguments: str) -> dict[str, str]:
    return {name: value for name, _, value in (argument.partition("=") for argument in arguments)}


def typed_in(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """The command; in this process, as its imports take seconds."""
    monkeypatch.setattr(sys, "argv", ["layer_lpips.py", *arguments])
    main()


def test_as_typed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed_in(monkeypatch, *run_of(trained, tmp_path))
    stem = "layer_lpips-step-00000004-zeroed-efficientnet-lite0"
    assert {file.name for file in tmp_path.iterdir()} == {f"{stem}.{kind}" for kind in ("csv", "json", "png", "pdf")}
    table = pd.read_csv(tmp_path / f"{stem}.csv")
    assert table["block"].tolist() == list(range(8))
    assert table["share"].sum() == pytest.approx(1)
    assert (table["raw_low"] <= table["raw"]).all()
    assert (table["raw"] <= table["raw_high"]).all()
    facts = json.loads((tmp_path / f"{stem}.json").read_text())
    assert facts["distance"] == "EfficientNetLite0-perceptual"
    assert (facts["samples"], facts["removal"], facts["generators"][0]["step"]) == (4, "zeroed", 4)
    assert facts["generators"][0]["truncation"] == 0.25
    assert Image.open(tmp_path / f"{stem}.png").size == (1500, 570)
    assert f"{table['raw'][0]:.4g}" in capsys.readouterr().out


def test_the_newest_run_over_its_checkpoints_against_another(trained: Path, tmp_path: Path) -> None:
    arguments = (f"runs={trained}", "samples=2", f"out={tmp_path}", "removal=cumulative", "checkpoints=all")
    contribute(values_of(*arguments, f"against={trained}/run"))
    (file,) = tmp_path.glob("*.csv")
    table = pd.read_csv(file)
    assert file.stem == "layer_lpips-all-cumulative-efficientnet-lite0-against-run"
    assert table["step"].tolist() == 2 * ([2] * 8 + [4] * 8)
    ours, others = table[:16].to_numpy()[:, 1:], table[16:].to_numpy()[:, 1:]
    assert (ours == others).all()  # the same run twice
    assert table[table["block"] == 7]["share"].tolist() == [1] * 4


def test_what_is_typed_wins_over_the_runs_settings(trained: Path) -> None:
    cpu = torch.device("cpu")
    assert opened(f"{trained}/run", cpu).config.evaluation.truncation == 0.25
    it = opened(f"{trained}/run", cpu, {"evaluation.truncation": "0.5", "samples": "3"})
    assert it.config.evaluation.truncation == 0.5
    with pytest.raises(UserError, match="the prepared images are not there: give paths.prepared=FOLDER"):
        opened(f"{trained}/run", cpu, {"paths.prepared": "/nowhere"})


def test_by_default_beside_the_run(trained: Path) -> None:
    told = contribute(values_of(f"checkpoint={trained}/run/checkpoints/step-00000002.safetensors", "samples=1"))
    assert (trained / "run/analysis/layer_lpips-step-00000002-zeroed-efficientnet-lite0.csv").is_file()
    assert told[0].startswith("run, step 2 (MNG: exponential)\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["removal=half"], "removal='half' is unknown: choose one of zeroed, cumulative"),
        (["distance=ssim"], "distance='ssim' is unknown"),
        (["checkpoints=some"], "checkpoints='some' is unknown: choose one of last, all"),
        (["samples=many"], "samples='many' is no whole number"),
        (["samples=0"], "samples=0 must be at least 1"),
        (["classes=1,"], "classes='' is no whole number"),
        (["classes=2"], "classes=2: there are classes 0 to 1"),
        (["batch=0"], "batch=0 must be at least 1"),
        (
            ["evaluation.truncation=much"],
            "evaluation.truncation=much: Value 'much' of type 'str' could not be converted",
        ),
        (["checkpoint=x.pt"], "checkpoint= and run= are both given"),
        (["against=/nowhere"], "/nowhere: no such file or folder"),
    ],
)
def test_mistakes_are_one_line(trained: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        contribute(values_of(*run_of(trained, tmp_path), *arguments))
    assert "\n" not in str(error.value)


def test_all_checkpoints_are_those_of_a_run(trained: Path) -> None:
    file = trained / "run/checkpoints/step-00000002.safetensors"
    with pytest.raises(UserError, match=r"has no checkpoints/step-\*.safetensors: give a run's folder"):
        contribute(values_of(f"checkpoint={file}", "checkpoints=all"))


@pytest.mark.parametrize(
    ("argument", "message"), [("runs=/nowhere", "holds no finished run"), ("model.size=S", "is not understood")]
)
def test_mistakes_end_the_command(
    argument: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        typed_in(monkeypatch, argument)
    told = capsys.readouterr().err
    assert (end.value.code, told.count("\n")) == (2, 1)
    assert message in told


def test_rows_of_a_checkpoint_are_the_commands(trained: Path, tmp_path: Path) -> None:
    contribute(values_of(*run_of(trained, tmp_path), "seed=3"))
    table = pd.read_csv(next(tmp_path.glob("*.csv")))
    it, distance = (
        opened(f"{trained}/run", torch.device("cpu")),
        load_distance("efficientnet-lite0", torch.device("cpu")),
    )
    rows = rows_of_checkpoint(it, samples=4, seed=3, distance=distance)
    assert list(rows[0]) == list(table.columns[2:])
    assert pd.DataFrame(rows)["raw"].tolist() == pytest.approx(table["raw"].tolist())
