"""The order of training: a function of (seed, epoch), with the position a function of the step."""

import numpy as np
import torch
from numpy.typing import NDArray

from gat.errors import UserError
from gat.rng import make_generator


class TrainingOrder:
    """Rows of every step: each epoch a fresh permutation, its last partial batch dropped (as in the release).

    Raises :class:`UserError` if there are fewer images than one batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        if count < batch_size:
            raise UserError(
                f"training.batch_size={batch_size} is more than the {count} images of the data: make it smaller"
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.steps_per_epoch = count // batch_size
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows (B,) of the global batch of ``step`` (from 0)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = make_generator(self.seed, "order", epoch)
            self._permutation = torch.randperm(self.count, generator=generator).numpy()
            self._epoch = epoch
        return self._permutation[position * self.batch_size : (position + 1) * self.batch_size]
