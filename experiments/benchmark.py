"""Measure speed on the present machine: ``python experiments/benchmark.py data [field=value] ...``.

``data``: samples per second that a worker process makes and reads, and how many workers a GPU needs.
"""

import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from experiments.exits import exits
from experiments.settings import CONF, BenchmarkConfig, register, run_config
from gat.errors import UserError

KINDS = ("data",)

register()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def measure(settings: DictConfig) -> None:
    """Measure; a mistake of the user's is one line and exit code 2."""
    from experiments.benchmarks.data import benchmark_data  # seconds of imports

    with exits():
        chosen = OmegaConf.to_object(settings.benchmark)
        assert isinstance(chosen, BenchmarkConfig)
        for name in ("seconds", "device_tflops", "images_per_s"):
            value = getattr(chosen, name)
            if value is not None and value <= 0:
                raise UserError(f"benchmark.{name}={value} must be positive")
        benchmark_data(run_config(settings), chosen)


def main() -> None:
    """Take the kind of benchmark off the command line; the rest is Hydra's."""
    with exits():
        if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
            given = sys.argv[1] if len(sys.argv) > 1 else ""
            raise UserError(f"{given!r} is no benchmark: type one of {', '.join(KINDS)} after benchmark.py")
    del sys.argv[1]
    measure()


if __name__ == "__main__":
    main()
