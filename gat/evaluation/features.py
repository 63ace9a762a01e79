"""Features of generated samples, made in shards by any number of processes, and found again after an interruption.

Shapes: n samples, d features of a layer.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from tqdm import tqdm

from gat.config import EvaluationConfig
from gat.division import divide, missing
from gat.errors import UserError
from gat.evaluation.extractors import extractor_tag
from gat.evaluation.sampling import draw_inputs, sample_images
from gat.evaluation.subject import Subject
from gat.platform import git_state, versions
from gat.tensors import save_tensors

SHARD = 1_000


@dataclass(frozen=True)
class SampleFeatures:
    """Features of the samples of one generator; ``facts`` is everything that they depend on."""

    subject: Subject
    config: EvaluationConfig
    extractors: Mapping[str, FeatureExtractorBase]
    facts: dict[str, Any]
    folder: Path
    """Where shards lie meanwhile, in a folder of their own per ``facts``."""

    @property
    def files(self) -> list[Path]:
        """One per shard."""
        return [self.home / f"shard-{i:05d}.safetensors" for i in range(-(-self.config.samples // SHARD))]

    @cached_property
    def home(self) -> Path:
        """Named after what the features depend on."""
        tags = [[extractor_tag(e), *e.features_list] for e in self.extractors.values()]
        made_by = [versions(), git_state()["commit"], self.config.samples, self.config.seed, SHARD]
        known = json.dumps([self.facts, tags, *made_by], sort_keys=True)
        return self.folder / f".features-{hashlib.sha256(known.encode()).hexdigest()[:12]}"

    def make(self) -> None:
        """Make the shards that are not there, together with others that are at it."""
        config = self.config
        z, labels = draw_inputs(config.samples, self.subject.generator.dims, config.seed, config.labels)
        files = self.files
        with tqdm(total=len(files), desc="samples", unit="thousand", disable=None) as shown:

            def one(i: int) -> None:
                rows = slice(i * SHARD, (i + 1) * SHARD)
                tensors = self._of(z[rows], labels[rows])
                save_tensors(files[i], tensors)
                shown.update(len(files) - len(missing(files)) - shown.n)

            divide(files, one)

    def read(self) -> dict[str, Tensor]:
        """All features (n, d) in the order of the samples, by ``extractor/layer``."""
        shards = [_read(file) for file in self.files]
        return {key: torch.cat([shard[key] for shard in shards]) for key in shards[0]}

    def clear(self) -> None:
        """Remove the shards."""
        shutil.rmtree(self.home, ignore_errors=True)

    def _of(self, z: Tensor, labels: Tensor) -> dict[str, Tensor]:
        subject, config = self.subject, self.config
        batches = sample_images(
            subject.generator,
            subject.decoder,
            subject.scale,
            z,
            labels,
            truncation=config.truncation,
            conversion=config.to_uint8,
            batch_size=config.batch_size,
        )
        found: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for images in batches:
                for name, extractor in self.extractors.items():
                    for layer, values in zip(extractor.features_list, extractor(images), strict=True):
                        found.setdefault(f"{name}/{layer}", []).append(values.float().cpu())
        return {key: torch.cat(values) for key, values in found.items()}


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        file.unlink(missing_ok=True)
        raise UserError(f"{file}: is damaged and was removed: start the same command again") from error


@torch.no_grad()
def image_features(batches: Iterable[Tensor], extractor: FeatureExtractorBase, device: torch.device) -> Tensor:
    """Pooled features (n, d) of uint8 images (B, 3, P, P), on the CPU."""
    return torch.cat([extractor(batch.to(device))[0].float().cpu() for batch in batches])
