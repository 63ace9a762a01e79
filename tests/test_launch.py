"""What happens at submission, before any job runs: planning, freezing, the dry run, and what is refused."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import open_dict

import experiments.run
from experiments.settings import ClusterConfig, StudyConfig, surroundings
from experiments.study import local, slurm
from experiments.study.jobs import RunJob, read_config
from experiments.study.launch import base_of, launcher_of
from experiments.study.plan import plan
from experiments.study.queue_state import process_mark
from experiments.study.submission import Entry, Submission, read_submissions
from gat.errors import UserError
from gat.training.run_identity import identity
from tests.golden.update import composed
from tests.small_sweep import SMALL_STUDY
from tests.submissions import numbers_line, write_run

Run = tuple[int | str | None, str, str]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> "Command":
    """The command in an empty folder, with a queue that starts nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "is_here", lambda: False)
    started: list[Submission] = []
    monkeypatch.setattr(local, "start_queue", lambda submission, *_, **__: started.append(submission))
    return Command(monkeypatch, capfd, started)


class Command:
    """``run.py -m`` with small settings; ``started``: submissions whose queue was started."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], started: list[Submission]
    ) -> None:
        self.monkeypatch, self.capfd, self.started = monkeypatch, capfd, started

    def __call__(self, *overrides: str) -> Run:
        """Exit code, standard output, standard error."""
        self.monkeypatch.setattr(sys, "argv", ["run.py", "-m", *SMALL_STUDY, *overrides])
        code: int | str | None = 0
        try:
            experiments.run.main()
        except SystemExit as stopped:
            code = stopped.code
        return code, *self.capfd.readouterr()


def test_submission_lists_every_run_with_its_frozen_configuration(typed: Command, tmp_path: Path) -> None:
    code, output, _ = typed("sweep=lr_crosscheck")
    assert code == 0
    assert "4 runs, 4 submitted" in output
    assert "python experiments/status.py sweep=lr_crosscheck study=mini" in output
    (submission,) = typed.started
    assert read_submissions(tmp_path / "runs") == [submission]
    assert [entry.arm for entry in submission.entries] == ["S", "B", "S_at_rate_of_B", "B_at_rate_of_S"]
    assert submission.claim is not None
    assert submission.claim["id"] == "lr_crosscheck"
    assert submission.git.keys() == {"commit", "dirty"}
    for entry in submission.entries:
        config = read_config(submission.config_file(entry.index))
        assert identity(config) == entry.identity
        assert Path(config.paths.runs).is_absolute()
    assert read_config(submission.config_file(3)).optim.lr_width_of == "S"
    assert not list((tmp_path / "runs").glob("image*"))  # nothing ran


def test_follow_up_commands_can_be_pasted_into_a_shell(typed: Command) -> None:
    runs = "my runs; $HOME/it's"
    _, output, _ = typed("sweep=repa", f'paths.runs="{runs}"', "sweep.name=a b")
    said = [line for line in output.splitlines() if line.startswith(("progress", "results"))]
    assert [shlex.split(line)[1:] for line in said] == [
        ["python", f"experiments/{name}.py", "sweep=a b", "study=mini", f"runs={Path(runs).absolute()}"]
        for name in ("status", "collect")
    ]


def test_some_arms_of_a_sweep_are_the_same_sweep(typed: Command) -> None:
    assert typed("sweep=lr_crosscheck", "launch.arms=[B_at_rate_of_S,S]")[0] == 0
    assert typed("sweep=lr_crosscheck")[0] == 0
    some, whole = typed.started
    assert [entry.arm for entry in some.entries] == ["S", "B_at_rate_of_S"]
    assert some.base == whole.base
    assert {entry.identity for entry in some.entries} < {entry.identity for entry in whole.entries}


def test_a_configuration_of_another_version_is_told(typed: Command) -> None:
    typed("sweep=repa")
    file = typed.started[0].config_file(0)
    file.write_text(file.read_text().replace("clip_norm:", "klip_norm:"))
    with pytest.raises(
        UserError, match=r"0\.yaml: not a configuration of this version .*klip_norm.*: submit the sweep again"
    ):
        read_config(file)


def test_dry_run_writes_nothing_and_tells_all(typed: Command, tmp_path: Path) -> None:
    code, output, _ = typed("sweep=lr_crosscheck", "launch.dry_run=true", "cluster.sustained_tflops=0.001")
    assert code == 0
    assert not list(tmp_path.iterdir())
    assert not typed.started
    assert "training.batch_size: 64 -> 4" in output
    assert "B_at_rate_of_S: model.size=B, optim.lr_width_of=S" in output
    assert "not run" in output
    assert "device-hours at 0.001 TFLOP/s per device" in output
    assert output.strip().endswith("dry run: nothing was submitted")


def test_runs_are_made_once(typed: Command) -> None:
    point = [*SMALL_STUDY, "sweep.arm=a"]
    assert len(plan([point, [*point, "training.log_steps=7"]], composed)) == 1  # without effect on the result
    assert len(plan([point, [*point, "optim.beta1=0.5"]], composed)) == 2


def test_arms_that_do_not_differ_are_refused() -> None:
    points = [[*SMALL_STUDY, f"sweep.arm={arm}"] for arm in "ab"]
    with pytest.raises(UserError, match="arms 'a' and 'b' are the same run"):
        plan(points, composed)


def test_submissions_of_the_same_settings_belong_together(typed: Command) -> None:
    def base(*overrides: str) -> str:
        typed("sweep=model_size", *overrides)
        return typed.started[-1].base

    whole = base("training.seed=0,1")
    assert base("training.seed=2", "model.size=S,B") == whole  # more seeds, fewer points
    assert base("model.size=B") == whole
    assert base("study.evaluations.final=training") != whole  # reaches the runs through the sweep alone
    assert base("optim.beta1=0.5") != whole


def test_settings_that_change_no_result_do_not_make_another_sweep() -> None:
    def base(sweep: str, **common: object) -> str:
        settings = composed([f"sweep={sweep}", "study=mini"])
        with open_dict(settings):
            for name, value in common.items():
                settings.sweep.common[f"training.{name}"] = value
        return base_of(settings)

    assert base("mng", keep_steps=100) == base("mng", log_steps=5) == base("mng")
    assert base("mng", precision="bf16") != base("mng")
    assert base("update_size", keep_checkpoints=True) == base("update_size")
    assert base("update_size", log_steps=5) != base("update_size")  # its claim is about logged steps


def leave(entry: Entry, evaluation: str | None = None) -> None:
    """Write the folder of an ended run, measured by the entry's evaluation unless another is given."""
    final = {"step": 4} | numbers_line({"FD-x-8": 1.0}, evaluation=evaluation or entry.evaluation)
    write_run(Path(entry.run_folder), [final], {"identity": entry.identity, "status": "finished"})


