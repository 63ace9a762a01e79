"""What samples are compared with: feature statistics of the real images, computed once and kept beside the prepared set."""

from pathlib import Path

import numpy as np
import torch
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from tqdm import tqdm

from gat.config import EvaluationConfig
from gat.data.loader import image_batches
from gat.data.prepared import PreparedSet
from gat.evaluation.frechet import Statistics, feature_statistics, load_statistics, save_statistics
from gat.files import one_at_a_time


def reference_statistics(
    data: PreparedSet,
    config: EvaluationConfig,
    extractor: FeatureExtractorBase,
    device: torch.device,
    workers: int | None = 0,
) -> Statistics:
    """Those of ``evaluation.reference``, or of all prepared images (n, 3, P, P), computed now where they are missing.

    ``workers``: as ``loader.workers``. Raises :class:`gat.errors.UserError` for a file that holds none.
    """
    if config.reference is not None:
        return load_statistics(Path(config.reference))
    file = data.folder / f"reference-{config.extractor}.npz"
    if not file.exists():
        with one_at_a_time(file.with_name(f".{file.name}.lock"), "computing reference statistics"):
            if not file.exists():  # another process may have computed them meanwhile
                batches = image_batches(data, np.arange(len(data)), config.batch_size, workers)
                total = -(-len(data) // config.batch_size)
                shown = tqdm(batches, desc="reference", total=total, unit="batch", leave=False, disable=None)
                images = (batch.to(device).permute(0, 3, 1, 2) for batch in shown)
                save_statistics(file, feature_statistics(images, extractor))
    return load_statistics(file)
