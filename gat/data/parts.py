"""Parts of a prepared set: Arrow streams of up to 4,096 samples each, memory-mapped, with random access.

    part-00000.arrow   columns moments (fixed-size list of float16), image (binary: an image file), label, source (row there)
    part-00000.json    what was written: rows, bytes, SHA-256, images left out

A part appears under its name only when it is whole; it is there once its ``.json`` is. Any Arrow reader opens one, Hugging
Face's ``datasets.Dataset.from_file`` too. Shapes: n samples, C latent channels, H latent side, P image side in pixels.
"""

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gat.data.codec import decode_image
from gat.errors import UserError
from gat.files import replacing, write_json

CHUNK_ROWS = 256
REMEDY = "delete it, its .json and manifest.json, and prepare again (the other parts are kept)"


@dataclass(frozen=True)
class PartInfo:
    """What a part holds, and the sums from which the error of its moments follows."""

    number: int
    rows: int
    bytes: int
    sha256: str
    skipped: list[str] = field(default_factory=list)
    upscaled: int = 0
    squared_error: float = 0.0
    squares: float = 0.0

    def write(self, folder: Path) -> None:
        """Write the part's ``.json``."""
        write_json(info_file(folder, self.number), asdict(self))


def part_file(folder: Path, number: int) -> Path:
    """Where a part's samples are."""
    return folder / f"part-{number:05d}.arrow"


def info_file(folder: Path, number: int) -> Path:
    """Where it stands what they are; written last."""
    return folder / f"part-{number:05d}.json"


def read_info(folder: Path, number: int) -> PartInfo:
    """Return the info of a finished part; raise :class:`UserError` if its file is damaged."""
    file = info_file(folder, number)
    try:
        return PartInfo(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot be read ({error}): delete it, and prepare again") from error


class _Hashed:
    """A stream that counts and hashes what goes through it."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.hash, self.bytes = stream, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self.hash.update(data)
        self.bytes += len(data)
        return self.stream.write(data)

    def flush(self) -> None:
        self.stream.flush()

    def tell(self) -> int:
        return self.bytes


class PartWriter:
    """Samples into an Arrow stream, in chunks of 256 (so that memory is bounded whatever the part's size)."""

    def __init__(self, stream: BinaryIO, moments_shape: tuple[int, ...]) -> None:
        self.sink = _Hashed(stream)
        size = int(np.prod(moments_shape))
        self.schema = pa.schema(
            {"moments": pa.list_(pa.float16(), size), "image": pa.binary(), "label": pa.int64(), "source": pa.int64()}
        )
        self.writer = pa.ipc.new_stream(pa.PythonFile(self.sink, "w"), self.schema)
        self.rows = 0
        self.waiting: list[tuple[NDArray[np.float16], bytes, int, int]] = []

    def add(
        self, moments: NDArray[np.float16], images: Iterable[bytes], labels: Iterable[int], sources: Iterable[int]
    ) -> None:
        """Add n samples: moments (n, 2C, H, H)."""
        self.waiting += zip(moments, images, labels, sources, strict=True)
        while len(self.waiting) >= CHUNK_ROWS:
            self._write_chunk()

    def close(self) -> None:
        """Write what is left."""
        while self.waiting:
            self._write_chunk()
        self.writer.close()

    def _write_chunk(self) -> None:
        chunk, self.waiting = self.waiting[:CHUNK_ROWS], self.waiting[CHUNK_ROWS:]
        moments, images, labels, sources = zip(*chunk, strict=True)
        flat = pa.array(np.stack(moments).reshape(-1))
        columns = [pa.FixedSizeListArray.from_arrays(flat, self.schema.field("moments").type.list_size)]
        columns += [
            pa.array(values, type=self.schema.types[i]) for i, values in enumerate((images, labels, sources), 1)
        ]
        self.writer.write_batch(pa.record_batch(columns, schema=self.schema))
        self.rows += len(chunk)


@contextmanager
def writing_part(folder: Path, number: int, moments_shape: tuple[int, ...]) -> Iterator[PartWriter]:
    """A writer whose part is there, whole and on disk, when the block ends without an error."""
    with replacing(part_file(folder, number)) as stream:
        writer = PartWriter(stream, moments_shape)
        yield writer
        writer.close()


class Part:
    """A part, memory-mapped. :class:`UserError` if it is not what it should be."""

    def __init__(self, file: Path, rows: int, moments_shape: tuple[int, int, int]) -> None:
        self.file = file
        try:
            table = read_table(file, rows, int(np.prod(moments_shape)))
            self.moments = [
                chunk.values.to_numpy().reshape(-1, *moments_shape) for chunk in table.column("moments").chunks
            ]
            self._images, self._labels = table.column("image").chunks, table.column("label")
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{file}: not the part that its manifest lists ({reason}): {REMEDY}") from error

    def labels(self) -> NDArray[np.int64]:
        """Classes (n,) of all samples."""
        return self._labels.to_numpy()

    def moment(self, row: int) -> NDArray[np.float16]:
        """Posterior mean and log-variance (2C, H, H) of a sample."""
        chunk, place = divmod(row, CHUNK_ROWS)
        return self.moments[chunk][place]

    def encoded(self, row: int) -> memoryview:
        """The image file of a sample."""
        chunk, place = divmod(row, CHUNK_ROWS)
        return memoryview(self._images[chunk][place].as_buffer())

    def image(self, row: int, side_px: int) -> NDArray[np.uint8]:
        """Image (P, P, 3) of a sample; :class:`UserError` for bytes that are no image of that side."""
        try:
            return decode_image(self.encoded(row), side_px)
        except ValueError as error:
            raise UserError(f"{self.file}: row {row} has no image ({error}): {REMEDY}") from error


def read_table(file: Path, rows: int, size: int) -> Any:
    """The Arrow table of a part, memory-mapped; ValueError if it has not ``rows`` rows of ``size`` moments."""
    with file.open("rb") as stream:  # not by pa.memory_map, which has the kernel read whole parts ahead
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    table = pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()
    kind = table.schema.field("moments").type
    if table.num_rows != rows or kind != pa.list_(pa.float16(), size):
        raise ValueError(f"{table.num_rows} rows of {kind}, not {rows} of {size} float16")
    return table
