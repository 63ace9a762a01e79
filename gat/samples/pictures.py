"""Pictures of samples: grids, and the frames of a path as .gif, .mp4 or a sheet. Each is written whole or not at all.

Shapes: n images, F frames, P image side in pixels.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.utils import save_image

from gat.errors import UserError, require_choice
from gat.files import replacing, told

LEAST_PX = 256
LEAST_CELL_PX = 64
PADDING_PX = 1
GIF_MAX_FPS = 50  # browsers show shorter frames longer
GIF_TICKS_PER_S = 100
GIF_MS_PER_TICK = 10
PALETTE = 256
PALETTE_STRIDE = 4
CRF = "18"  # x264's quality: hardly to be told from the original
MAX_DENOMINATOR = 1001  # of frames per second: 30000/1001, say


def enlarged(images: Tensor, least_px: int = LEAST_PX) -> Tensor:
    """Images (n, 3, P, P) of at least ``least_px`` pixels a side: each pixel a square, larger ones as they are."""
    factor = max(1, -(-least_px // images.shape[-1]))
    return images.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)


def save_grid(images: Tensor, file: Path, columns: int) -> None:
    """Write a PNG of images (n, 3, P, P), uint8, in rows of ``columns``, one black pixel around each."""
    if columns < 1:
        raise UserError(f"columns={columns} must be at least 1")
    with picture(file) as stream:
        save_image(images.float() / 255, stream, format="png", nrow=columns, padding=PADDING_PX)


def save_contact_sheet(frames: Tensor, file: Path, columns: int) -> None:
    """Write a PNG of frames (F, 3, P, P), uint8, in reading order, of at least 64 pixels a side."""
    save_grid(enlarged(frames, LEAST_CELL_PX), file, columns)


def save_frames(frames: Tensor, file: Path, *, fps: float, columns: int) -> None:
    """Write frames (F, 3, P, P), uint8, as the suffix of ``file`` says: .gif and .mp4 (``fps``), or .png (``columns``).

    :class:`UserError` for another suffix, and for what :func:`save_gif`, :func:`save_mp4` and :func:`save_grid` refuse.
    """
    suffix = file.suffix.lower()
    require_choice(f"{file}: suffix", suffix, (".gif", ".mp4", ".png"))
    if suffix == ".png":
        save_contact_sheet(frames, file, columns)
    else:
        (save_gif if suffix == ".gif" else save_mp4)(frames, file, fps)


def save_gif(frames: Tensor, file: Path, fps: float) -> None:
    """Write frames (F, 3, P, P), uint8, as an endless GIF of at least 256 pixels a side.

    Equal frames in succession become one, shown as long. :class:`UserError` for fps beyond 50.
    """
    if not 0 < fps <= GIF_MAX_FPS:
        raise UserError(f"fps={fps} must be positive and at most {GIF_MAX_FPS} in a .gif: use less, or an .mp4")
    ends = [round(GIF_TICKS_PER_S * i / fps) for i in range(len(frames) + 1)]
    durations_ms = [GIF_MS_PER_TICK * (end - start) for start, end in pairwise(ends)]
    images = (in_256_colours(pixels) for pixels in shown(frames))
    with picture(file) as stream:
        first = next(images)
        first.save(stream, "gif", save_all=True, append_images=images, duration=durations_ms, loop=0)


def in_256_colours(pixels: NDArray[np.uint8]) -> Image.Image:
    """An image (P, P, 3) with a palette of its own: exact for up to 256 colours, else undithered.

    The palette is that of every 16th pixel (median cut, k-means). On synthetic morphs one of all pixels took over ten times
    as long for errors a tenth smaller, one for all frames erred 1.2 to 1.8 times as much, and dithering flickered.
    """
    image = Image.fromarray(pixels)
    if image.getcolors(PALETTE) is not None:
        return image.quantize(PALETTE, Image.Quantize.MEDIANCUT)
    some = Image.fromarray(pixels[::PALETTE_STRIDE, ::PALETTE_STRIDE])
    palette = some.quantize(PALETTE, Image.Quantize.MEDIANCUT, kmeans=1)
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def save_mp4(frames: Tensor, file: Path, fps: float) -> None:
    """Write frames (F, 3, P, P), uint8, as H.264 video (yuv420p) of at least 256 pixels a side, and an even number.

    The same frames make the same bytes. :class:`UserError` without the package ``av``, and for an fps that is not positive.
    """
    if not 0 < fps < float("inf"):
        raise UserError(f"fps={fps} must be positive")
    av = import_av()
    with picture(file) as file_stream, av.open(file_stream, "w", format="mp4") as container:
        options = {"crf": CRF, "threads": "1"}
        stream = container.add_stream("libx264", Fraction(fps).limit_denominator(MAX_DENOMINATOR), options=options)
        shape = enlarged(frames[:1]).shape[2:]
        odd = [side % 2 for side in shape]
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = (side + more for side, more in zip(shape, odd, strict=True))
        for pixels in shown(frames):
            even = np.pad(pixels, [*((0, more) for more in odd), (0, 0)], "edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        container.mux(stream.encode())


def import_av() -> Any:
    """PyAV, an optional dependency; :class:`UserError` without it."""
    try:
        av = importlib.import_module("av")
    except ImportError as error:
        raise UserError("an .mp4 needs the package av: pip install av; a .gif needs none") from error
    if "libx264" not in av.codecs_available:
        raise UserError(f"av {av.__version__} was built without libx264: pip install av; a .gif needs none")
    return av


def shown(frames: Tensor) -> Iterator[NDArray[np.uint8]]:
    """Frames (F, 3, P, P) enlarged, one after another (P', P', 3)."""
    for frame in frames:
        yield enlarged(frame[None])[0].permute(1, 2, 0).contiguous().cpu().numpy()


@contextmanager
def picture(file: Path) -> Iterator[BinaryIO]:
    """A stream that becomes ``file``, whose folder is made; :class:`UserError` where it cannot be written."""
    with told(str(file), "ask for it again"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as stream:
            yield stream
