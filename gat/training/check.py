"""Checks of the configuration before any work. Quick to import: needs neither teacher nor autoencoder code."""

import warnings

from gat.config import Config, EvaluationConfig, OptimConfig, TrainingConfig
from gat.data.sources import class_count
from gat.errors import UserError, require_choice
from gat.evaluation.kinds import CLASSIFIER
from gat.evaluation.protocol import check_rules
from gat.mng import FORMS, SCHEDULES
from gat.models.sizes import body_of, find_size
from gat.objective.adversarial import penalty_stride
from gat.objective.alignment import TRANSLATIONS
from gat.ranges import check_ranges
from gat.training.memory import CHOICES
from gat.training.trackers import require_tracker


def check(config: Config) -> None:
    """Raise :class:`UserError` for settings that are wrong whatever the data."""
    check_ranges(config)
    require_choice("objective.mng_schedule", config.objective.mng_schedule, SCHEDULES)
    require_choice("objective.mng_form", config.objective.mng_form, FORMS)
    require_choice("teacher.translation", config.teacher.translation, TRANSLATIONS)
    require_choice("training.precision", config.training.precision, ("fp32", "bf16"))
    require_choice("training.compile", config.training.compile, ("auto", "on", "off"))
    require_choice("training.activation_checkpointing", config.training.activation_checkpointing, CHOICES)
    model = config.model
    for size in (model.size, model.discriminator_size or model.size, config.optim.lr_width_of or model.size):
        find_size(model.family, size)
    body_of(model)
    require_tracker(config.tracker.kind)
    check_averages(config.optim)
    check_steps(config.training)
    check_rules(config.evaluation)
    rules = config.evaluation
    if rules.samples and (rules.classifier or CLASSIFIER in (rules.extractor, *rules.also_extractors)):
        check_classes(rules, class_count(config.data.source, config.data.root))
    check_successors(config)


def check_classes(rules: EvaluationConfig, count: int | None) -> None:
    """Warn that data of one class has no class accuracy; raise :class:`UserError` if features need several classes.

    ``count``: number of classes, None if unknown.
    """
    if count != 1:
        return
    if CLASSIFIER in (rules.extractor, *rules.also_extractors):
        raise UserError(
            f"evaluation.extractor={rules.extractor}, evaluation.also_extractors={rules.also_extractors}: the features of "
            f"{CLASSIFIER!r} need at least 2 classes, and the data has 1: choose others, e.g. evaluation=efficientnet2k"
        )
    if rules.classifier:
        warnings.warn("the data has one class: class accuracy (evaluation.classifier) is left out", stacklevel=3)


def check_averages(optim: OptimConfig) -> None:
    """Raise :class:`UserError` for an average of the generator that is requested twice."""
    for decay in optim.also_ema_decays:
        if decay == optim.ema_decay or optim.also_ema_decays.count(decay) > 1:
            raise UserError(
                f"optim.also_ema_decays={optim.also_ema_decays}: each must differ from optim.ema_decay={optim.ema_decay} "
                "and be given once"
            )


def check_steps(training: TrainingConfig) -> None:
    """Raise :class:`UserError` if ``keep_steps`` asks for checkpoints at steps at which none are written."""
    if training.keep_steps is not None and training.keep_steps % training.checkpoint_steps:
        raise UserError(
            f"training.keep_steps={training.keep_steps} must be a multiple of "
            f"training.checkpoint_steps={training.checkpoint_steps}: checkpoints are written at those"
        )
    if training.keep_steps is not None and not training.keep_checkpoints:
        raise UserError(
            f"training.keep_steps={training.keep_steps} keeps checkpoints, training.keep_checkpoints=false none: "
            "set one of them"
        )


def check_successors(config: Config) -> None:
    """:class:`UserError` for impossible settings of the terms that are off in GAT itself."""
    objective, model = config.objective, config.model
    penalty_stride(objective.penalty_fraction)
    if objective.consistency_weight and num_stages(config) == 1:
        raise UserError(
            f"objective.consistency_weight={objective.consistency_weight} needs several stages: set it to 0, or have "
            "model.num_stages > 1 and another schedule than objective.mng_schedule=none"
        )
    if not objective.generator_alignment_weight:
        return
    if config.teacher.name is None:
        raise UserError(
            f"objective.generator_alignment_weight={objective.generator_alignment_weight} needs a teacher: choose one, "
            "or set it to 0"
        )
    depth, block = body_of(model).depth, objective.generator_alignment_block
    if block is not None and block >= depth:
        raise UserError(
            f"objective.generator_alignment_block={block} is no block of size {model.size}: choose one of 0 ... {depth - 1}"
        )


def num_stages(config: Config) -> int:
    """K: one without MNG."""
    return 1 if config.objective.mng_schedule == "none" else config.model.num_stages
