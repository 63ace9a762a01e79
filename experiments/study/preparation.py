"""Preparation of data in shards: jobs that divide a set's parts among them."""

import shlex
import shutil
import sys
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.settings import PrepareConfig, Surroundings, group, run_config, surroundings
from experiments.study import slurm
from experiments.study.jobs import Job, read_config
from experiments.study.submission import require_no_pattern
from gat.config import Config
from gat.data.identity import prepared_folder
from gat.errors import UserError
from gat.files import replacing, told
from gat.training.check import check

FOLDER = "prepare"


@dataclass(frozen=True)
class PrepareJob(Job):
    """One shard: parts that no other shard is making, until all are made; then one of them computes the ``statistics``."""

    statistics: bool

    def carry_on(self) -> str:
        """From the parts that are there."""
        from experiments.study.prepare_data import prepare_data  # seconds of imports, which a submission can do without

        prepare_data(read_config(self.config_file), statistics=self.statistics, shard=True)
        return "prepared"


def submit_shards(settings: DictConfig, parameters: dict[str, Any]) -> None:
    """Submit ``prepare.shards`` jobs of one configuration to SLURM, and say where they write.

    ``parameters``: hydra-submitit-launcher's. :class:`UserError` where there is no SLURM, or it refuses.
    """
    config, around = run_config(settings), surroundings(settings)
    check(config)
    asked: PrepareConfig = group(settings, "prepare")
    shards, statistics = asked.shards, asked.statistics
    if asked.action != "make":
        raise UserError(f"prepare.action={asked.action} makes no jobs: leave out -m")
    if around.launch.to == "local" or not slurm.is_here():
        raise UserError(
            "-m makes jobs for SLURM, and there is no sbatch here: leave out -m (loader.workers=N uses N cores; for several "
            "GPUs start it by torchrun --nproc-per-node N)"
        )
    config = replace(config, paths=replace(config.paths, prepared=str(Path(config.paths.prepared).absolute())))
    folder = prepared_folder(config.data, config.autoencoder, Path(config.paths.prepared))
    if around.launch.dry_run:
        print(f"{shards} jobs of {shape(around, config)} would prepare {folder}\ndry run: nothing was submitted")
        return
    require_no_pattern(Path(config.paths.runs).absolute())
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
    place = Path(config.paths.runs).absolute() / FOLDER / folder.name / now
    with told(f"runs folder {config.paths.runs}", "submit again"):
        place.mkdir(parents=True)
        with replacing(place / "config.yaml") as stream:
            stream.write(OmegaConf.to_yaml(OmegaConf.structured(config)).encode())
        jobs = [PrepareJob(place / "config.yaml", place / "errors" / f"{n}.txt", statistics) for n in range(shards)]
        try:
            ids = slurm.submit(jobs, place / "logs", parameters, shape(around, config))
        except BaseException:
            shutil.rmtree(place)
            raise
    own = ("-m", "--multirun", "hydra/launcher=prepare")
    typed = shlex.join(argument for argument in sys.argv[1:] if argument not in own)
    print(f"{shards} shards submitted as jobs {ids[0]} ... {ids[-1]}: {folder}")
    print(f"logs        {place / 'logs'}")
    print(f"progress    python experiments/prepare.py {typed} prepare.action=status")
    print("to take part and wait for the end, type the same command without -m")


def shape(around: Surroundings, config: Config) -> dict[str, Any]:
    """Return a shard's resources: one process, with a GPU unless the study or training.device says otherwise."""
    wanted = around.study.on_gpu is not False and config.training.device != "cpu"
    gpu = wanted and (around.study.on_gpu is True or config.autoencoder.kind == "pretrained")
    return slurm.resources(replace(around.study, processes=1, on_gpu=gpu), around.cluster)
