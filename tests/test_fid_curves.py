"""Curves over training: means, where they end, divergences, the paper's curves, and the command."""

import json
from pathlib import Path

import matplotlib.image
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.curves import LOST, divergences, draw_curves, mean_of
from analysis.fid_curves import draw, table_of_run
from analysis.style import PAPER_COLOR, panels
from analysis.tables import Table, read_table
from gat.errors import UserError
from gat.evaluation.protocol import Protocol
from tests.made_up import PROTOCOL, claim_of, run_rows, write_results
from tests.submissions import numbers_line
from tests.test_paper import TRAINING

ROWS = [
    *run_rows("S", 0, {100: 40.0, 200: 20.0}),
    *run_rows("S", 1, {100: 60.0, 200: 30.0}),
    *run_rows("B", 0, {100: 30.0, 200: 15.0, 300: 12.0}),
    *run_rows("B", 1, {100: 32.0, 200: 17.0}, diverged_step=150),
    *run_rows("B_at_rate_of_S", 0, {}, diverged_step=50),
]
CLAIM = claim_of("lr_crosscheck") | {"seeds": 1}


def table_of(folder: Path, protocol: Protocol = PROTOCOL, study: str = "mini") -> Table:
    rows = [row | {"protocol": protocol.id if row["distance"] else None} for row in ROWS]
    write_results(folder, "lr_crosscheck", rows, study=study, protocol=protocol, claim=CLAIM)
    return read_table(folder, study, "lr_crosscheck")


def drawn(table: Table, **how: object) -> Axes:
    _, (axes,) = panels(1)
    draw_curves(axes, table, **how)  # type: ignore[arg-type]
    return axes


def labelled(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}


def test_the_mean_is_arithmetic_and_over_images_seen(tmp_path: Path) -> None:
    line = labelled(drawn(table_of(tmp_path)))["S"]
    assert list(line.get_xdata()) == [6400, 12800]  # type: ignore[arg-type]
    assert list(line.get_ydata()) == [50.0, 25.0]  # type: ignore[arg-type]


def test_the_mean_ends_where_a_seed_diverged(tmp_path: Path) -> None:
    """At step 200 both seeds of B have a number, but one had begun to diverge; at 300 one has none."""
    mean = mean_of(table_of(tmp_path), "B", "step")
    assert list(mean.items()) == [(100, 31.0)]


def test_a_seed_lost_before_its_first_evaluation_leaves_no_mean(tmp_path: Path) -> None:
    rows = [*run_rows("S", 0, {100: 40.0}), *run_rows("S", 1, {}, diverged_step=10)]
    write_results(tmp_path, "mng", rows)
    assert mean_of(read_table(tmp_path, "mini", "mng"), "S").empty


def test_divergences_are_marked_where_they_began(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    assert divergences(table, "B") == {1: 150 * 64}
    assert divergences(table, "B", "step") == {1: 150}
    assert divergences(table, "S") == {}
    axes = drawn(table)
    crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]  # type: ignore[arg-type]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in crosses] == [  # type: ignore[index]
        (150 * 64, 32.0),  # at the last distance before it, not at the one after
        (50 * 64, 0.98),  # none: at the upper edge
    ]
    assert LOST in labelled(axes)
    assert LOST not in labelled(drawn(table, arms=["S"]))


def test_the_axis_has_the_distance_s_own_name(tmp_path: Path) -> None:
    axes = drawn(table_of(tmp_path))
    assert axes.get_ylabel() == "FD-EfficientNetLite0-2K"
    assert axes.get_yscale() == "log"


def test_the_paper_stands_beside_an_equal_protocol_alone(tmp_path: Path) -> None:
    beside = labelled(drawn(table_of(tmp_path / "a", TRAINING, "imagenet256"), x="step"))
    curve = beside["paper, S/2 (FID-5K, project page)"]
    assert (curve.get_color(), curve.get_linestyle()) == (PAPER_COLOR, "--")
    assert list(curve.get_ydata())[0] == 53.5  # type: ignore[arg-type] # noqa: RUF015
    assert list(curve.get_xdata())[0] == 10_000  # type: ignore[arg-type] # noqa: RUF015
    for other in (
        drawn(table_of(tmp_path / "b", PROTOCOL, "imagenet256")),
        drawn(table_of(tmp_path / "c", TRAINING, "mini")),
        drawn(table_of(tmp_path / "d", TRAINING, "imagenet256"), paper=False),
        drawn(table_of(tmp_path / "e", TRAINING, "imagenet256"), arms=["S_at_rate_of_B"]),
    ):
        assert not [label for label in labelled(other) if "paper" in label]


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    for step, told in ((10, "every run diverged"), (None, "no distance was measured")):
        write_results(tmp_path, "mng", run_rows("none", 0, {}, diverged_step=step))
        axes = drawn(read_table(tmp_path, "mini", "mng"))
        assert [text.get_text() for text in axes.texts] == [told]


