"""Hydra's own sweeper over the points of a claim, times whatever is swept on the command line."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override


class ClaimSweeper(BasicSweeper):
    """Every arm x grid point x seed of ``sweep``, in one batch; what the command line sets wins over the sweep's axis."""

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all jobs at once. Nothing is written here: the launcher keeps the submission's record."""
        from experiments.settings import surroundings
        from experiments.study.points import expand

        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        surroundings(self.config)  # reports mistakes once, instead of for every seed
        points = expand(self.config.sweep, typed_axes(parser.parse_overrides(arguments)), self.config.launch.arms)
        return [self.launcher.launch(points, initial_job_idx=0)]


def typed_axes(overrides: list[Override]) -> dict[str, list[str]]:
    """Values by setting (with its ``+``, if any) of the command line's overrides; one value where nothing is swept."""
    axes: dict[str, list[str]] = {}
    for override in overrides:
        key = override.get_key_element()
        axes[key] = [point[0].partition("=")[2] for point in BasicSweeper.split_arguments([override], None)[0]]
    return axes
