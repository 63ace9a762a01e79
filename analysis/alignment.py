"""CKNNA of the discriminator's blocks with a vision network, on real and on fake images (v1 section 3.4; v3).

No source defines layers, pooling, k and n; ours, after platonic-rep's and REPA's:

    D         after each block, in fp32, the mean over its patch tokens ([cls] apart)
    teacher   the mean over its patch tokens; k = 10; analysis.cknna.prepared on both
    D's view  as in training: stage images perturbed by the run's MNG, no augmentation
    real      n images of the prepared set, drawn without repetition, with a draw of the posterior of each; for the teacher
              the stored image. These are images that D was trained on: REPA's appendix uses validation images
    fake      n samples of the averaged generator, classes in turn, no truncation; for the teacher the decoded sample

Every draw is a function of (seed, n). The real images owe nothing to the checkpoint, so of several checkpoints over the
same prepared set the teacher is asked about them once (``real_teacher_features``). There is no interval: a bootstrap would
make copies of an image its nearest neighbours, so the spread over training seeds is the one to look at. CKNNA depends on n
and k: compare equal ones.
Shapes: n images, B batch, K stages, C latent channels, H latent side, P image side in pixels; d, T width of D, teacher.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from analysis.blocks import inputs_of
from analysis.cknna import K_NEAREST, cknna, prepared
from analysis.opening import Opened, settings_of
from gat.checkpoint_file import read_checkpoint
from gat.config import TeacherConfig
from gat.data.autoencoder import sample_latents
from gat.data.prepared import PreparedSet
from gat.errors import UserError, first_line, require_choice
from gat.models import Discriminator
from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims
from gat.objective.adversarial import Objective
from gat.progress import Progress
from gat.rng import make_generator
from gat.teachers import EFFICIENTNET_LITE0, Teacher, load_teacher
from gat.training.setup import make_objective

T = TypeVar("T")

CHUNK = 64  # images at a time; draws are made chunk by chunk, so that it is no setting
TEACHERS = {
    "dinov2-g": TeacherConfig("vit_giant_patch14_dinov2.lvd142m", None, 224, None, "exact", cache=False),
    "efficientnet-lite0": TeacherConfig(EFFICIENTNET_LITE0, None, 64, None, "exact", cache=False),
}


@dataclass(frozen=True)
class Batch:
    """What D and the teacher see: perturbed ``stages`` (K, B, C, H, H), ``labels`` (B,), uint8 ``images`` (B, P, P, 3)."""

    stages: Tensor
    labels: Tensor
    images: Tensor


@dataclass(frozen=True)
class BlockAlignment:
    """CKNNA of a block of D (from 0) with the teacher."""

    block: int
    real: float
    fake: float


def block_alignment(
    it: Opened,
    teacher: Teacher,
    *,
    samples: int,
    seed: int,
    k: int = K_NEAREST,
    real_features: Tensor | None = None,
) -> list[BlockAlignment]:
    """CKNNA of each block of the run's D, on ``samples`` real and as many fake images.

    ``real_features``: those of :func:`real_teacher_features` for the same prepared set, teacher, samples and seed; None:
    computed here. Raises :class:`UserError` for weights that are no run's, more images than there are, and as
    :func:`analysis.cknna.cknna`.
    """
    discriminator, objective = discriminator_of(it), objective_of(it)
    if real_features is None:
        real_features = real_teacher_features(it, teacher, samples=samples, seed=seed)
    real = block_features(discriminator, real_batches(it, objective, samples, seed))
    fake, of_fakes = features(discriminator, teacher, fake_batches(it, objective, samples, seed))
    sides = cknna_by_block(real, real_features, k), cknna_by_block(fake, of_fakes, k)
    return [BlockAlignment(b, one, other) for b, (one, other) in enumerate(zip(*sides, strict=True))]


def teacher_called(name: str, device: torch.device, weights: str | None = None) -> Teacher:
    """One of ``TEACHERS``; :class:`UserError` for another name, or weights that cannot be had."""
    require_choice("teacher", name, tuple(TEACHERS))
    config = TEACHERS[name]
    return load_teacher(replace(config, weights=weights), device)


def cknna_by_block(blocks: list[Tensor], teacher: Tensor, k: int) -> list[float]:
    """CKNNA of features (n, d) of each of L blocks with the teacher's (n, T), each prepared as its source does."""
    target = prepared(teacher)
    return [cknna(prepared(block), target, k) for block in blocks]


@torch.no_grad()
def features(discriminator: Discriminator, teacher: Teacher, batches: Iterable[Batch]) -> tuple[list[Tensor], Tensor]:
    """Mean patch tokens of the same images: of D's L blocks (n, d) each, and of the teacher (n, T)."""
    of_blocks, of_teacher = [], []
    for batch in batches:
        of_blocks.append(block_features(discriminator, [batch]))
        of_teacher.append(_teacher_means(teacher, batch.images))
    return [torch.cat(parts) for parts in zip(*of_blocks, strict=True)], torch.cat(of_teacher)


@torch.no_grad()
def block_features(discriminator: Discriminator, batches: Iterable[Batch]) -> list[Tensor]:
    """Mean patch tokens (n, d) of D's L blocks."""
    found: list[list[Tensor]] = []
    for batch in batches:
        record: dict[str, Tensor] = {}
        discriminator(batch.stages, batch.labels, project_rows=0, record=record)
        blocks = (record[f"block_{b}"] for b in range(discriminator.dims.depth))
        found.append([tokens[:, 1:].mean(dim=1).cpu() for tokens in blocks])
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


