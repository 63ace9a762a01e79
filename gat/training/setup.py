"""From the configuration to the parts of a run: objective, networks, optimizers; what does not fit the data is told."""

import copy
import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from gat.config import Config, ObjectiveConfig
from gat.data.prepared import PreparedSet
from gat.errors import UserError
from gat.models import Discriminator, Generator
from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims
from gat.models.sizes import discriminator_dims, find_size, generator_dims, resized
from gat.objective.adversarial import Objective, TeacherTokens, penalty_stride
from gat.objective.augment import AugmentRates
from gat.processes import ALONE, Processes
from gat.rng import seeded_init
from gat.training.check import num_stages
from gat.training.memory import first_mode
from gat.training.optimizer import make_optimizer
from gat.training.step import Networks, StepSettings

COMPILERS = ("g++", "clang++")


def make_objective(config: ObjectiveConfig, has_teacher: bool) -> Objective:
    """The objective's switches; without a teacher D's alignment is off."""
    return Objective(
        mng_schedule=config.mng_schedule,
        mng_nested=config.mng_nested,
        mng_form=config.mng_form,
        penalty_weight=config.penalty_weight,
        penalty_sigma=config.penalty_sigma,
        penalty_fraction=config.penalty_fraction,
        logit_centering_weight=config.logit_centering_weight,
        alignment_weight=config.alignment_weight if has_teacher else 0.0,
        generator_alignment_weight=config.generator_alignment_weight,
        consistency_weight=config.consistency_weight,
    )


def augment_rates(config: ObjectiveConfig) -> AugmentRates:
    """The shares of DiffAugment."""
    a = config.augment
    return AugmentRates(color=a.color, translation=a.translation, cutout=a.cutout, flip=a.flip)


def network_dims(config: Config, data: PreparedSet, teacher_width: int) -> tuple[GeneratorDims, DiscriminatorDims]:
    """Dimensions of both networks on this data; :class:`UserError` if they do not fit it.

    ``teacher_width``: of the teacher that the networks with an alignment weight project to; 0: none.
    """
    model, manifest, objective = config.model, data.manifest, config.objective
    num_classes = data.num_classes if model.num_classes is None else model.num_classes
    if data.num_classes < num_classes:
        raise UserError(
            f"the data has {data.num_classes} classes, fewer than model.num_classes={num_classes}: set model.num_classes=null"
        )
    if data.num_classes > num_classes:
        raise UserError(
            f"the data has {data.num_classes} classes, more than model.num_classes={num_classes}: set model.num_classes=null"
        )
    shared = {
        "patch": model.patch,
        "num_classes": num_classes,
        "latent_side": manifest.latent_side,
        "channels": manifest.latent_channels,
        "num_stages": num_stages(config),
    }
    discriminator_size = model.discriminator_size or model.size
    generator = generator_dims(
        model.family,
        model.size,
        teacher_width=teacher_width if objective.generator_alignment_weight else 0,
        aligned_block=objective.generator_alignment_block if objective.generator_alignment_weight else None,
        **shared,
    )
    width = teacher_width if objective.alignment_weight else 0
    discriminator = discriminator_dims(model.family, discriminator_size, teacher_width=width, **shared)
    return resized(generator, model), resized(discriminator, model)


def my_rows(config: Config, processes: Processes) -> slice:
    """Rows of a batch that are this process's; :class:`UserError` if its parts or the penalised samples are not whole."""
    training = config.training
    mine = processes.rows(training.batch_size)
    size, rest = divmod(mine.stop - mine.start, training.accumulation)
    if rest:
        raise UserError(
            f"training.batch_size={training.batch_size} over {processes.count} processes is not divisible by "
            f"training.accumulation={training.accumulation}: change either"
        )
    stride = penalty_stride(config.objective.penalty_fraction)
    if size % stride:
        raise UserError(
            f"objective.penalty_fraction={config.objective.penalty_fraction} takes one sample in {stride}, but the batch is "
            f"worked through {size} at a time (training.batch_size={training.batch_size}, {processes.count} processes, "
            f"training.accumulation={training.accumulation}): change one, so that {stride} divides"
        )
    return mine


def make_networks(
    config: Config,
    dims: tuple[GeneratorDims, DiscriminatorDims],
    device: torch.device,
    processes: Processes = ALONE,
    *,
    checkpointing: str | None = None,
) -> Networks:
    """Both networks (initial weights a function of their seed), the average, and the optimizers.

    ``checkpointing``: of activations; None: what the configuration begins with.
    """
    with seeded_init(config.training.seed_of("init")):
        generator, discriminator = Generator(dims[0]).to(device), Discriminator(dims[1]).to(device)
    ema = copy.deepcopy(generator).requires_grad_(False).eval()
    for network in (generator, discriminator):
        network.checkpointing = checkpointing or first_mode(config.training.activation_checkpointing)
        if compiles(config.training.compile, device):
            for block in network.blocks:
                block.compile(dynamic=False)
    lr_width = find_size(config.model.family, config.optim.lr_width_of).width if config.optim.lr_width_of else None
    return Networks(
        generator=generator,
        discriminator=discriminator,
        ema=ema,
        generator_optimizer=make_optimizer(generator.parameters(), config.optim, lr_width or dims[0].width),
        discriminator_optimizer=make_optimizer(discriminator.parameters(), config.optim, lr_width or dims[1].width),
        generator_calls=processes.parallel(generator),
        discriminator_calls=processes.parallel(discriminator),
        also_ema={decay: copy.deepcopy(ema) for decay in config.optim.also_ema_decays},
    )


def compiles(choice: str, device: torch.device) -> bool:
    """Whether blocks are compiled: where ``choice`` is auto, on a GPU.

    Raises :class:`UserError` if that is asked for on a CPU without a C++ compiler.
    """
    if choice == "auto":
        return device.type == "cuda"
    if choice == "on" and device.type == "cpu" and not any(shutil.which(name) for name in COMPILERS):
        raise UserError(
            "training.compile=on needs a C++ compiler (g++ or clang++) on a CPU: install one, or set it to off"
        )
    return choice == "on"


def step_settings(
    config: Config,
    has_teacher: bool,
    processes: Processes = ALONE,
    sample_tokens: Callable[[Tensor], TeacherTokens] | None = None,
) -> StepSettings:
    """Constants of the training step. ``has_teacher``: of the real images; ``sample_tokens``: see :class:`StepSettings`."""
    return StepSettings(
        objective=make_objective(config.objective, has_teacher),
        clip_norm=config.optim.clip_norm,
        ema_decay=config.optim.ema_decay,
        bf16=config.training.precision == "bf16",
        accumulation=config.training.accumulation,
        all_reduce=processes.sum,
        sample_tokens=sample_tokens,
    )