def test_the_command_on_a_sweep(tmp_path: Path) -> None:
    table_of(tmp_path)
    told = draw({"sweep": "lr_crosscheck", "results": str(tmp_path), "x": "step", "arms": "S;B"})
    stem = tmp_path / "mini" / "figures" / "fid_curves-lr_crosscheck"
    assert told == [f"{stem}.png", f"{stem}.pdf"]
    assert matplotlib.image.imread(f"{stem}.png").std() > 0
    assert Path(f"{stem}.pdf").read_bytes().startswith(b"%PDF")


def test_missing_runs_are_named_or_printed(tmp_path: Path) -> None:
    write_results(tmp_path, "lr_crosscheck", ROWS, missing=["S_at_rate_of_B, seed 2"], claim=CLAIM)
    asked = {"sweep": "lr_crosscheck", "results": str(tmp_path)}
    with pytest.raises(UserError, match="S_at_rate_of_B, seed 2.*allow_partial=true"):
        draw(asked)
    assert not (tmp_path / "mini" / "figures").exists()
    assert len(draw(asked | {"allow_partial": "true"})) == 2


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"sweep": "mng"}, "there is no such table"),
        ({"sweep": "lr_crosscheck", "arms": "S;T"}, "arms=T: lr_crosscheck has S, B"),
        ({"sweep": "lr_crosscheck", "x": "hours"}, "x='hours'"),
        ({"sweep": "lr_crosscheck", "allow_partial": "yes"}, "allow_partial='yes'"),
        ({"sweep": "lr_crosscheck", "run": "runs/x"}, "run= and sweep= are both given"),
        ({"sweep": "lr_crosscheck", "checkpoint": "runs/x"}, "checkpoint= and sweep= are both given"),
        ({"run": "runs/x", "checkpoint": "runs/x"}, "both given"),
        ({"checkpoint": "model.pt"}, "checkpoint=model.pt: lies in no run's folder"),
        ({"runs": "."}, "holds no finished run"),
        ({"run": "mini"}, "no evaluation"),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], told: str) -> None:
    table_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=told):
        draw({"results": str(tmp_path)} | values)


def run_folder(runs: Path, name: str, ended_at: str, distances: dict[int, float], **record: object) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    lines = [
        {"step": step, "images": step * 8} | numbers_line({"FD-x-1K": value}, PROTOCOL.id)
        for step, value in distances.items()
    ]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [{"step": 1, "images": 8}, *lines])
    )
    head = {"identity": "x", "status": "finished", "seed": 0, "diverged": None, "ended_at": ended_at}
    head["final_metrics"] = lines[-1]
    (folder / "record.json").write_text(json.dumps(head | record))
    return folder


def test_the_command_on_the_newest_run(tmp_path: Path) -> None:
    run_folder(tmp_path, "old", "2026-01-01T00:00:00", {10: 500.0})
    new = run_folder(tmp_path, "new", "2026-01-02T00:00:00", {10: 400.0, 20: 300.0})
    told = draw({"runs": str(tmp_path)})
    assert told == [
        "FD-x-1K 300 at step 20",
        *(str(new / "analysis" / f"fid_curves.{kind}") for kind in ("png", "pdf")),
    ]
    assert all(Path(file).stat().st_size > 1000 for file in told[1:])


def test_a_diverged_run_can_be_asked_for(tmp_path: Path) -> None:
    lost = {"status": "diverged", "diverged": {"step": 15, "reason": "nan"}}
    folder = run_folder(tmp_path, "lost", "2026-01-01T00:00:00", {10: 500.0}, **lost)
    assert draw({"run": str(folder)})[0] == "FD-x-1K 500 at step 10"


@pytest.mark.parametrize("named", ["", "checkpoints/step-20.safetensors"])
def test_a_checkpoint_stands_for_its_run(tmp_path: Path, named: str) -> None:
    run = run_folder(tmp_path, "run", "2026-01-02T00:00:00", {10: 400.0, 20: 300.0})
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step-20.safetensors").touch()
    told = draw({"checkpoint": str(run / named)})
    assert told[:2] == ["FD-x-1K 300 at step 20", str(run / "analysis" / "fid_curves.png")]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: there is no such run"):
        table_of_run(tmp_path / "gone")
