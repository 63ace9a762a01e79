"""Samples on disk, in three forms of the same images.

    png         OUT/000000.png ..., OUT/labels.csv (file,class)
    webdataset  OUT/samples-000000.tar ...: of each sample 000000.png, .cls (class) and .json (facts, index, class)
    npz         OUT.npz as ADM's evaluation reads it: arr_0 (N, P, P, 3) uint8, arr_1 (N,) int64 classes; np.savez's bytes

OUT/samples.json says with which settings, and is written first. The work is cut into shards, which any number of processes
share (:mod:`gat.division`). A killed one's shard is made anew from its first sample, so that the bytes do not depend on who
made what. Until an npz is there, its shards take its size once more. N samples, b of a batch, P image side in pixels.
"""

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gat.data.codec import encode_image
from gat.division import divide
from gat.errors import UserError, require_choice
from gat.files import HEX_DIGITS, one_at_a_time, remove_leftovers, replacing, told, write_json
from gat.platform import cores
from gat.processes import ALONE, Processes

DIGITS = 6
ENCODERS = 8  # threads, at most
SHOWN = 60  # characters of a value in a message
ImagesOf = Callable[[range], Iterator[NDArray[np.uint8]]]


class AllThereError(Exception):
    """Another process has finished the samples meanwhile, and taken away what they were made of."""


@dataclass
class Writer(ABC):
    """One form of the samples: ``labels`` (N,) int64, images by ``images_of``, ``facts`` about how they are made."""

    out: Path
    labels: NDArray[np.int64]
    images_of: ImagesOf
    facts: dict[str, Any]
    shard: int
    kind: ClassVar[str]

    @abstractmethod
    def unit(self, number: int) -> Path:
        """The file that is there when a shard is."""

    @abstractmethod
    def make(self, number: int, rows: range) -> None:
        """Write a shard, of samples ``rows``: :meth:`unit` last, and that whole or not at all."""

    @abstractmethod
    def products(self) -> list[Path]:
        """The files that are asked for, the last one written last."""

    @abstractmethod
    def assemble(self) -> None:
        """Make of the shards what is made of all of them."""

    def __post_init__(self) -> None:
        self.lock = self.out / ".lock"
        self.shards = [range(len(self.labels))[i : i + self.shard] for i in range(0, len(self.labels), self.shard)]
        self.units = [self.unit(number) for number in range(len(self.shards))]

    def name(self, number: int) -> str:
        """A sample's or shard's number, with leading zeros so that names sort."""
        return f"{number:0{max(DIGITS, len(str(len(self.labels) - 1)))}d}"

    def encoded(self, rows: range) -> Iterator[tuple[int, bytes]]:
        """Samples with their PNG files; ValueError unless ``images_of`` yields as many as it is asked for."""
        encode = partial(encode_image, image_format="png", quality=None)
        with ThreadPoolExecutor(min(cores(), ENCODERS)) as pool:
            images = (image for batch in self.images_of(rows) for image in pool.map(encode, batch))
            yield from zip(rows, images, strict=True)

    def settings(self) -> dict[str, Any]:
        """What ``samples.json`` holds."""
        labels = hashlib.sha256(self.labels.tobytes()).hexdigest()
        own = {"kind": self.kind, "count": len(self.labels), "shard": self.shard, "labels_sha256": labels}
        assert not own.keys() & self.facts.keys()
        return own | self.facts

    def claim(self) -> None:
        """Write ``samples.json``; :class:`UserError` if OUT holds samples of other settings, or something else."""
        file = self.out / "samples.json"
        self.out.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            with one_at_a_time(self.lock, f"beginning {self.out}"):
                self._begin(file)
        if changed := differences(file, self.settings()):
            some = "; ".join(changed[:3])
            raise UserError(f"{self.out}: holds samples of other settings ({some}): name another folder, or delete it")

    def _begin(self, file: Path) -> None:
        if file.exists():
            return
        others = [other for other in self.out.iterdir() if not other.name.startswith(".")]
        for other in filter(Path.exists, [*others, self.products()[-1]]):
            raise UserError(f"{other}: is in the way, and no samples.json says what it is: name a new or empty folder")
        write_json(file, self.settings())

    def finished(self) -> bool:
        """Whether all that is asked for is there."""
        return all(file.exists() for file in reversed(self.products()))

    def share(self) -> None:
        """Take part in making the shards until all are there."""

        def make(number: int) -> None:
            if self.finished():
                raise AllThereError
            self.make(number, self.shards[number])

        try:
            divide(self.units, make)
        except (AllThereError, OSError):
            if not self.finished():
                raise

    def close(self) -> None:
        """Assemble the shards, unless another process has; delete temporary folders and what killed processes left."""
        folders = [self.out / ".shards", self.out / ".locks"]
        if self.finished() and not any(place.exists() for place in (self.lock, *folders, *self.leftovers())):
            return
        with one_at_a_time(self.lock, f"finishing {self.out}"):
            if not self.finished():
                self.assemble()
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
            for file in (*self.leftovers(), self.lock):
                file.unlink(missing_ok=True)

    def leftovers(self) -> list[Path]:
        """Return the half-written files that killed processes left in OUT, and no files of others."""
        names = {f".{file.name}" for file in (self.out / "samples.json", *self.units, *self.products())}
        return [file for file in self.out.glob(f".*.{HEX_DIGITS}") if file.stem in names and file.is_file()]


