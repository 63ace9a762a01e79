"""What every claim costs at a study's scale: FLOPs by formula, device-hours at the rates that estimates use."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from experiments.benchmarks.tables import markdown
from experiments.settings import SWEEPS, surroundings
from experiments.study.estimate import SECONDS_PER_HOUR, planned_power, training_flops
from experiments.study.plan import Planned, plan
from experiments.study.points import expand
from experiments.study.rates import rate_of
from gat.files import replacing, told
from gat.training.run_identity import identity

Composer = Callable[[Sequence[str]], DictConfig]


def benchmark_costs(compose: Composer, out: Path) -> None:
    """Compute, print, and keep the table. ``compose``: settings of overrides, with what was typed."""
    settings = compose([])
    study, cluster = surroundings(settings).study, surroundings(settings).cluster
    rows: list[dict[str, object]] = []
    seen: set[tuple[str, int]] = set()
    sources: set[str] = set()
    for sweep in sorted(file.stem for file in SWEEPS.glob("*.yaml")):
        planned = runs_of(sweep, compose)
        flops, hours = 0.0, 0.0
        for run in planned:
            own, rate = training_flops(run.config, study), rate_of(run.config, study, cluster)
            if own is None or rate is None:
                continue
            flops += own
            hours += own / (rate.tflops * 1e12) / SECONDS_PER_HOUR
            sources.add(f"{rate.tflops:.4g} TFLOP/s {rate.source}")
        new = {(identity(run.config), run.config.training.total_steps) for run in planned} - seen
        seen |= new
        power = planned_power(surroundings(compose(typed_of(sweep))).sweep.claim, study)
        rows.append(
            {
                "sweep": sweep,
                "seeds at each look": ", ".join(map(str, power[0])) if power else "",
                "finds a ratio of": f"{power[1]:.3g}" if power else "",
                "runs": len(planned),
                "not in those above": len(new),
                "EFLOP": flops / 1e18,
                "device-hours": hours,
            }
        )
    table = pd.DataFrame(rows)
    text = "\n\n".join(
        [
            f"# What the claims cost at scale {study.name}",
            f"`{shlex.join(['python', 'experiments/benchmark.py', 'costs', f'study={study.name}'])}`. Matrix products of G "
            "and D in training, by formula; not the teacher, the autoencoder, evaluation, preparation. A run that several "
            "sweeps ask for is run "
            "once: `not in those above` of them are new.",
            f"`finds a ratio of`: the smallest that all these seeds find with a power of 80%, if the log distance has a "
            f"standard deviation of {study.scatter} over seeds; before Holm's correction.",
            f"Device-hours at {'; '.join(sorted(sources)) or 'no known rate'}. In all {table['device-hours'].sum():,.0f}, if "
            "nothing were shared.",
            markdown(table),
        ]
    )
    print(text)
    file = out / f"costs-{study.name}.md"
    with told(f"benchmarks folder {out}", "compute again"):
        out.mkdir(parents=True, exist_ok=True)
        for path, content in ((file, text + "\n"), (file.with_suffix(".csv"), table.to_csv(index=False))):
            with replacing(path) as stream:
                stream.write(content.encode())
            print(path)


def runs_of(sweep: str, compose: Composer) -> list[Planned]:
    """All runs of a sweep."""
    typed = typed_of(sweep)
    points = expand(compose(typed).sweep, {})
    return plan([[*typed, *point] for point in points], compose)


def typed_of(sweep: str) -> list[str]:
    """Overrides that choose a sweep, whose data need not be there."""
    return [f"sweep={sweep}", "data.root=unused"]