def test_a_run_that_another_sweep_measured_otherwise_is_submitted_again(typed: Command) -> None:
    typed("sweep=repa")
    for entry in typed.started[0].entries:
        leave(entry, "another")
    typed("sweep=repa", "evaluation.truncation=0.5")
    first, second = typed.started
    assert [entry.run_folder for entry in first.entries] == [entry.run_folder for entry in second.entries]
    assert {entry.evaluation for entry in first.entries} != {entry.evaluation for entry in second.entries}
    assert all(entry.submitted for entry in second.entries)


def test_left_alone_but_without_the_checkpoints_to_keep(typed: Command, tmp_path: Path) -> None:
    typed("sweep=repa")
    for entry in typed.started[0].entries:
        leave(entry)
        Path(entry.run_folder, "checkpoints").mkdir()
    keep = ("training.keep_steps=2", "sweep=repa")
    _, output, _ = typed(*keep)
    assert output.count("left alone: finished (without all the checkpoints to keep)") == 2
    for entry in typed.started[0].entries:
        for step in (2, 4):
            Path(entry.run_folder, f"checkpoints/step-{step:08d}.safetensors").touch()
    _, output, _ = typed(*keep)
    assert output.count("left alone: finished  ") == 2


def test_left_alone_in_a_queue_that_will_not_keep_the_checkpoints(typed: Command) -> None:
    """The job that is under way was frozen without them."""
    typed("sweep=repa")
    queue = typed.started[0].folder / "queue.json"
    queue.write_text(json.dumps({"process": process_mark(os.getpid())}))
    _, output, _ = typed("sweep=repa", "training.keep_steps=2")
    assert output.count("left alone: queued (without all the checkpoints to keep)") == 2
    _, output, _ = typed("sweep=repa")
    assert output.count("left alone: queued  ") == 2


def test_left_alone_without_the_last_checkpoint(typed: Command) -> None:
    """The sweep that made the runs kept none; one that asks for diagnostics wants it."""
    typed("sweep=repa", "training.keep_steps=null", "training.keep_checkpoints=false")
    for entry in typed.started[0].entries:
        leave(entry)
    _, output, _ = typed("sweep=repa", "training.keep_steps=null")
    assert output.count("left alone: finished (without all the checkpoints to keep)") == 2
    _, output, _ = typed("sweep=repa", "training.keep_steps=null", "training.keep_checkpoints=false")
    assert output.count("left alone: finished  ") == 2


