"""hydra-submitit-launcher's SLURM launcher, so changed that it freezes configurations, submits, and returns."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher


class StudyLauncher(SlurmLauncher):
    """Where the original falls short:

    it waits for the results (hydra issues 2479 and 3058), composes the configuration inside the job from whatever the YAML
    says by then, gives up at the first time-out, and knows neither runs that are done nor machines without SLURM.
    """

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        """Compose and freeze every job's configuration, then submit those that are not done or under way."""
        from experiments.study.launch import launch

        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        master = self.config

        def compose(overrides: Sequence[str]) -> Any:
            return loader.load_sweep_config(master, list(overrides))

        launch(master, job_overrides, compose, self.params)
        return []


class PrepareLauncher(SlurmLauncher):
    """Submits shards of a preparation."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:  # noqa: ARG002
        """Freeze the configuration of every point and submit its shards; then return."""
        from experiments.study.preparation import submit_shards

        assert self.config is not None
        assert self.hydra_context is not None
        for overrides in job_overrides:
            settings = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            submit_shards(settings, self.params)
        return []
