"""From the prepared set to the batch of a step: rows in order, posterior samples, and the teacher's view of the images."""

import torch

from gat.config import TeacherConfig
from gat.data.autoencoder import sample_latents
from gat.data.order import TrainingOrder
from gat.data.prepared import PreparedSet
from gat.objective.adversarial import TeacherTokens
from gat.objective.alignment import move_images, teacher_shift
from gat.objective.augment import AugmentParams
from gat.teachers import CachedTokens, Teacher, cached_tokens, load_teacher
from gat.training.noise import StepNoise
from gat.training.step import Batch


class Feed:
    """Batches as a function of the step. Without a ``teacher``, or its name, there are no tokens.

    ``teacher_width``: T, 0 without a teacher.
    """

    def __init__(
        self, data: PreparedSet, order: TrainingOrder, teacher: TeacherConfig | None, device: torch.device
    ) -> None:
        self.data, self.order, self.device = data, order, device
        self.teacher: Teacher | CachedTokens | None = None
        if teacher is not None and teacher.name is not None:
            self.translation = teacher.translation
            self.teacher = cached_tokens(data, teacher, device) if teacher.cache else load_teacher(teacher, device)
        self.teacher_width = self.teacher.width if self.teacher else 0

    def batch(self, step: int, noise: StepNoise, selection: slice) -> Batch:
        """Rows ``selection`` of the batch of ``step``: latents are fresh posterior samples by ``noise``, drawn for them."""
        rows = self.order.rows(step)[selection]
        moments, labels = self.data.latents(rows)
        real = sample_latents(moments.to(self.device), noise.posterior, self.data.manifest.scale)
        augment = noise.discriminator.augment_real
        assert augment is not None
        tokens: TeacherTokens | None = None
        if isinstance(self.teacher, CachedTokens):
            tokens = self.teacher.tokens(rows, augment.flip, self.device)
        elif self.teacher is not None:
            images = torch.from_numpy(self.data.images[rows]).to(self.device)
            tokens = self._live_tokens(self.teacher, images, augment)
        return Batch(real, labels.to(self.device), tokens)

    def _live_tokens(self, teacher: Teacher, images: torch.Tensor, augment: AugmentParams) -> TeacherTokens:
        """Tokens of images (B, P, P, 3) moved and flipped as their latents will be."""
        side = self.data.manifest.latent_side
        rows = teacher_shift(augment.shift_rows, teacher.input_px, side, self.translation)
        columns = teacher_shift(augment.shift_columns, teacher.input_px, side, self.translation)
        return teacher.features(move_images(teacher.resize(images), rows, columns, augment.flip))