def test_what_diagnostics_are_to_measure_is_frozen(typed: Command) -> None:
    typed("sweep=mng", "study.diagnostics.samples=7")
    frozen = read_submissions(typed.started[0].folder.parents[3])[0].diagnostics
    assert frozen is not None
    assert frozen["samples"] == 7


def test_mistakes_are_told_before_anything_is_submitted(
    typed: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*overrides: str) -> str:
        code, _, errors = typed(*overrides)
        assert code == 2
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        return errors

    assert "model size 'XS' is unknown" in answer("sweep=repa", "model.size=XS")
    assert "paths.run=here cannot hold many runs" in answer("sweep=repa", "paths.run=here")
    assert "launch.to=slurm, but this machine has no sbatch" in answer("sweep=repa", "launch.to=slurm")
    assert "training.batch_size=4 is not divisible by 3 processes" in answer("sweep=repa", "study.processes=3")
    assert "launch.to='cloud' is unknown" in answer("sweep=repa", "launch.to=cloud")
    assert "study.effect=1.0000001 at study.scatter=0.18 takes more than 10000 seeds: raise study.effect" in answer(
        "sweep=mng", "study.effect=1.0000001", "study.scatter=0.18"
    )
    assert "error: study.effect=nan must be finite and above 1" in answer("sweep=mng", "study.effect=nan")
    assert "study.scatter=-1.0 must be above 0" in answer("sweep=mng", "study.scatter=-1")
    assert "sweep.claim.seeds=0 must be at least 1" in answer("sweep=mng", "sweep.claim.seeds=0")
    assert "launch.local_jobs=0 must be at least 1" in answer("sweep=repa", "launch.local_jobs=0")
    monkeypatch.setattr(local, "visible_gpus", lambda: [0])
    two = ("sweep=repa", "study.on_gpu=true", "launch.local_jobs=2")
    assert "launch.local_jobs=2 of study.processes=1 needs 2 GPUs, but there are 1 here" in answer(*two)
    assert "a sweep divides 10 by 4, which leaves a rest" in answer("sweep=batch_rule", "study.total_steps=10")
    for setting in ("study.processes", "study.cpus_per_process", "cluster.cpus_per_task", "cluster.sustained_tflops"):
        assert f"{setting}=0" in answer("sweep=repa", f"{setting}=0")
        assert f"{setting}=0" in answer("sweep=repa", f"{setting}=0", "launch.dry_run=true")
    assert "cluster.sustained_tflops=nan must be" in answer("sweep=repa", "cluster.sustained_tflops=nan")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("setting", ["paths.runs=10%subset", "study.name=50%j", "sweep.name=a%tb"])
def test_a_percent_sign_in_a_path_of_logs_is_refused(typed: Command, tmp_path: Path, setting: str) -> None:
    """sbatch and submitit would replace it, and the job's log and result would be written elsewhere."""
    code, _, errors = typed("sweep=repa", setting)
    assert code == 2
    assert setting.partition("=")[2] in errors
    assert "without %" in errors
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"]
    assert not typed.started


def test_a_sweep_without_m_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "sweep=mng", "study=mini"])
    with pytest.raises(SystemExit):
        experiments.run.main()
    assert "sweep=mng has many runs: add -m" in capfd.readouterr().err


def test_slurm_where_there_is_sbatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "is_here", lambda: True)
    assert (launcher_of("auto"), launcher_of("local")) == ("slurm", "local")


def shape(processes: int, gpus_per_node: int, *, on_gpu: bool = True, **values: Any) -> dict[str, Any]:
    settings = composed(["study=cifar10", "data.root=/images"])
    study = dict(settings.study) | {"processes": processes, "on_gpu": on_gpu}
    cluster = dict(settings.cluster) | {"gpus_per_node": gpus_per_node}
    for name, value in values.items():
        (study if name in study else cluster)[name] = value
    return slurm.resources(StudyConfig(**study), ClusterConfig(**cluster))


def study_with(study: str, **values: object) -> StudyConfig:
    return StudyConfig(**dict(composed([f"study={study}", "data.root=/images"]).study) | values)


def test_as_many_local_jobs_as_the_machine_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    def jobs(study: str, **values: object) -> int:
        return local.fitting_jobs(study_with(study, **values))

    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert (jobs("mini"), jobs("mini", processes=3), jobs("none"), jobs("cifar10")) == (8, 2, 1, 4)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert jobs("none") == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert local.visible_gpus() == [2, 3]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert local.visible_gpus() == [0, 1, 2, 3]
    assert jobs("imagenet256") == 1  # eight processes on four GPUs: the run itself says what is missing


