"""Train one GAT from its configuration, or with ``-m`` launch a sweep of them.

``python experiments/run.py [group=option] [field=value] ...``, ``python experiments/run.py -m sweep=NAME study=NAME ...``.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.exits import hydra_command
from experiments.settings import run_config
from gat.config import Config
from gat.errors import UserError
from gat.training.results import numbers_of


@hydra_command
def main(settings: DictConfig) -> None:
    """Run, then say where everything lies; a mistake of the user's is one line and exit code 2."""
    from gat.training.run import run  # seconds of imports, which a sweep can do without

    if settings.sweep.claim is not None or settings.sweep.arms:
        raise UserError(f"sweep={settings.sweep.name} has many runs: add -m to launch them")
    config = run_config(settings)
    record = run(config)
    if record is not None:
        report(record, config)


def report(record: dict[str, Any], config: Config) -> None:
    """Print the figures at the length and by the evaluation asked for, and where the run's files lie."""
    from gat.training.run_folder import RunFolder

    asked, end = RunFolder(config), record["final_metrics"]
    folder = asked.path
    line = next((one for one in asked.read_metrics() if one["step"] == asked.total_steps), end)
    longer = f", of a run of {end['step']}" if line["step"] < end["step"] else ""
    print(f"\n{record['status']} after {line['step']} steps ({line['images']} images){longer}")
    if record["diverged"]:
        print(f"  it diverged at step {record['diverged']['step']}: {record['diverged']['reason']}")
    for name, number in numbers_of(line, asked.evaluation).items():
        print(f"  {name:<28} {'not finite' if number['value'] is None else format(number['value'], '.4g')}")
    print(f"  configuration                {folder}/config.yaml")
    print(f"  metrics                      {folder}/metrics.jsonl")
    print(f"  record                       {folder}/record.json")
    if (folder / "samples.png").exists():
        print(f"  samples, a row per class     {folder}/samples.png")
    if record["checkpoint"]:
        print(f"  checkpoint                   {folder}/checkpoints/{Path(record['checkpoint']).name}")


if __name__ == "__main__":
    main()