@torch.no_grad()
def real_teacher_features(it: Opened, teacher: Teacher, *, samples: int, seed: int) -> Tensor:
    """The teacher's mean patch tokens (n, T) of the n = ``samples`` real images, the same for every checkpoint of a run.

    Raises :class:`UserError` for weights that are no run's, and for more images than there are.
    """
    rows = _shown(real_rows(it, samples, seed).split(CHUNK), "real, teacher")
    return torch.cat([_teacher_means(teacher, _real_images(it, some)) for some in rows])


def _teacher_means(teacher: Teacher, images: Tensor) -> Tensor:
    """Of uint8 images (B, P, P, 3): (B, T), on the CPU."""
    return teacher(images).patches.mean(dim=1).cpu()


def real_rows(it: Opened, samples: int, seed: int) -> Tensor:
    """Rows (n,) of the run's prepared set. :class:`UserError` for weights that are no run's, or more than there are."""
    data = prepared_of(it)
    if samples > len(data):
        raise UserError(f"samples={samples} are more than the {len(data)} images of {data.folder}: use fewer")
    return torch.randperm(len(data), generator=make_generator(seed, "cknna rows"))[:samples]


def _real_images(it: Opened, rows: Tensor) -> Tensor:
    """Stored images (B, P, P, 3), uint8, of ``rows`` (B,)."""
    return torch.from_numpy(prepared_of(it).images(rows.numpy())).to(it.device)


def real_batches(it: Opened, objective: Objective, samples: int, seed: int) -> Iterator[Batch]:
    """Images of the run's prepared set, of its classes as they come."""
    data, device = prepared_of(it), it.device
    rows = real_rows(it, samples, seed)
    for i, some in enumerate(_shown(rows.split(CHUNK), "real")):
        draws = make_generator(seed, "cknna real", i)
        moments, labels = data.latents(some.numpy())
        noise = torch.randn(moments.chunk(2, dim=1)[0].shape, generator=draws)
        latents = sample_latents(moments, noise, it.subject.scale)
        stages = latents.expand(it.subject.generator.dims.num_stages, *latents.shape)
        perturbed = objective.perturb(stages, torch.randn(stages.shape, generator=draws))
        yield Batch(perturbed.to(device), labels.to(device), _real_images(it, some))


def fake_batches(it: Opened, objective: Objective, samples: int, seed: int) -> Iterator[Batch]:
    """Samples of the run's averaged generator."""
    generator, device = it.subject.generator, it.device
    z, labels = inputs_of(samples, generator.dims, None, seed)
    chunks = list(zip(z.split(CHUNK), labels.split(CHUNK), strict=True))
    for i, (some_z, some_labels) in enumerate(_shown(chunks, "fake")):
        with torch.no_grad():
            stages = generator(some_z.to(device), some_labels.to(device))
        noise = torch.randn(stages.shape, generator=make_generator(seed, "cknna fake", i)).to(device)
        images = it.decode(stages[-1]).permute(0, 2, 3, 1)
        yield Batch(objective.perturb(stages, noise), some_labels.to(device), images)


def objective_of(it: Opened) -> Objective:
    """The run's, for its MNG."""
    return make_objective(settings_of(it.pretrained).objective, has_teacher=False)


def prepared_of(it: Opened) -> PreparedSet:
    """What the run was trained on; :class:`UserError` for weights that are no run's."""
    if it.pretrained.kind != "run" or it.data is None:
        raise UserError(
            f"{it.pretrained.source}: was trained on no prepared set of ours: give a run's folder or checkpoint"
        )
    return it.data


def discriminator_of(it: Opened) -> Discriminator:
    """The discriminator of the run's checkpoint, frozen; :class:`UserError` for weights that are no run's."""
    if it.pretrained.kind != "run":
        raise UserError(f"{it.pretrained.source}: holds no discriminator of ours: give a run's folder or checkpoint")
    return read_discriminator(it.pretrained.source, it.subject.generator.dims).to(it.device)


def read_discriminator(file: Path, generator: GeneratorDims) -> Discriminator:
    """That of a checkpoint, whose dimensions its tensors tell, together with the ``generator``'s."""
    _, tensors = read_checkpoint(file, "discriminator.")
    try:
        discriminator = Discriminator(dims_of(tensors, generator))
        discriminator.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{file}: its discriminator cannot be read ({first_line(error)}): train it again") from error
    return discriminator.requires_grad_(False).eval()


def dims_of(tensors: dict[str, Tensor], generator: GeneratorDims) -> DiscriminatorDims:
    """Dimensions of a discriminator's state dict; KeyError if it is none."""
    width = len(tensors["patch_embed.weight"])
    projector = [tensors.get(f"projector.{i}.weight") for i in (0, 4)]
    return DiscriminatorDims(
        width=width,
        depth=1 + max(int(key.split(".")[1]) for key in tensors if key.startswith("blocks.")),
        heads=width // len(tensors["blocks.0.attn.q_norm.weight"]),
        patch=tensors["patch_embed.weight"].shape[-1],
        num_classes=len(tensors["class_embedding.weight"]),
        latent_side=generator.latent_side,
        channels=generator.channels,
        num_stages=generator.num_stages,
        logit_width=len(tensors["logit_linear.weight"]),
        projector_width=0 if projector[0] is None else len(projector[0]),
        teacher_width=0 if projector[1] is None else len(projector[1]),
    )


def _shown(chunks: Sequence[T], what: str) -> Iterable[T]:
    shown: Iterable[T] = Progress(chunks, desc=f"{what} images", unit="batch", leave=False)
    return shown
