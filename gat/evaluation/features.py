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

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from gat.division import divide, missing
from gat.errors import UserError, first_line
from gat.evaluation.classifier import ClassRecognizer
from gat.evaluation.extractors import extractor_tag
from gat.evaluation.samples import Samples
from gat.platform import git_state, versions
from gat.progress import Progress
from gat.tensors import save_tensors

SHARD = 250
CLASSES = "classes"
FOLDER = ".features-"


@dataclass(frozen=True)
class SampleFeatures:
    """Features of the first ``count`` of ``samples``; with a ``recognizer``, also the classes that it gives (``CLASSES``)."""

    samples: Samples
    count: int
    extractors: Mapping[str, FeatureExtractorBase]
    recognizer: ClassRecognizer | None
    folder: Path
    """Holds a folder of shards, named by a hash of everything that the features depend on."""
    device: torch.device

    @property
    def files(self) -> list[Path]:
        """One per shard."""
        return [self.home / f"shard-{i:05d}.safetensors" for i in range(-(-self.count // SHARD))]

    @cached_property
    def home(self) -> Path:
        """Return the folder of the shards, named by a hash of what the features depend on."""
        tags = [[extractor_tag(e), *e.features_list] for e in self.extractors.values()]
        made_by = [versions(), git_state()["commit"], self.count, SHARD, self.recognizer is not None]
        known = json.dumps([self.samples.facts(), tags, *made_by], sort_keys=True)
        return self.folder / f"{FOLDER}{hashlib.sha256(known.encode()).hexdigest()[:12]}"

    def make(self) -> None:
        """Compute the missing shards, sharing the work with other processes."""
        files = self.files
        with Progress(total=len(files), desc="samples", unit="shard", leave=False) as shown:

            def one(i: int) -> None:
                save_tensors(files[i], self._of(slice(i * SHARD, min((i + 1) * SHARD, self.count))))
                shown.update(len(files) - len(missing(files)) - shown.n)

            divide(files, one)

    def read(self) -> dict[str, Tensor]:
        """Return all features (n, d) in the order of the samples, by ``extractor/layer``."""
        shards = [_read(file) for file in self.files]
        return {key: torch.cat([shard[key] for shard in shards]) for key in shards[0]}

    def clear(self) -> None:
        """Remove the shards."""
        shutil.rmtree(self.home, ignore_errors=True)

    @torch.no_grad()
    def _of(self, rows: slice) -> dict[str, Tensor]:
        found: dict[str, list[Tensor]] = {}
        for batch in self.samples.batches(rows):
            if self.recognizer is not None:
                found.setdefault(CLASSES, []).append(self.recognizer.classes(batch))
            images = batch.to(self.device)
            for name, extractor in self.extractors.items():
                for layer, values in zip(extractor.features_list, extractor(images), strict=True):
                    found.setdefault(f"{name}/{layer}", []).append(values.float().cpu())
        return {key: torch.cat(values) for key, values in found.items()}


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror or first_line(error)}): start the same command again"
        ) from error
    except SafetensorError as error:
        file.unlink(missing_ok=True)
        raise UserError(f"{file}: was damaged, and has been deleted: start the same command again") from error


@torch.no_grad()
def image_features(batches: Iterable[Tensor], extractor: FeatureExtractorBase, device: torch.device) -> Tensor:
    """Pooled features (n, d) of uint8 images (B, 3, P, P), on the CPU."""
    return torch.cat([extractor(batch.to(device))[0].float().cpu() for batch in batches])
