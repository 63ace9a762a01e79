"""From the prepared set to the batch of a step: rows in order, posterior samples, and the teacher's view of the images."""

import torch

from gat.config import LoaderConfig, TeacherConfig
from gat.data.autoencoder import sample_latents
from gat.data.loader import Rows, open_loader
from gat.data.order import TrainingOrder
from gat.data.prepared import PreparedSet
from gat.objective.adversarial import TeacherTokens
from gat.objective.alignment import move_images, teacher_shift
from gat.objective.augment import AugmentParams
from gat.teachers import CachedTokens, Teacher, cached_tokens, load_teacher
from gat.training.noise import StepNoise
from gat.training.step import Batch


class Feed:
    """Batches as a function of the step: rows ``mine`` of each. Without a ``teacher``, or its name, there are no tokens.

    ``teacher_width``: T, 0 without a teacher.
    """

    def __init__(
        self,
        data: PreparedSet,
        order: TrainingOrder,
        mine: slice,
        teacher: TeacherConfig | None,
        loader: LoaderConfig,
        device: torch.device,
    ) -> None:
        self.data, self.device = data, device
        self.teacher: Teacher | CachedTokens | None = None
        if teacher is not None and teacher.name is not None:
            self.translation = teacher.translation
            self.teacher = (
                cached_tokens(data, teacher, loader, device) if teacher.cache else load_teacher(teacher, device)
            )
        self.teacher_width = self.teacher.width if self.teacher else 0
        self.loader = open_loader(data, order, mine, device, loader, images=isinstance(self.teacher, Teacher))

    def batch(self, step: int, noise: StepNoise) -> Batch:
        """The batch of ``step`` (from 0): latents are fresh posterior samples by ``noise``, drawn for these rows."""
        rows = self.loader.batch(step)
        real = sample_latents(rows.moments, noise.posterior, self.data.manifest.scale)
        augment = noise.discriminator.augment_real
        assert augment is not None
        tokens: TeacherTokens | None = None
        if self.teacher is not None:
            tokens = teacher_tokens(self.teacher, rows, augment, self.data.manifest.latent_side, self.translation)
        return Batch(real, rows.labels, tokens)


def teacher_tokens(
    teacher: Teacher | CachedTokens, rows: Rows, augment: AugmentParams, latent_side: int, translation: str
) -> TeacherTokens:
    """Return tokens of the images of ``rows``, flipped and (unless cached) moved as their latents will be.

    Images are normalised before they move, so that borders get the mean colour (the release's ``encode_feature``).
    """
    if isinstance(teacher, CachedTokens):
        return teacher.tokens(rows.rows, augment.flip)
    assert rows.images is not None
    down = teacher_shift(augment.shift_rows, teacher.input_px, latent_side, translation)
    right = teacher_shift(augment.shift_columns, teacher.input_px, latent_side, translation)
    return teacher.features(move_images(teacher.preprocess(rows.images), down, right, augment.flip))
