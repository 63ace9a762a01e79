"""How a number was measured. Numbers of different protocols are not comparable, and are never compared here.

The authors used two (their ``train.py`` and ``metrics/``; their ``generate.py`` with ADM's evaluator): ``training`` and
``paper``. ``corrected`` is ours: the decoder that the latents were made for, no truncation, rounding to the nearest grey
level, the unbiased covariance, every class equally often.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from gat.config import EvaluationConfig
from gat.errors import UserError, require_choice

CONVERSIONS = ("rounded", "truncated")
COVARIANCES = ("N", "N-1")
LABELS = ("uniform", "balanced")
OWN_DECODER = "own"
GIVEN = "given"
INCEPTION = "inception-v3-compat"
SD_VAE_MSE = "stabilityai/sd-vae-ft-mse"  # what the release trains on: the own decoder of its checkpoints

Rules = tuple[int, str, float, str, str, str]
NAMED: dict[Rules, str] = {
    (5_000, OWN_DECODER, 0.0, "rounded", "N", "uniform"): "training",
    (50_000, "sd-vae-ft-ema", 0.3, "truncated", "N-1", "uniform"): "paper",
    (50_000, OWN_DECODER, 0.0, "rounded", "N-1", "balanced"): "corrected",
}


@dataclass(frozen=True)
class Protocol:
    """Everything that changes a number without changing the generator, but for the seed of its samples."""

    samples: int
    """Generated images."""
    decoder: str
    """``own``, of the autoencoder whose latents were trained on; or the one used instead, ``name@digest`` of its weights; or
    ``given``: images from the user, whose decoder is unknown."""
    truncation: float
    """psi; 0 is off."""
    to_uint8: str
    """``rounded``: 127.5 x + 128, truncated; ``truncated``: 127.5 x + 127.5, truncated, half a grey level darker."""
    covariance: str
    """Of the samples' features: divided by ``N`` or ``N-1``."""
    labels: str
    """``uniform`` (drawn) or ``balanced``."""
    extractor: str
    """torch-fidelity's name of the features, and the first 12 digits of its weights' SHA-256 after an @."""
    reference: str
    """Real images: source, number and digest; or a file's checksum; of other numbers than distances, how many of them."""
    image_px: int
    """Side of the images that are compared."""

    @property
    def name(self) -> str:
        """``training``, ``paper`` or ``corrected`` if it has that one's rules and Inception's features, else ``own``."""
        decoder, extractor = self.decoder.partition("@")[0], self.extractor.partition("@")[0]
        rules = (self.samples, decoder, self.truncation, self.to_uint8, self.covariance, self.labels)
        return NAMED.get(rules, "own") if extractor == INCEPTION else "own"

    @property
    def id(self) -> str:
        """Hash of everything: equal for comparable numbers, and for these alone."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    def as_record(self) -> dict[str, Any]:
        """For JSON: the fields, with name and id."""
        return {"name": self.name, "id": self.id} | asdict(self)


def from_record(record: dict[str, Any]) -> Protocol:
    """The protocol of :meth:`Protocol.as_record`; :class:`UserError` if that was altered."""
    try:
        protocol = Protocol(**{f.name: record[f.name] for f in fields(Protocol)})
    except (KeyError, TypeError) as error:
        raise UserError(f"a record's protocol lacks {error}: measure the number again") from error
    if protocol.id != record.get("id"):
        raise UserError(f"a record's protocol was altered: its id is {record.get('id')}, by its fields {protocol.id}")
    return protocol


def check_rules(config: EvaluationConfig) -> None:
    """:class:`UserError` for settings of the protocol that cannot be."""
    require_choice("evaluation.to_uint8", config.to_uint8, CONVERSIONS)
    require_choice("evaluation.covariance", config.covariance, COVARIANCES)
    require_choice("evaluation.labels", config.labels, LABELS)
    if config.samples == 1:
        raise UserError("evaluation.samples=1: one sample has no covariance: use at least 2")


def require_same(protocols: Iterable[Protocol], where: str) -> Protocol | None:
    """The one protocol of numbers that stand together ``where``; :class:`UserError` naming what differs. None of none."""
    first: Protocol | None = None
    for protocol in protocols:
        if first is not None and protocol.id != first.id:
            differing = [f.name for f in fields(Protocol) if getattr(protocol, f.name) != getattr(first, f.name)]
            told = ", ".join(f"{name} {getattr(first, name)!r} and {getattr(protocol, name)!r}" for name in differing)
            raise UserError(
                f"{where}: numbers of different protocols are not comparable ({told}): measure them alike, with "
                "experiments/evaluate.py"
            )
        first = protocol
    return first
