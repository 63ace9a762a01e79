"""analysis/discriminator_cknna.py as a user types it: its numbers are those of analysis/alignment.py."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from analysis.alignment import BlockAlignment, block_alignment, real_teacher_features, teacher_called
from analysis.discriminator_cknna import Series, main, measure, rows_of_checkpoint, save_figure
from analysis.opening import opened
from gat.errors import UserError
from gat.objective.adversarial import TeacherTokens
from gat.teachers import Teacher

OFFLINE = ("teacher=efficientnet-lite0", "samples=16", "k=5")


def values_of(*arguments: str) -> dict[str, str]:
    return {name: value for name, _, value in (argument.partition("=") for argument in arguments)}


def test_as_typed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["discriminator_cknna.py", f"runs={trained}", f"out={tmp_path}", *OFFLINE])
    main()
    stem = "discriminator_cknna-step-00000004-efficientnet-lite0"
    assert {file.name for file in tmp_path.iterdir()} == {f"{stem}.{kind}" for kind in ("csv", "json", "png", "pdf")}
    table = pd.read_csv(tmp_path / f"{stem}.csv")
    cpu = torch.device("cpu")
    teacher = teacher_called("efficientnet-lite0", cpu)
    expected = block_alignment(opened(f"{trained}/run", cpu), teacher, samples=16, seed=0, k=5)
    for side in ("real", "fake"):
        assert table[side].tolist() == pytest.approx([getattr(one, side) for one in expected], abs=1e-6)
    facts = json.loads((tmp_path / f"{stem}.json").read_text())
    assert (facts["samples"], facts["k"], facts["seed"]) == (16, 5, 0)
    assert facts["teacher"]["name"] == "tf_efficientnet_lite0"
    assert f"{table['real'][7]:.4f}" in capsys.readouterr().out


def test_over_training(trained: Path, tmp_path: Path) -> None:
    told = measure(values_of(f"run={trained}/run", f"out={tmp_path}", "checkpoints=all", *OFFLINE))
    (file,) = tmp_path.glob("*.csv")
    table = pd.read_csv(file)
    assert file.stem == "discriminator_cknna-all-efficientnet-lite0"
    assert table["step"].tolist() == [2] * 8 + [4] * 8
    assert table["block"].tolist() == 2 * list(range(8))
    assert told[0].startswith("run, step 2\n")
    assert f"{table['real'][:8].mean():.4f}" in told[0].splitlines()[-1]
    facts = json.loads(file.with_suffix(".json").read_text())
    assert [one["generator"]["step"] for one in facts["checkpoints"]] == [2, 4]
    assert Image.open(file.with_suffix(".png")).size == (1800, 570)


def test_means_by_hand() -> None:
    series = Series("run", 1, [BlockAlignment(0, 0.1, 0.4), BlockAlignment(1, 0.3, 0.2)], {}, Path())
    assert (series.mean("real"), series.mean("fake")) == pytest.approx((0.2, 0.3))


def test_the_figure_of_one_checkpoint(tmp_path: Path) -> None:
    series = Series("run", 1000, [BlockAlignment(0, 0.1, 0.4), BlockAlignment(1, 0.3, -0.2)], {}, tmp_path)
    files = save_figure([series], "CKNNA", tmp_path / "figure")
    assert [file.name for file in files] == ["figure.png", "figure.pdf"]
    assert Image.open(files[0]).size == (1200, 570)


def test_a_teacher_that_cannot_be_had(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DINOv2-g is the default, and the line says what to type where it is not there."""

    def no_network(name: str, *_: object) -> None:
        raise UserError(f"weights of {name} cannot be had")

    monkeypatch.setattr("analysis.discriminator_cknna.teacher_called", no_network)
    with pytest.raises(
        UserError, match="weights of dinov2-g cannot be had .*: weights=FILE or teacher=efficientnet-lite0"
    ):
        measure(values_of(f"run={trained}/run", f"out={tmp_path}", "samples=16", "k=5"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["teacher=clip"], "teacher='clip' is unknown: choose one of dinov2-g, efficientnet-lite0"),
        (["checkpoints=some"], "checkpoints='some' is unknown: choose one of last, all"),
        (["k=16"], "k=16 must lie between 2 and samples-1 = 15"),
        (["k=none"], "k='none' is no whole number"),
        (["samples=17"], "samples=17 are more than the 16 images of .*: use fewer"),
        (["weights=/nowhere"], "weights=/nowhere: no such file"),
        (["checkpoint=x.pt"], "checkpoint= and run= are both given"),
    ],
)
def test_mistakes_are_one_line(trained: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        measure(values_of(f"run={trained}/run", f"out={tmp_path}", *OFFLINE, *arguments))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the images that the teacher is shown, call by call."""
    calls: list[int] = []
    ask = Teacher.__call__

    def asked(teacher: Teacher, images: torch.Tensor) -> TeacherTokens:
        calls.append(len(images))
        return ask(teacher, images)

    monkeypatch.setattr(Teacher, "__call__", asked)
    return calls


def test_the_teacher_sees_the_real_images_once(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checkpoints of each of two runs over the same prepared set: real once, fake four times."""
    calls = counted(monkeypatch)
    arguments = (f"run={trained}/run", f"against={trained}/run", "checkpoints=all", f"out={tmp_path}")
    measure(values_of(*arguments, *OFFLINE))
    assert [count for count in calls if count > 1] == 5 * [16]  # one image alone tells the width of its tokens
    (file,) = tmp_path.glob("*.csv")
    table = pd.read_csv(file)
    assert file.stem == "discriminator_cknna-all-efficientnet-lite0-against-run"
    assert table["step"].tolist() == 2 * ([2] * 8 + [4] * 8)
    assert table[:16].equals(table[16:].reset_index(drop=True))


def test_features_that_are_known_change_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    it, teacher = opened(f"{trained}/run", cpu), teacher_called("efficientnet-lite0", cpu)
    how: dict[str, Any] = {"samples": 16, "seed": 1, "k": 5}
    known = real_teacher_features(it, teacher, samples=16, seed=1)
    calls = counted(monkeypatch)
    own = rows_of_checkpoint(it, teacher, **how)
    assert len(calls) == 2
    assert rows_of_checkpoint(it, teacher, **how, real_features=known) == own  # to the last bit
    assert len(calls) == 3
    assert [row["block"] for row in own] == list(range(8))
    assert list(own[0]) == ["block", "real", "fake"]
    other = real_teacher_features(it, teacher, samples=16, seed=2)
    assert rows_of_checkpoint(it, teacher, **how, real_features=other) != own
    with pytest.raises(UserError, match="features of 16 and of 12 images"):
        rows_of_checkpoint(it, teacher, **how, real_features=known[:12])
    with pytest.raises(UserError, match="samples=17 are more than the 16 images of .*: use fewer"):
        real_teacher_features(it, teacher, samples=17, seed=1)


def test_two_runs_without_training_curves(trained: Path, tmp_path: Path) -> None:
    """Of one checkpoint each there is nothing to show over training."""
    measure(values_of(f"run={trained}/run", f"against={trained}/run", f"out={tmp_path}", *OFFLINE))
    (file,) = tmp_path.glob("*.png")
    assert file.stem == "discriminator_cknna-step-00000004-efficientnet-lite0-against-run"
    assert Image.open(file).size == (1200, 570)
