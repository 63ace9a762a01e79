"""How commands end."""

import sys
from pathlib import Path

import pytest

import experiments.run
from experiments.exits import exits


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exits():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped: by Ctrl-C; files already written are complete\n"


def line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that run.py prints for a mistake, with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        experiments.run.main()
    output, errors = capfd.readouterr()
    assert (ended.value.code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("error: ")
    return errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("trainin.batch_size=3", "'trainin.batch_size'; Key 'trainin' not in"),
        ("-m training.batchsize=3", "'training.batchsize'; Key 'batchsize' not in 'TrainingConfig': --cfg job shows"),
        ("++training.foo=1", "training.foo: Key 'foo' not in"),
        (
            "training.batch_size=abc",
            "training.batch_size=abc; Value 'abc' of type 'str' could not be converted to Integer",
        ),
        ("-m training.seed=0,abc launch.to=local", "training.seed=abc; Value 'abc'"),
        ("training.seed=0,1", "training.seed=0,1"),
        ("training.batch_size=null", "'training.batch_size' is not Optional"),
        ("model=huge", "'model/huge'; Available options in 'model': gat, mini"),
        ("training.batch_size", "Error parsing override 'training.batch_size'; missing EQUAL"),
        ("sample.classes=[1", "[1"),
    ],
)
def test_mistakes_that_hydra_meets_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: str, said: str
) -> None:
    assert said in line(monkeypatch, capfd, *arguments.split())


@pytest.mark.parametrize(
    ("text", "said"), [("gpu_per_node: 4", "Key 'gpu_per_node' not in 'ClusterConfig'"), ("setup: [", "mysite.yaml")]
)
def test_mistakes_in_a_file_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/mysite.yaml").write_text(f"defaults: [default]\n{text}\n")
    assert said in line(monkeypatch, capfd, "--config-dir", str(tmp_path), "cluster=mysite")
