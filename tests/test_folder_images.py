"""Kinds of image files, and what becomes of each: the colours of its RGB, or a message that names it."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gat.data.folder import CorruptImageError, open_image_folder, read_image
from gat.errors import UserError

Colour = tuple[int, int, int]
RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8))


# corrupt ones


def corrupt_files(folder: Path) -> None:
    for name in ("cut.jpg", "cut.png", "cut.bmp", "cut.gif", "cut.webp", "cut.tif", "cut.ppm"):
        NOISE.save(folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    NOISE.save(folder / "odd.tif")
    data = (folder / "odd.tif").read_bytes()
    offset_as_long, offset_as_bytes = b"\x11\x01\x04\x00", b"\x11\x01\x07\x00"
    assert data.count(offset_as_long) == 1
    (folder / "odd.tif").write_bytes(data.replace(offset_as_long, offset_as_bytes))
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>404 not found</html>")
    (folder / "bytes.webp").write_bytes(bytes(range(200)))
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(folder / "float.tif")


@pytest.mark.parametrize(
    "name",
    [
        *(f"cut.{kind}" for kind in ("jpg", "png", "bmp", "gif", "webp", "tif", "ppm")),
        *("empty.png", "text.jpg", "bytes.webp", "odd.tif", "float.tif"),
    ],
)
def test_corrupt_image_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "ant").mkdir()
    corrupt_files(tmp_path / "ant")
    source = open_image_folder(tmp_path)
    with pytest.raises(CorruptImageError, match=rf"^{tmp_path}/ant/{name}: not a readable image \(.+\)$") as error:
        source.image(list(source.files).index(f"ant/{name}"))
    assert isinstance(error.value, UserError)


def test_file_that_has_gone_is_no_corrupt_image(tmp_path: Path) -> None:
    """Skipping it would lose a good image, and with a disk that fails many."""
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "link.png").symlink_to("nowhere.png")
    with pytest.raises(
        UserError, match=r"ant/link\.png: cannot be opened \(No such file or directory\): mend that"
    ) as error:
        open_image_folder(tmp_path).image(0)
    assert not isinstance(error.value, CorruptImageError)


# the others


def palette(transparency: bytes | int | None = None) -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def images_of_every_mode() -> Iterator[tuple[str, Image.Image, str, Colour]]:
    yield "grey", Image.new("L", (4, 4), 100), "png", (100, 100, 100)
    yield "grey with alpha", Image.new("LA", (4, 4), (100, 7)), "png", (100, 100, 100)
    yield "black and white", Image.new("1", (4, 4), 1), "png", (255, 255, 255)
    yield "palette", palette(), "png", (10, 20, 30)
    yield "palette with a transparent colour", palette(1), "png", (10, 20, 30)
    yield "palette with alpha", palette(bytes((255, 7))), "png", (10, 20, 30)
    yield "palette gif", palette(1), "gif", (10, 20, 30)
    yield "alpha", Image.new("RGBA", (4, 4), (10, 20, 30, 128)), "png", (10, 20, 30)
    yield "nothing but alpha", Image.new("RGBA", (4, 4), (10, 20, 30, 0)), "png", (10, 20, 30)
    yield "cmyk tif", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "tif", (255, 0, 0)
    yield "cmyk jpg", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "jpg", (254, 0, 0)  # JPEG's red
    yield "one pixel", Image.new("RGB", (1, 1), (1, 2, 3)), "png", (1, 2, 3)
    sixteen = Image.fromarray(np.full((4, 4), 0x8040, np.uint16))  # the high byte is 0x80
    for suffix in ("png", "tif", "pgm"):
        yield f"16 bit {suffix}", sixteen, suffix, (0x80, 0x80, 0x80)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"), [pytest.param(*rest, id=name) for name, *rest in images_of_every_mode()]
)
def test_every_mode_becomes_rgb(tmp_path: Path, image: Image.Image, suffix: str, expected: Colour) -> None:
    image.save(tmp_path / f"0.{suffix}", **{k: v for k, v in image.info.items() if k == "transparency"})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        rgb = read_image(tmp_path / f"0.{suffix}")
    assert told == []
    assert (rgb.mode, rgb.size) == ("RGB", image.size)
    assert np.abs(np.asarray(rgb).astype(int) - expected).max() <= (1 if suffix == "jpg" else 0)


def test_sixteen_bit_grey_at_its_ends(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256, 0x1234, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "0.png")
    assert np.asarray(read_image(tmp_path / "0.png"))[0, :, 1].tolist() == [0, 0, 1, 0x12, 255]


def png_of_sixteen_bits(pixels: "np.ndarray[tuple[int, int, int], np.dtype[np.uint16]]") -> bytes:
    """A PNG file (height, width, 3), which Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_sixteen_bit_colours(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 65536, (3, 2, 3), np.uint16)
    (tmp_path / "0.png").write_bytes(png_of_sixteen_bits(pixels))
    assert np.array_equal(np.asarray(read_image(tmp_path / "0.png")), pixels >> 8)


def test_first_frame_of_several(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for name in ("0.gif", "0.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with Image.open(tmp_path / name) as image:
            assert getattr(image, "n_frames", 1) == 3
        assert (np.asarray(read_image(tmp_path / name)) == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_orientation_is_not_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    image = Image.new("L", (6, 4))
    image.paste(255, (0, 0, 3, 4))  # the left half is white
    image.save(tmp_path / f"0.{suffix}", exif=exif)
    grey = np.asarray(read_image(tmp_path / f"0.{suffix}"))[..., 0]
    assert grey.shape == (4, 6)
    assert (grey[:, :2] > 200).all()
    assert (grey[:, 4:] < 50).all()


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limit at 100 pixels, in place of 89 million."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("side", [10, 11, 14])
def test_large_images_are_read_without_a_warning(tmp_path: Path, side: int) -> None:
    """Up to twice the limit."""
    Image.new("RGB", (side, side), (1, 2, 3)).save(tmp_path / "0.png")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert read_image(tmp_path / "0.png").size == (side, side)
    assert told == []


@pytest.mark.usefixtures("limit")
def test_huge_images_are_taken_for_bombs(tmp_path: Path) -> None:
    Image.new("RGB", (15, 15), (1, 2, 3)).save(tmp_path / "0.png")
    with pytest.raises(CorruptImageError, match=r"0\.png: not a readable image \(.*225 pixels.*bomb"):
        read_image(tmp_path / "0.png")