def test_threads_of_a_local_process_do_not_depend_on_who_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    assert [local.threads_of(study_with("mini"), width) for width in (1, 8)] == [1, 1]
    assert local.threads_of(study_with("mini", cpus_per_process=16), 1) == 8  # no more than there are
    assert [local.threads_of(study_with("none", processes=2), width) for width in (1, 2, 9)] == [4, 2, 1]


def test_a_task_per_gpu() -> None:
    day = {"timeout_min": 1440}
    assert shape(8, 8) == {"nodes": 1, "tasks_per_node": 8, "gpus_per_node": 8} | day
    assert shape(16, 4) == {"nodes": 4, "tasks_per_node": 4, "gpus_per_node": 4} | day
    assert shape(2, 8) == {"nodes": 1, "tasks_per_node": 2, "gpus_per_node": 2} | day
    assert shape(3, 8, on_gpu=False) == {"nodes": 1, "tasks_per_node": 3} | day
    assert shape(3, 8, on_gpu=False, cpus_per_process=2, mem_gb=4)["cpus_per_task"] == 2
    assert shape(8, 8, mem_gb=0)["mem_gb"] == 0  # to SLURM, the node's whole memory
    study = StudyConfig(**dict(composed(["study=mini"]).study))
    assert study.mem_gb == 4
    whole = ClusterConfig(**dict(composed([]).cluster) | {"mem_gb": 0, "cpus_per_task": 3})
    assert slurm.resources(study, whole)["mem_gb"] == 0
    assert slurm.resources(study, whole)["cpus_per_task"] == 3
    with pytest.raises(UserError, match="study.processes=9 do not spread evenly over 2 nodes"):
        shape(9, 8)
    with pytest.raises(UserError, match="cluster.gpus_per_node=0"):
        shape(1, 0)


@pytest.fixture
def sbatch_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function from overrides to the options that sbatch would get for eight GPUs."""
    for name in ("sbatch", "srun"):
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/script\necho Submitted batch job 7\n')
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def options(*overrides: str) -> list[str]:
        settings = composed(["study=cifar10", "data.root=/images", "study.processes=8", *overrides])
        around = surroundings(settings)
        parameters = {"max_num_timeout": 1, "additional_parameters": around.cluster.additional_parameters}
        job = RunJob(tmp_path / "config", tmp_path / "error")
        assert slurm.submit([job], tmp_path / "logs", parameters, slurm.resources(around.study, around.cluster)) == [
            "7"
        ]
        lines = (tmp_path / "script").read_text().splitlines()
        return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]

    return options


@pytest.mark.parametrize(
    ("option", "asked"),
    [
        ("gpus-per-node", ["--gpus-per-node=8"]),
        ("gpus-per-node:h100", ["--gpus-per-node=h100:8"]),
        ("gres", ["--gres=gpu:8"]),
        ("gres:nvidia_h100_80gb", ["--gres=gpu:nvidia_h100_80gb:8"]),
        ("none", []),
    ],
)
def test_how_a_site_is_asked_for_gpus(sbatch_script: Callable[..., list[str]], option: str, asked: list[str]) -> None:
    assert [one for one in sbatch_script(f"cluster.gpu_option={option}") if "gpu" in one] == asked


def test_any_option_of_sbatch_on_the_command_line(sbatch_script: Callable[..., list[str]]) -> None:
    given = sbatch_script("cluster.additional_parameters={mail-type: FAIL}", "cluster.additional_parameters.hold=true")
    assert "--mail-type=FAIL" in given
    assert "--hold" in given
    with pytest.raises(UserError, match="cluster.gpu_option='gpus' is unknown"):
        sbatch_script("cluster.gpu_option=gpus")


def test_time_limits_as_slurm_writes_them() -> None:
    """The formats are those of sbatch's manual: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS; seconds round up."""
    given = ("90", "90:00", "90:01", "24:00:00", "0:30:30", "1-12", "1-00:30", "1-00:00:00", "2-01:02:03")
    assert [slurm.minutes(limit) for limit in given] == [90, 90, 91, 1440, 31, 2160, 1470, 1440, 2943]
    for limit in ("0", "00:00:00", "-5", "1 day", "1-", "1.5", "UNLIMITED"):
        with pytest.raises(UserError, match=f"cluster.timeout_min={limit} is no time limit"):
            slurm.minutes(limit)
    assert shape(1, 8, timeout_min="1-00:00:00")["timeout_min"] == 1440


def test_refusal_in_sbatchs_own_words() -> None:
    text = "stderr:\nsbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Name"
    assert slurm.refusal(text) == "invalid partition specified: nope; Name"
    assert slurm.refusal("one\nlast line") == "last line"
