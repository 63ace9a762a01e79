"""The making of parts: what they hold, what corrupt images do to them, and when they are let go of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from gat.data.autoencoder import encode_moments
from gat.data.claims import Claims, missing_parts, under_way
from gat.data.folder import open_image_folder
from gat.data.images import to_signed
from gat.data.making import CorruptPart, Maker, Tally
from gat.data.parts import PartInfo, part_file, read_info
from gat.errors import UserError
from tests.data_helpers import random_autoencoder
from tests.preparing import (
    COUNT,
    IMAGES,
    Case,
    decoded,
    files_of_parts,
    finished_parts,
    in_the_middle,
    make_case,
    names_in,
    parts_of_four,
)

MOMENTS_SHAPE = (8, 8, 8)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """Three parts of four images."""
    parts_of_four(monkeypatch)
    return make_case(tmp_path)


def maker_of(case: Case, **changes: Any) -> Maker:
    """What makes the parts of the case, into its cache."""
    case.cache.mkdir(exist_ok=True)
    maker = Maker(
        case.cache,
        open_image_folder(case.root),
        case.data,
        random_autoencoder(),
        MOMENTS_SHAPE,
        batch_size=3,
        bf16=False,
        workers=0,
    )
    return replace(maker, **changes)


def finish(folder: Path, part: int) -> None:
    PartInfo(part, rows=4, bytes=0, sha256="").write(folder)


# making


def test_part_holds_its_images_in_order(case: Case) -> None:
    assert maker_of(case).make() == []
    assert finished_parts(case.cache) == [0, 1, 2]
    table = pa.ipc.open_stream(part_file(case.cache, 1).read_bytes()).read_all()
    assert table.column_names == ["moments", "image", "label", "source"]
    assert table.column("source").to_pylist() == [4, 5, 6, 7]
    assert table.column("label").to_pylist() == [1] * 4
    assert np.array_equal(decoded(table.column("image").to_pylist()), IMAGES[4:8])
    with torch.no_grad():
        direct = random_autoencoder().encode(to_signed(IMAGES[4:8])).latent_dist.parameters
    moments = torch.from_numpy(table.column("moments").combine_chunks().values.to_numpy().astype(np.float32))
    torch.testing.assert_close(moments.view(4, *MOMENTS_SHAPE), direct, rtol=2**-11, atol=1e-6)


def test_info_says_what_a_part_holds(case: Case) -> None:
    Image.new("L", (20, 50)).save(case.root / "ant" / "1.png")
    maker_of(case).make()
    first = encode_moments(random_autoencoder(), to_signed(IMAGES[4:7])).double()
    error = first.half().double() - first
    ant, bee = read_info(case.cache, 0), read_info(case.cache, 1)
    assert (ant.number, ant.rows, ant.skipped, ant.upscaled) == (0, 4, [], 1)
    assert (bee.number, bee.rows, bee.skipped, bee.upscaled) == (1, 4, [], 0)
    assert bee.bytes == part_file(case.cache, 1).stat().st_size
    assert bee.squares == pytest.approx(float(first.square().sum()))
    assert bee.squared_error == pytest.approx(float(error.square().sum()), rel=1e-6)


def test_corrupt_images_hold_their_part_back(case: Case) -> None:
    case.corrupt("bee/0.png", "bee/3.png")
    (refused,) = maker_of(case).make()
    assert isinstance(refused, CorruptPart)
    assert refused.number == 1
    assert [error.split(":")[0] for error in refused.errors] == [f"{case.root}/bee/{i}.png" for i in (0, 3)]
    assert finished_parts(case.cache) == [0, 2]
    assert under_way(case.cache, 3) == 0


def test_corrupt_images_are_skipped(case: Case) -> None:
    case.corrupt("bee/0.png", "bee/3.png")
    assert maker_of(case, data=replace(case.data, on_corrupt="skip")).make() == []
    assert finished_parts(case.cache) == [0, 1, 2]
    info = read_info(case.cache, 1)
    assert info.rows == 2
    assert [error.split(":")[0] for error in info.skipped] == [f"{case.root}/bee/{i}.png" for i in (0, 3)]
    table = pa.ipc.open_stream(part_file(case.cache, 1).read_bytes()).read_all()
    assert table.column("source").to_pylist() == [5, 6]


def test_parts_of_others_are_left_alone(case: Case) -> None:
    maker = maker_of(case)
    others = Claims(case.cache, [1], COUNT, batch_size=3)
    assert list(others) == [[4, 5, 6], [7]]
    partial = case.cache / ".part-00001.arrow.0123abcd"
    partial.touch()
    assert maker.make() == []
    assert missing_parts(case.cache, COUNT) == [1]
    assert partial.exists()
    others.release(1)
    before = files_of_parts(case.cache)
    maker.make()
    assert finished_parts(case.cache) == [0, 1, 2]
    assert before.items() <= files_of_parts(case.cache).items()


def test_error_of_the_moments_by_hand() -> None:
    tally = Tally()
    tally.compare(torch.tensor([3.0, 4.0]).half(), torch.tensor([3.0, 5.0]))
    assert (tally.squared_error, tally.squares) == (1.0, 34.0)


def test_part_is_released_when_it_is_made(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of part 1, part 0 is free and part 2 not yet taken."""
    held: list[int] = []
    in_the_middle(monkeypatch, lambda: held.append(under_way(case.cache, 3)))
    maker_of(case).make()
    assert held == [1]
    assert under_way(case.cache, 3) == 0


def test_error_lets_go_of_the_parts(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and not when Python drops the error with the frames that hold the locks."""

    def fail() -> None:
        raise UserError("in the middle")

    in_the_middle(monkeypatch, fail)
    with pytest.raises(UserError, match=r"in the middle") as kept:
        maker_of(case).make()
    assert under_way(case.cache, 3) == 0
    assert kept.value is not None


def test_what_a_killed_process_left_is_removed(case: Case) -> None:
    case.cache.mkdir()
    (case.cache / ".part-00001.arrow.0123abcd").write_bytes(b"half a part")
    maker_of(case).make()
    assert names_in(case.cache) == {".locks"} | {f"part-0000{i}.{kind}" for i in range(3) for kind in ("arrow", "json")}