class PngWriter(Writer):
    """A file per sample, and a table of their classes. A shard is there when its (empty) marker is."""

    kind = "png"

    def unit(self, number: int) -> Path:
        """The shard's marker."""
        return self.out / ".shards" / self.name(number)

    def make(self, number: int, rows: range) -> None:
        """The shard's files, each whole or not at all, and its marker."""
        for row, png in self.encoded(rows):
            with replacing(self.out / f"{self.name(row)}.png") as stream:
                stream.write(png)
        with replacing(self.unit(number)):
            pass

    def products(self) -> list[Path]:
        """The images, and the table."""
        return [*(self.out / f"{self.name(row)}.png" for row in range(len(self.labels))), self.out / "labels.csv"]

    def assemble(self) -> None:
        """The table."""
        *images, file = self.products()
        lines = [f"{image.name},{label}\n" for image, label in zip(images, self.labels.tolist(), strict=True)]
        with replacing(file) as stream:
            stream.write("".join(["file,class\n", *lines]).encode())


class WebDatasetWriter(Writer):
    """A tar file per shard; the same samples make the same bytes."""

    kind = "webdataset"

    def unit(self, number: int) -> Path:
        """The tar file itself."""
        return self.out / f"samples-{self.name(number)}.tar"

    def make(self, number: int, rows: range) -> None:
        """Three members per sample, one after another."""
        with replacing(self.unit(number)) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
            for row, png in self.encoded(rows):
                label = int(self.labels[row])
                facts = json.dumps(self.facts | {"index": row, "class": label}, sort_keys=True)
                for suffix, content in (("png", png), ("cls", str(label).encode()), ("json", facts.encode())):
                    member = tarfile.TarInfo(f"{self.name(row)}.{suffix}")  # of user 0, of 1970
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))

    def products(self) -> list[Path]:
        """The tar files."""
        return self.units

    def assemble(self) -> None:
        """Nothing: they are made of nothing else."""


class NpzWriter(Writer):
    """A zip archive of two arrays, made of a .npy file per shard; of these one batch or one shard is in memory."""

    kind = "npz"

    def unit(self, number: int) -> Path:
        """The shard's images."""
        return self.out / ".shards" / f"{self.name(number)}.npy"

    def make(self, number: int, rows: range) -> None:
        """The shard's images, batch by batch."""
        written = 0
        with replacing(self.unit(number)) as stream:
            for batch in self.images_of(rows):
                assert batch.dtype == np.uint8
                if not stream.tell():
                    write_header(stream, len(rows), batch)
                stream.write(np.ascontiguousarray(batch).data)
                written += len(batch)
            if written != len(rows):
                raise ValueError(f"{written} images for {rows}")

    def products(self) -> list[Path]:
        """The archive."""
        return [self.out.with_name(f"{self.out.name}.npz")]

    def assemble(self) -> None:
        """Write the archive: the shards' images one after another, then the classes."""
        (file,) = self.products()
        remove_leftovers(file)
        with replacing(file) as stream, zipfile.ZipFile(stream, "w") as archive:
            with archive.open("arr_0.npy", "w", force_zip64=True) as member:
                write_header(member, len(self.labels), np.load(self.units[0], mmap_mode="r"))
                for unit in self.units:
                    member.write(np.load(unit, mmap_mode="r").data)
            with archive.open("arr_1.npy", "w", force_zip64=True) as member:
                npy.write_array(member, self.labels)


WRITERS: dict[str, type[Writer]] = {writer.kind: writer for writer in (PngWriter, WebDatasetWriter, NpzWriter)}
KINDS = tuple(WRITERS)


def write_header(stream: Any, count: int, images: NDArray[np.uint8]) -> None:
    """The beginning of a .npy file of ``count`` images like ``images`` (b, P, P, 3)."""
    npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (count, *images.shape[1:])})


def differences(file: Path, here: dict[str, Any]) -> list[str]:
    """Return how a ``samples.json`` differs from the settings ``here``; raise :class:`UserError` if it cannot be read."""
    try:
        there = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error}): delete its folder, or name another one") from error

    def value(settings: dict[str, Any], name: str) -> str:
        return json.dumps(settings[name], sort_keys=True) if name in settings else "nothing"

    both = {name: (value(there, name), value(here, name)) for name in here | there}
    return [f"{name}: {old[:SHOWN]}, not {new[:SHOWN]}" for name, (old, new) in both.items() if old != new]


def write_samples(
    out: Path,
    kind: str,
    count: int,
    labels: NDArray[np.int64],
    images_of: ImagesOf,
    facts: dict[str, Any],
    shard: int = 1000,
    processes: Processes = ALONE,
) -> list[Path]:
    """Write ``count`` samples under ``out`` in the form ``kind``; the files, the same in every process.

    ``labels`` (count,); ``images_of(rows)`` yields uint8 batches (b, P, P, 3) of those rows in order; ``facts``: settings as
    JSON knows them; ``shard``: samples per shard. What is there of the same settings is kept. :class:`UserError` for an
    unknown kind, a count or shard below 1, other samples at ``out``, a full disk, missing permissions.
    """
    require_choice("kind", kind, KINDS)
    for name, value in (("count", count), ("shard", shard)):
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1")
    assert labels.shape == (count,)
    out = out.with_suffix("") if kind == "npz" and out.suffix == ".npz" else out
    writer = WRITERS[kind](out, np.ascontiguousarray(labels, np.int64), images_of, facts, shard)
    with told(str(out), "the same command goes on where it was"):
        with processes.main_first():
            writer.claim()
        if not writer.finished():
            writer.share()
        processes.wait()
        if processes.is_main:
            writer.close()
        processes.wait()
    return writer.products()
