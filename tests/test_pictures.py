"""Pictures as other programs read them: pixels, number of frames, and how long each is shown."""

import errno
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.utils import save_image

from gat.errors import UserError
from gat.samples.pictures import enlarged, save_contact_sheet, save_frames, save_gif, save_grid, save_mp4


def random_frames(count: int, px: int, seed: int = 0) -> Tensor:
    """Noise (count, 3, P, P)."""
    return torch.randint(256, (count, 3, px, px), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def morph(count: int, px: int) -> Tensor:
    """Smooth colours that turn into others (count, 3, P, P)."""
    ends = torch.nn.functional.interpolate(random_frames(2, 3).float(), size=px, mode="bicubic").clamp(0, 255)
    steps = torch.linspace(0, 1, count)[:, None, None, None]
    return torch.lerp(ends[:1], ends[1:], steps).to(torch.uint8)


def pixels_of(frames: Tensor) -> NDArray[np.uint8]:
    """(F, 3, P, P) -> (F, P, P, 3)."""
    return frames.permute(0, 2, 3, 1).numpy()


def gif_frames(file: Path) -> tuple[NDArray[np.uint8], list[int], Any]:
    """Pixels (F, P, P, 3), how long each is shown in ms, and how often all (0: endlessly)."""
    pixels, durations = [], []
    with Image.open(file) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            pixels.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        return np.stack(pixels), durations, image.info.get("loop")


# grids


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (6, 3), (7, 3), (2, 5)])
def test_grid_has_the_bytes_of_torchvision(tmp_path: Path, count: int, columns: int) -> None:
    images = random_frames(count, 9)
    save_grid(images, tmp_path / "new/grid.png", columns)
    save_image(images.float() / 255, tmp_path / "expected.png", nrow=columns, padding=1)
    assert (tmp_path / "new/grid.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_every_image_is_in_its_place(tmp_path: Path) -> None:
    images = random_frames(5, 8)
    save_grid(images, tmp_path / "grid.png", 3)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (2 * 9 + 1, 3 * 9 + 1, 3)
    for i, image in enumerate(pixels_of(images)):
        top, left = 1 + 9 * (i // 3), 1 + 9 * (i % 3)
        assert np.array_equal(grid[top : top + 8, left : left + 8], image)
    assert not grid[10:, 19:].any()


def test_contact_sheet_enlarges_in_reading_order(tmp_path: Path) -> None:
    frames = random_frames(5, 28)
    save_contact_sheet(frames, tmp_path / "sheet.png", 2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (3 * 85 + 1, 2 * 85 + 1, 3)  # 28 pixels, three times
    for i, frame in enumerate(pixels_of(frames)):
        top, left = 1 + 85 * (i // 2), 1 + 85 * (i % 2)
        assert np.array_equal(sheet[top : top + 84 : 3, left : left + 84 : 3], frame)


def test_columns_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^columns=0 must be at least 1$"):
        save_grid(random_frames(1, 4), tmp_path / "grid.png", 0)


# enlarging


@pytest.mark.parametrize(("px", "least_px", "side"), [(32, 256, 256), (28, 256, 280), (256, 256, 256), (300, 256, 300)])
def test_sides(px: int, least_px: int, side: int) -> None:
    assert enlarged(random_frames(1, px), least_px).shape == (1, 3, side, side)


def test_pixels_become_squares() -> None:
    images = random_frames(2, 3)
    larger = enlarged(images, 6)
    assert larger.dtype == torch.uint8
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert torch.equal(larger[..., dy::2, dx::2], images)


# gif


@pytest.mark.parametrize(("fps", "total_ms"), [(10, 700), (24, 290), (30, 230), (50, 140), (0.5, 14000)])
def test_gif_has_all_frames_in_their_time(tmp_path: Path, fps: float, total_ms: int) -> None:
    save_gif(morph(7, 32), tmp_path / "x.gif", fps)
    pixels, durations, loop = gif_frames(tmp_path / "x.gif")
    assert pixels.shape == (7, 256, 256, 3)
    assert sum(durations) == total_ms
    assert max(durations) - min(durations) <= 10
    assert loop == 0


def test_frames_of_few_colours_are_exact(tmp_path: Path) -> None:
    """256 colours each, all different from frame to frame: a palette shared by all could not show them."""
    frames = random_frames(5, 16)
    save_gif(frames, tmp_path / "x.gif", 10)
    assert np.array_equal(gif_frames(tmp_path / "x.gif")[0], pixels_of(enlarged(frames)))


def test_greys_are_exact(tmp_path: Path) -> None:
    frames = torch.stack([torch.arange(256).roll(i).view(1, 16, 16).expand(3, -1, -1) for i in range(3)]).to(
        torch.uint8
    )
    save_gif(frames, tmp_path / "x.gif", 10)
    assert np.array_equal(gif_frames(tmp_path / "x.gif")[0], pixels_of(enlarged(frames)))


def test_many_colours_are_close(tmp_path: Path) -> None:
    frames = morph(6, 256)
    save_gif(frames, tmp_path / "x.gif", 10)
    off = gif_frames(tmp_path / "x.gif")[0].astype(float) - pixels_of(frames)
    assert Image.fromarray(pixels_of(frames)[3]).getcolors(10_000) is None  # there are more
    assert (off**2).mean() ** 0.5 < 4.5


def test_a_frame_that_changes_little(tmp_path: Path) -> None:
    """Pillow stores the part that changes only."""
    frames = random_frames(1, 16).repeat(3, 1, 1, 1)
    frames[1, :, 3, 4] = torch.tensor([255, 0, 0])
    frames[2, :, 9, 9] = torch.tensor([0, 255, 0])
    save_gif(frames, tmp_path / "x.gif", 10)
    assert np.array_equal(gif_frames(tmp_path / "x.gif")[0], pixels_of(enlarged(frames)))


def test_equal_frames_are_shown_as_long(tmp_path: Path) -> None:
    frames = random_frames(2, 16)[[0, 0, 0, 1, 1]]
    save_gif(frames, tmp_path / "x.gif", 20)
    pixels, durations, _ = gif_frames(tmp_path / "x.gif")
    assert np.array_equal(pixels, pixels_of(enlarged(frames[[0, 3]])))
    assert durations == [150, 100]


def test_gif_of_one_frame(tmp_path: Path) -> None:
    frames = random_frames(1, 16)
    save_gif(frames, tmp_path / "x.gif", 20)
    assert np.array_equal(gif_frames(tmp_path / "x.gif")[0], pixels_of(enlarged(frames)))


@pytest.mark.parametrize("fps", [0, -1, 51, float("nan")])
def test_gif_of_no_such_speed(tmp_path: Path, fps: float) -> None:
    with pytest.raises(
        UserError, match=rf"^fps={fps} must be positive and at most 50 in a \.gif: use less, or an \.mp4$"
    ):
        save_gif(random_frames(2, 8), tmp_path / "x.gif", fps)
    assert not list(tmp_path.iterdir())


# mp4


@pytest.fixture(scope="module")
def av() -> Any:
    """PyAV, an optional dependency."""
    return pytest.importorskip("av", reason=".mp4 needs the package av, which is not installed")


@pytest.mark.parametrize(("px", "side", "fps"), [(32, 256, 24), (28, 280, 12.5), (257, 258, 30)])
def test_mp4_has_all_frames(tmp_path: Path, av: Any, px: int, side: int, fps: float) -> None:
    frames = morph(9, px)
    save_mp4(frames, tmp_path / "new/x.mp4", fps)
    with av.open(tmp_path / "new/x.mp4") as container:
        (stream,) = container.streams
        assert (stream.codec.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(fps)
        pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        assert container.duration / 1e6 == pytest.approx(9 / fps, abs=1e-3)
    assert pixels.shape == (9, side, side, 3)
    shown = pixels_of(enlarged(frames))
    more = side - shown.shape[1]  # the last row and column once more
    off = pixels - np.pad(shown, [(0, 0), (0, more), (0, more), (0, 0)], "edge").astype(float)
    assert (off**2).mean() ** 0.5 < 5
    assert (off[:, -1] ** 2).mean() ** 0.5 < 10


def test_mp4_is_reproducible(tmp_path: Path, av: Any) -> None:
    for name in ("a.mp4", "b.mp4"):
        save_mp4(morph(9, 32), tmp_path / name, 24)
    assert len({hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("fps", [0, -2, float("nan"), float("inf")])
def test_mp4_of_no_such_speed(tmp_path: Path, fps: float) -> None:
    with pytest.raises(UserError, match=rf"^fps={fps} must be positive$"):
        save_mp4(random_frames(2, 8), tmp_path / "x.mp4", fps)


def test_without_av(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"^an \.mp4 needs the package av: pip install av; a \.gif needs none$"):
        save_mp4(random_frames(2, 8), tmp_path / "x.mp4", 24)
    save_gif(random_frames(2, 8), tmp_path / "x.gif", 24)
    assert [file.name for file in tmp_path.iterdir()] == ["x.gif"]


# files


def test_suffix_decides(tmp_path: Path) -> None:
    frames = random_frames(3, 16)
    save_frames(frames, tmp_path / "a.GIF", fps=10, columns=2)
    save_frames(frames, tmp_path / "a.png", fps=10, columns=2)
    save_gif(frames, tmp_path / "b.gif", 10)
    save_contact_sheet(frames, tmp_path / "b.png", 2)
    for one, other in (("a.GIF", "b.gif"), ("a.png", "b.png")):
        assert (tmp_path / one).read_bytes() == (tmp_path / other).read_bytes()


def test_suffix_decides_for_mp4(tmp_path: Path, av: Any) -> None:
    save_frames(random_frames(3, 16), tmp_path / "a.mp4", fps=10, columns=2)
    assert (tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize("name", ["x.avi", "x", "gif"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    suffix = Path(name).suffix
    with pytest.raises(UserError, match=f"{name}: suffix='{suffix}' is unknown: choose one of .gif, .mp4, .png"):
        save_frames(random_frames(2, 8), tmp_path / name, fps=10, columns=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["gif", "mp4", "png"])
def test_disk_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, request: pytest.FixtureRequest
) -> None:
    if suffix == "mp4":
        request.getfixturevalue("av")
    file = tmp_path / f"x.{suffix}"
    file.write_bytes(b"before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("gat.files.os.fsync", full)
        with pytest.raises(UserError, match=rf"^{file}: cannot be written \(No space left on device\): make room"):
            save_frames(random_frames(2, 8), file, fps=10, columns=2)
    assert [(left.name, left.read_bytes()) for left in tmp_path.iterdir()] == [(file.name, b"before")]


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/x\.png: cannot be written \(File exists\)"):
        save_grid(random_frames(1, 8), tmp_path / "file/x.png", 1)
