"""Preparation: source images -> centre crops -> posterior moments, written once and then found again.

Any number of processes, on any number of machines that share the folder, may prepare the same set: they divide its parts
among them (:mod:`gat.data.making`), and the last one writes the manifest. An interrupted preparation goes on where it was.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gat.config import AutoencoderConfig, DataConfig
from gat.data.autoencoder import weights_digest
from gat.data.claims import lock_file, missing_parts, part_count
from gat.data.crops import corrupt_message
from gat.data.identity import FORMAT_VERSION, autoencoder_name, identity, prepared_folder
from gat.data.making import CorruptPart, Maker
from gat.data.parts import Part, PartInfo, part_file, read_info
from gat.data.plan import Plan, plan, set_lock
from gat.data.prepared import LABELS, MANIFEST, SKIPPED, Manifest, PreparedSet
from gat.data.workers import workers_for
from gat.errors import UserError
from gat.files import one_at_a_time, replacing
from gat.platform import versions


def prepare(
    data: DataConfig, autoencoder: AutoencoderConfig, cache: Path, device: torch.device, workers: int | None = 0
) -> PreparedSet:
    """The prepared set of these settings, made now (together with others that are at it) if it is not there.

    ``workers``: as ``loader.workers``. Raises :class:`UserError` for every mistake in the data; finished parts stay.
    """
    folder = prepared_folder(data, autoencoder, cache)
    if not (folder / MANIFEST).exists():
        planned = plan(data, autoencoder, cache, device)
        while not make(planned, workers):
            wait(planned)
    return open_prepared(folder, data)


def open_prepared(folder: Path, data: DataConfig) -> PreparedSet:
    """The finished set; :class:`UserError` if it lacks images although ``data.on_corrupt`` is ``error``."""
    prepared = PreparedSet(folder)
    if prepared.manifest.skipped and data.on_corrupt == "error":
        raise UserError(
            f"{folder} was prepared with data.on_corrupt=skip and lacks {prepared.manifest.skipped} images (listed in its "
            f"{SKIPPED}): set data.on_corrupt=skip, or mend them and delete the folder"
        )
    return prepared


def make(planned: Plan, workers: int | None) -> bool:
    """Make the parts that nobody else is making; whoever finds all made finishes the set. Returns whether it is finished.

    Raises :class:`UserError` for corrupt images, unless they are to be skipped.
    """
    maker = Maker(
        planned.folder,
        planned.source,
        planned.data,
        planned.model,
        planned.moments_shape,
        batch_size=planned.autoencoder.batch_size,
        bf16=planned.autoencoder.encode_precision == "bf16",
        workers=workers_for(len(planned.source), workers),
    )
    refused = maker.make()
    if refused:
        raise UserError(complaint(planned, refused))
    if missing_parts(planned.folder, len(planned.source)):
        return False
    with one_at_a_time(set_lock(planned.folder), f"finishing {planned.folder}"):
        if not (planned.folder / MANIFEST).exists():
            finish(planned)
    return True


def wait(planned: Plan) -> None:
    """Until another process has let go of the first missing part: has made it, or is gone."""
    for part in missing_parts(planned.folder, len(planned.source))[:1]:
        with one_at_a_time(lock_file(planned.folder, part), f"preparing {planned.folder}"):
            pass


def complaint(planned: Plan, refused: list[CorruptPart]) -> str:
    """What is told of corrupt images."""
    errors = [error for part in refused for error in part.errors]
    count = len(planned.source)
    kept = part_count(count) - len(missing_parts(planned.folder, count))
    return (
        f"{corrupt_message(errors, count)} (what is prepared is kept: {kept} of {part_count(count)} parts; where files are "
        f"removed or added, delete {planned.folder})"
    )


def finish(planned: Plan) -> None:
    """Write what concerns all parts, the manifest last; :class:`UserError` if a class has no image left."""
    folder, source = planned.folder, planned.source
    parts = [read_info(folder, number) for number in range(part_count(len(source)))]
    shape = planned.moments_shape
    labels = np.concatenate([Part(part_file(folder, p.number), p.rows, shape).labels().copy() for p in parts])
    missing = set(range(len(source.class_names))) - set(labels.tolist())
    if missing:
        raise UserError(
            f"class {source.class_names[min(missing)]!r} has no readable image left: fill or remove its folder, and delete "
            f"{folder}"
        )
    with replacing(folder / LABELS) as stream:
        np.save(stream, labels)
    skipped = [error for part in parts for error in part.skipped]
    if skipped:
        with replacing(folder / SKIPPED) as stream:
            stream.write("".join(f"{error}\n" for error in skipped).encode())
    manifest_of(planned, parts, labels).write(folder)


def manifest_of(planned: Plan, parts: list[PartInfo], labels: NDArray[np.int64]) -> Manifest:
    """What the set is and what it was made from."""
    source, own = planned.source, planned.autoencoder
    squares = sum(part.squares for part in parts)
    return Manifest(
        format_version=FORMAT_VERSION,
        source=source.name,
        class_names=list(source.class_names),
        count=len(labels),
        skipped=sum(len(part.skipped) for part in parts),
        ignored_files=source.ignored,
        upscaled=sum(part.upscaled for part in parts),
        latent_channels=planned.moments_shape[0] // 2,
        latent_side=planned.moments_shape[1],
        image_px=planned.data.resolution_px,
        autoencoder=autoencoder_name(own),
        autoencoder_sha256=weights_digest(planned.model),
        scale=own.scale if own.scale is not None else float(planned.model.config["scaling_factor"]),
        moments_error=(sum(part.squared_error for part in parts) / squares) ** 0.5 if squares else 0.0,
        settings=identity(planned.data, own),
        versions=versions(),
        labels_sha256=hashlib.sha256(labels.tobytes()).hexdigest(),
        parts=parts,
    )
