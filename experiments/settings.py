"""Settings around those of a run: which claim, at which scale, on which cluster, and how to launch it."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, cast

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from gat.config import Config, MeasureConfig
from gat.errors import UserError, first_line
from gat.ranges import Count, Natural, Positive, Range, check_ranges

CONF = Path(__file__).parent / "conf"
SWEEPS = Path(__file__).parent.parent / "sweeps"
RATIO, SCATTER = Range(above=1), Range(above=0)
Processes = Annotated[int, Range(1, 10_000)]
"""Numbers of processes, cores or jobs."""
Samples = Annotated[int, Range(1, 10**7)]
"""Numbers of samples, for which all random numbers are drawn at once."""


@dataclass
class ClaimConfig:
    """Head of a sweep: what the paper says, what is compared, and the rule that decides. The analysis reads it."""

    id: str
    """Name of the claim."""
    sentence: str
    """The claim in words."""
    source: str
    """Where it stands: version, section, figure or table; or that it does not stand in the paper."""
    paper: list[dict[str, Any]]
    """Numbers given: ``what``, ``value``, ``about`` (read off a figure), ``source``."""
    compared: str
    """What is compared, in words."""
    metric: str
    """``frechet`` (the study's distance) or the name of a column of metrics."""
    at: str
    """``end``, ``last_third`` (of the evaluations) or ``steps`` (each logged one)."""
    rule: list[dict[str, Any]]
    """Tests that decide, each a ``kind`` and its arguments (``experiments/study/claims.py``)."""
    confidence: Annotated[float, Range(0.5, below=1)]
    """Level of the intervals that the tests look at (over seeds)."""
    confirms: str
    """The rule in words: when the claim is confirmed,"""
    refutes: str
    """and when it is refuted; undecided otherwise."""
    seeds: Annotated[int, Range(1, 10_000)]
    """Number of seeds: training.seed = 0, 1, ..."""
    stopping: str
    """When runs end and no more are added."""
    looks: Annotated[int, Range(1, 2)] = 1
    """Number of looks: 2, with half of the seeds and with all, if there are at least 6 in all; 1, with all."""
    family: str | None = None
    """Name shared by claims that share a control: a verdict must hold after Holm's correction for their number."""
    diagnostic: str | None = None
    """Which diagnostic of the runs (``analysis/diagnose.py``) the metric is of; null: the sweep's own table."""


@dataclass
class SweepConfig:
    """Runs of one claim: every arm, with every point of the grid, with every seed."""

    name: str
    claim: ClaimConfig | None
    diagnostics: list[str] = field(default_factory=list)
    """What ``analysis/diagnose.py`` measures on the runs."""
    diagnostic_claims: list[ClaimConfig] = field(default_factory=list)
    """Further claims, about these measurements."""
    common: dict[str, Any] = field(default_factory=dict)
    """Overrides of all runs."""
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Overrides by name of the arm."""
    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Values by setting."""
    arm: str | None = None
    """Which arm and point a run is (set by the sweep)."""


@dataclass
class DiagnosticsConfig:
    """With what ``analysis/diagnose.py`` measures."""

    distance: str
    """Perceptual distance: a choice of ``analysis/layer_lpips.py``."""
    teacher: str
    """Of the alignment: a choice of ``analysis/cknna.py``."""
    samples: Samples
    """Of block contributions and stages."""
    alignment_samples: Samples
    """Real, and as many fake images."""
    paths: Samples
    """In w."""


@dataclass
class StudyConfig:
    """The scale at which sweeps are run: what their logical sizes stand for."""

    name: str
    total_steps: Count
    """Length of a run."""
    short_steps: Count
    """Length of runs that look for divergence only."""
    batch_size: Count
    patches: dict[str, Count]
    """``small``, ``medium`` and ``large`` patches in latent cells."""
    evaluations: dict[str, str]
    """``curve`` (during training) and ``final``: choices of the evaluation group."""
    autoencoders: dict[str, str]
    """``first``, ``second``, ``third``: choices of the autoencoder group."""
    processes: Processes
    """Processes per run, one per GPU where there are GPUs."""
    on_gpu: bool | None
    """null: locally if there are GPUs, under SLURM not."""
    cpus_per_process: Processes | None
    """Cores per process, unless the cluster says otherwise; null: the site's default, locally all of them."""
    mem_gb: Natural | None
    """Memory per node, 0 for all of it, unless the cluster says otherwise; null: the site's default."""
    latent_side: Count | None
    """Side of the latents, number of classes and width of the teacher's tokens: for estimates before data are prepared."""
    num_classes: Count | None
    teacher_width: Count | None
    diagnostics: DiagnosticsConfig | None
    """null: a run without a study."""
    sustained_tflops: Positive | None
    """Rate per process for estimates, where the cluster gives none: what training sustains, not the data sheet's peak."""
    effect: Annotated[float, RATIO] | None = None
    """Smallest ratio of distances worth finding, and the margin of the tests of equivalence."""
    scatter: Annotated[float, SCATTER] | None = None
    """Standard deviation of the log distance over seeds that seeds are planned with (``analysis/seed_noise.py``)."""


@dataclass
class ClusterConfig:
    """Facts of a site: copy ``conf/cluster/default.yaml``, fill it in, choose it with ``cluster=NAME``."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None
    gpus_per_node: Natural
    """GPUs that a node has: a run of more processes takes several nodes."""
    gpu_option: str
    """Option by which sbatch is asked for GPUs: ``gpus-per-node`` or ``gres``, either with ``:TYPE``; or ``none``."""
    cpus_per_task: Processes | None
    """Cores per process; null: the study's."""
    mem_gb: Natural | None
    """Memory per node, 0 for all of it; null: the study's."""
    timeout_min: str
    """Time limit of a job, in minutes or SLURM's format; a longer run continues in the same job, requeued."""
    max_num_timeout: Natural
    """How often a job may reach its limit; pre-emptions are not counted."""
    signal_delay_s: Natural
    """How long before the limit the job is told to save: longer than a step, an evaluation and a checkpoint."""
    array_parallelism: Count
    """Jobs of one array that run at a time."""
    setup: list[str]
    """Lines of shell before the run: modules, environment variables."""
    additional_parameters: dict[str, Any]
    """Any other option of sbatch."""
    sustained_tflops: Positive | None
    """Rate per process for estimates; null: the study's."""


@dataclass
class LaunchConfig:
    """How ``-m`` launches its jobs."""

    to: str
    """``slurm``, ``local``, or ``auto``: SLURM where there is sbatch, else local processes."""
    dry_run: bool
    """Show the jobs, submit nothing."""
    wait: bool
    """Return when all jobs have ended instead of at once."""
    local_jobs: Processes | None
    """Local processes: jobs at a time; null: as many as the machine's GPUs, or cores, carry."""
    arms: list[str] | None
    """Arms of the sweep to launch; null: all."""


@dataclass
class PrepareConfig:
    """What ``experiments/prepare.py`` does."""

    action: str
    """``make`` the set, show its ``status``, or ``verify`` its checksums."""
    shards: Processes
    """With ``-m``: jobs that divide the work among them."""
    statistics: bool
    """Also what evaluations and a cached teacher need: reference statistics, the autoencoder's own distance, tokens."""


@dataclass
class BenchmarkConfig:
    """What ``experiments/benchmark.py`` does."""

    seconds: Positive
    """Length of a measurement (``step``: at least, and at least five steps)."""
    device_tflops: Positive
    """Rate at which the GPU, whose need of data is told, is taken to train."""
    images_per_s: Positive | None
    """Rate at which the GPU trains; null: by ``device_tflops``, for each size."""
    release: str | None
    """``step``, ``release``: folder with a checkout of the authors' release (github.com/hse1032/GAT), whose code is run."""
    warmup_steps: Natural
    """``step``: not counted; compilation is among them."""
    out: str
    """Folder of the tables."""


@dataclass
class SampleConfig:
    """What ``experiments/sample.py`` draws; the protocol's truncation, decoder and conversion are ``evaluation``'s."""

    kind: str
    """``grid`` (one picture), ``png``, ``webdataset`` or ``npz`` (ADM's), ``interpolation`` (moving in w)."""
    count: Samples
    """Samples of ``png``, ``webdataset`` and ``npz``; of ``grid`` per class."""
    classes: list[Natural] | None
    """Classes to draw, in turn; null: as ``evaluation.labels`` says (of a grid: the first 10)."""
    seed: Natural
    """Of the samples: with ``count`` it determines them."""
    seeds: list[Natural]
    """interpolation: the z of its stations, one after the other; classes in turn with them."""
    frames: Annotated[int, Range(1, 10**4)]
    """interpolation: from one station to the next."""
    fps: Annotated[int, Range(1, 1000)]
    """interpolation: frames per second of GIF and MP4."""


@dataclass
class ExportConfig:
    """What ``experiments/export.py`` writes besides the pipeline."""

    license: str | None
    """Licence of the weights for the model card (an identifier of the hub's); null: none is stated."""
    push_to: str | None
    """OWNER/NAME on the hub to upload to; null: nowhere."""


@dataclass
class ExperimentConfig(Config):
    """A run, and what surrounds it."""

    checkpoint: str | None
    """Of evaluate.py, sample.py and export.py: a run's folder or file, the release's .pt, a pipeline folder, a hub name."""
    run: str | None
    """The same of a run's folder."""
    samples: str | None
    """Images for evaluate.py to measure instead: ADM's ``.npz`` (``arr_0``) or a folder of PNGs."""
    out: str | None
    """Where evaluate.py, sample.py and export.py write; null: beside the run or in the present folder."""
    measure: MeasureConfig
    sample: SampleConfig
    export: ExportConfig

    study: StudyConfig
    sweep: SweepConfig
    cluster: ClusterConfig
    launch: LaunchConfig
    prepare: PrepareConfig
    benchmark: BenchmarkConfig


def register() -> None:
    """Make schema, sweeps and resolvers known to Hydra."""
    store = ConfigStore.instance()
    schema = OmegaConf.structured(ExperimentConfig)
    schema.cluster = OmegaConf.structured(ClusterConfig)
    schema.cluster.additional_parameters = {}
    OmegaConf.set_struct(schema.cluster.additional_parameters, False)  # any key, also on the command line
    store.store(name="schema", node=schema)
    for file in SWEEPS.glob("*.yaml"):
        store.store(group="sweep", name=file.stem, node=OmegaConf.load(file), provider=str(SWEEPS))
    register_resolvers()


def register_resolvers() -> None:
    """Register the resolvers that studies and sweeps use: ``${times:A,B}``, ``${seeds:RATIO,SCATTER}`` and so on."""
    OmegaConf.register_new_resolver("seeds", _planned_seeds, replace=True)
    OmegaConf.register_new_resolver("times", lambda value, factor: value * factor, replace=True)
    OmegaConf.register_new_resolver("power", lambda value, exponent: value**exponent, replace=True)
    OmegaConf.register_new_resolver("divided", _divided, replace=True)


def _planned_seeds(ratio: float | None, scatter: float | None) -> int:
    from experiments.study.power import MOST_SEEDS, planned_seeds  # imports scipy

    if ratio is None or scatter is None:
        raise UserError(f"seeds cannot be planned with study.effect={ratio} and study.scatter={scatter}: set both")
    RATIO.check("study.effect", ratio)
    SCATTER.check("study.scatter", scatter)
    try:
        return planned_seeds(ratio, scatter)
    except ValueError as error:
        raise UserError(
            f"study.effect={ratio} at study.scatter={scatter} takes more than {MOST_SEEDS} seeds: raise study.effect"
        ) from error


def _divided(value: int, divisor: int) -> int:
    if value % divisor:
        raise UserError(f"a sweep divides {value} by {divisor}, which leaves a rest: change the study's figure")
    return value // divisor


def run_config(settings: DictConfig) -> Config:
    """The settings of the run alone, resolved; MissingMandatoryValue for one that the user must give."""
    groups = (f.name for f in fields(Config))
    return typed({g: OmegaConf.to_container(settings[g], resolve=True, throw_on_missing=True) for g in groups})


def plain_settings(file: Path) -> DictConfig:
    """Return a run's settings from its file, which may be somebody else's.

    Raises :class:`UserError` for an interpolation, which could read the environment, and for an alias: a few of them, one
    within the other, stand for millions of values.
    """
    text = file.read_text(encoding="utf-8")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
        raise UserError(f"{file}: holds a YAML alias (*name): replace it by its value")
    settings = OmegaConf.create(text)
    if not isinstance(settings, DictConfig):
        raise UserError(f"{file}: does not hold named settings: restore the run's own file")
    if found := interpolation_in(OmegaConf.to_container(settings, resolve=False)):
        raise UserError(f"{file}: holds the interpolation {found!r}: replace it by its value")
    return settings


def interpolation_in(value: Any) -> str | None:
    """Return the first string with ``${`` in nested lists and dictionaries; None if there is none."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return next((found for found in map(interpolation_in, inner) if found), None)
    return value if isinstance(value, str) and "${" in value else None


def typed(settings: Any) -> Config:
    """Return a run's settings as a ``Config``; raise :class:`UserError` for one unknown, of a wrong type or out of range."""
    try:
        config = cast(Config, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), settings)))
    except (ConfigKeyError, ValidationError) as error:
        raise UserError(f"{error.full_key}: {first_line(error)}") from error
    check_ranges(config)
    return config


def group(settings: DictConfig, name: str) -> Any:
    """Return one group of composed settings as its dataclass, resolved, its numbers checked."""
    found = OmegaConf.to_object(settings[name])
    check_ranges(found, f"{name}.")
    return found


@dataclass(frozen=True)
class Surroundings:
    """What surrounds the runs of a sweep, resolved."""

    study: StudyConfig
    sweep: SweepConfig
    cluster: ClusterConfig
    launch: LaunchConfig


def surroundings(settings: DictConfig) -> Surroundings:
    """Return the groups study, sweep, cluster and launch of composed settings."""
    return Surroundings(**{f.name: group(settings, f.name) for f in fields(Surroundings)})
