"""Measure speed on this machine: ``python experiments/benchmark.py KIND [field=value] ...``.

``data``: samples per second that a worker process makes and reads, and how many workers a GPU needs.
``step study=mini model.size=S``: a training step's speed, FLOPs, share of the device's rate, memory, and where its time goes;
``benchmark.release=FOLDER``, a checkout of the authors' release, also measures the release's own step.
``release study=nano benchmark.release=FOLDER objective.alignment_weight=0``: trains with both codes, compares distances.
``evaluation study=mini evaluation.samples=50000``: images per second sampled and measured, and where the time goes.
``costs study=imagenet256``: device-hours of every claim, at measured rates where there are some.
"""

import sys
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.exits import exits, hydra_command
from experiments.settings import BenchmarkConfig, group, run_config, surroundings
from gat.errors import UserError
from gat.training.check import check

KINDS = ("data", "step", "release", "evaluation", "costs")

kind = ""


@hydra_command
def measure(settings: DictConfig) -> None:
    """Measure; a mistake of the user's is one line and exit code 2."""
    from experiments.benchmarks.costs import benchmark_costs
    from experiments.benchmarks.data import benchmark_data  # seconds of imports
    from experiments.benchmarks.evaluation import benchmark_evaluation
    from experiments.benchmarks.release_run import compare_training
    from experiments.benchmarks.step import benchmark_step

    chosen: BenchmarkConfig = group(settings, "benchmark")
    if kind == "data":
        benchmark_data(run_config(settings), chosen)
    elif kind == "costs":
        typed = list(HydraConfig.get().overrides.task)
        benchmark_costs(lambda overrides: compose("config", overrides=[*typed, *overrides]), Path(chosen.out))
    else:
        config, study = run_config(settings), surroundings(settings).study
        check(config)
        typed = [kind, *HydraConfig.get().overrides.task]
        if kind == "release":
            compare_training(config, chosen.release, study.name, Path(chosen.out), typed)
        elif kind == "step":
            benchmark_step(config, chosen, study, typed)
        else:
            benchmark_evaluation(config, chosen, group(settings, "measure"), study, typed)


def main() -> None:
    """Take the kind of benchmark off the command line; the rest is Hydra's."""
    with exits():
        if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
            given = sys.argv[1] if len(sys.argv) > 1 else ""
            raise UserError(f"{given!r} is no benchmark: type one of {', '.join(KINDS)} after benchmark.py")
    global kind  # hydra calls measure() with the settings alone
    kind = sys.argv.pop(1)
    measure()


if __name__ == "__main__":
    main()
