"""From the configuration to the parts of a run: objective, networks, optimizers. Mistakes are told here, before any work."""

import copy

import torch

from gat.config import Config, ObjectiveConfig
from gat.data.prepared import PreparedSet
from gat.errors import UserError, require_choice
from gat.mng import FORMS, SCHEDULES
from gat.models import Discriminator, Generator
from gat.models.discriminator import DiscriminatorDims
from gat.models.generator import GeneratorDims
from gat.models.sizes import discriminator_dims, find_size, generator_dims
from gat.objective.adversarial import Objective
from gat.objective.alignment import TRANSLATIONS
from gat.objective.augment import AugmentRates
from gat.processes import ALONE, Processes
from gat.rng import seeded_init
from gat.training.optimizer import make_optimizer
from gat.training.step import Networks, StepSettings


def check(config: Config) -> None:
    """:class:`UserError` for settings that no data can make right."""
    require_choice("objective.mng_schedule", config.objective.mng_schedule, SCHEDULES)
    require_choice("objective.mng_form", config.objective.mng_form, FORMS)
    require_choice("teacher.translation", config.teacher.translation, TRANSLATIONS)
    require_choice("training.precision", config.training.precision, ("fp32", "bf16"))
    model = config.model
    for size in (model.size, model.discriminator_size or model.size, config.optim.lr_width_of or model.size):
        find_size(model.family, size)
    positive = {
        "training.batch_size": config.training.batch_size,
        "training.accumulation": config.training.accumulation,
        "training.total_steps": config.training.total_steps,
        "training.log_steps": config.training.log_steps,
        "training.eval_steps": config.training.eval_steps,
        "training.checkpoint_steps": config.training.checkpoint_steps,
        "training.divergence.patience_steps": config.training.divergence.patience_steps,
        "evaluation.samples": config.evaluation.samples,
        "evaluation.batch_size": config.evaluation.batch_size,
        "data.resolution_px": config.data.resolution_px,
        "optim.lr_base": config.optim.lr_base,
        "objective.penalty_sigma": config.objective.penalty_sigma,
    }
    for name, value in positive.items():
        if value <= 0:
            raise UserError(f"{name}={value} must be positive")


def make_objective(config: ObjectiveConfig, has_teacher: bool) -> Objective:
    """The objective's switches; without a teacher the alignment is off."""
    return Objective(
        mng_schedule=config.mng_schedule,
        mng_nested=config.mng_nested,
        mng_form=config.mng_form,
        penalty_weight=config.penalty_weight,
        penalty_sigma=config.penalty_sigma,
        alignment_weight=config.alignment_weight if has_teacher else 0.0,
    )


def augment_rates(config: ObjectiveConfig) -> AugmentRates:
    """The shares of DiffAugment."""
    a = config.augment
    return AugmentRates(color=a.color, translation=a.translation, cutout=a.cutout, flip=a.flip)


def network_dims(config: Config, data: PreparedSet, teacher_width: int) -> tuple[GeneratorDims, DiscriminatorDims]:
    """Dimensions of both networks on this data; :class:`UserError` if they do not fit it."""
    model, manifest = config.model, data.manifest
    num_classes = model.num_classes or data.num_classes
    if data.num_classes < num_classes:
        raise UserError(
            f"the data has {data.num_classes} classes, fewer than model.num_classes={num_classes}: set model.num_classes=null"
        )
    if data.num_classes > num_classes:
        raise UserError(
            f"the data has {data.num_classes} classes, more than model.num_classes={num_classes}: set model.num_classes=null"
        )
    num_stages = 1 if config.objective.mng_schedule == "none" else model.num_stages
    shared = {
        "patch": model.patch,
        "num_classes": num_classes,
        "latent_side": manifest.latent_side,
        "channels": manifest.latent_channels,
        "num_stages": num_stages,
    }
    discriminator_size = model.discriminator_size or model.size
    return (
        generator_dims(model.family, model.size, **shared),
        discriminator_dims(model.family, discriminator_size, teacher_width=teacher_width, **shared),
    )


def make_networks(
    config: Config,
    dims: tuple[GeneratorDims, DiscriminatorDims],
    device: torch.device,
    processes: Processes = ALONE,
) -> Networks:
    """Both networks (initial weights a function of training.seed), the average, and the optimizers."""
    with seeded_init(config.training.seed):
        generator, discriminator = Generator(dims[0]).to(device), Discriminator(dims[1]).to(device)
    lr_width = find_size(config.model.family, config.optim.lr_width_of).width if config.optim.lr_width_of else None
    return Networks(
        generator=generator,
        discriminator=discriminator,
        ema=copy.deepcopy(generator).requires_grad_(False).eval(),
        generator_optimizer=make_optimizer(generator.parameters(), config.optim, lr_width or dims[0].width),
        discriminator_optimizer=make_optimizer(discriminator.parameters(), config.optim, lr_width or dims[1].width),
        generator_calls=processes.parallel(generator),
        discriminator_calls=processes.parallel(discriminator),
    )


def step_settings(config: Config, has_teacher: bool, processes: Processes = ALONE) -> StepSettings:
    """Constants of the training step."""
    return StepSettings(
        objective=make_objective(config.objective, has_teacher),
        clip_norm=config.optim.clip_norm,
        ema_decay=config.optim.ema_decay,
        bf16=config.training.precision == "bf16",
        accumulation=config.training.accumulation,
        all_reduce=processes.sum,
    )
