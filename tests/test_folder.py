"""Image folders: what is listed, in which order, what the frozen list keeps, and what each mistake is told as."""

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from PIL import Image

from gat.data.folder import FolderSource, frozen_folder, list_images, open_image_folder
from gat.errors import UserError
from tests.data_helpers import write_image_folder


def add(file: Path, colour: tuple[int, int, int] = (1, 2, 3)) -> Path:
    """An image of 3 x 5 pixels in any folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 5), colour).save(file)
    return file


# what is listed


def test_labels_follow_sorted_folder_names(tmp_path: Path) -> None:
    write_image_folder(tmp_path, ("zebra", "ant", "newt"), per_class=2)
    source = open_image_folder(tmp_path)
    assert list(source.class_names) == ["ant", "newt", "zebra"]
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.labels.dtype == np.int64
    assert source.name == f"image_folder:{tmp_path.resolve()}"
    assert len(source) == 6


def test_images_are_found_at_any_depth_in_order(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "ant", ("red", "black"), per_class=2)
    add(tmp_path / "ant" / "any.PNG")
    add(tmp_path / "ant" / "red" / "very" / "deep.bmp")
    source = open_image_folder(tmp_path)
    names = ["any.PNG", "black/0.png", "black/1.png", "red/0.png", "red/1.png", "red/very/deep.bmp"]
    assert list(source.files) == [f"ant/{name}" for name in names]
    assert source.labels.tolist() == [0] * 6
    assert source.image(0).size == (3, 5)
    assert source.image(0).getpixel((2, 4)) == (1, 2, 3)


def test_foreign_and_hidden_files_are_counted_and_ignored(tmp_path: Path) -> None:
    write_image_folder(tmp_path, ("ant", ".cache", "ant/.thumbnails"), per_class=1)
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "ant" / "._0.png").write_bytes(b"what another system leaves beside 0.png")
    (tmp_path / "ant" / "jpg").write_bytes(b"a name without a suffix")
    (tmp_path / "readme.png").write_bytes(b"outside the class folders")
    source = open_image_folder(tmp_path)
    assert list(source.class_names) == ["ant"]
    assert list(source.files) == ["ant/0.png"]
    assert source.ignored == 4
    assert list_images(tmp_path / "ant") == (["0.png"], 3)


def test_suffixes_of_images(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    kinds = ["bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp"]
    for name in [*kinds, "JPG", "svg", "avif", "jpg.txt"]:
        (tmp_path / "ant" / f"x.{name}").touch()
    assert list_images(tmp_path / "ant") == (sorted(f"x.{name}" for name in [*kinds, "JPG"]), 3)


def test_folder_that_is_called_like_an_image(tmp_path: Path) -> None:
    add(tmp_path / "ant" / "album.png" / "0.png")
    assert list(open_image_folder(tmp_path).files) == ["ant/album.png/0.png"]


def test_same_name_in_two_classes(tmp_path: Path) -> None:
    add(tmp_path / "ant" / "0.png", (10, 0, 0))
    add(tmp_path / "bee" / "0.png", (20, 0, 0))
    source = open_image_folder(tmp_path)
    assert list(source.files) == ["ant/0.png", "bee/0.png"]
    assert [source.image(i).getpixel((0, 0)) for i in (0, 1)] == [(10, 0, 0), (20, 0, 0)]


def test_names_with_spaces_and_other_letters(tmp_path: Path) -> None:
    names = ["Ärger", "great white shark", "日本語"]
    for i, name in enumerate(sorted(names)):
        add(tmp_path / name / "my photo № 1.png", (i, i, i))
    source = open_image_folder(tmp_path)
    assert list(source.class_names) == ["great white shark", "Ärger", "日本語"]
    assert [source.image(i).getpixel((0, 0)) for i in range(3)] == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
    source.freeze(tmp_path / "files.feather")
    again = frozen_folder(tmp_path / "files.feather", tmp_path)
    assert list(again.class_names) == list(source.class_names)
    assert list(again.files) == list(source.files)


# links


def test_links_to_files_and_classes_are_followed(tmp_path: Path) -> None:
    add(tmp_path / "elsewhere" / "photo.png", (7, 7, 7))
    add(tmp_path / "stock" / "0.png", (9, 9, 9))
    root = tmp_path / "root"
    (root / "ant").mkdir(parents=True)
    (root / "ant" / "link.png").symlink_to(tmp_path / "elsewhere" / "photo.png")
    (root / "bee").symlink_to(tmp_path / "stock")
    source = open_image_folder(root)
    assert list(source.files) == ["ant/link.png", "bee/0.png"]
    assert [source.image(i).getpixel((0, 0)) for i in (0, 1)] == [(7, 7, 7), (9, 9, 9)]


@pytest.mark.parametrize("target", ["..", ".", "../../root", "../bee"])
def test_links_to_folders_inside_a_class_are_not_followed(tmp_path: Path, target: str) -> None:
    root = write_image_folder(tmp_path / "root", ("ant", "bee"), per_class=1)
    (root / "ant" / "sub").symlink_to(target)
    source = open_image_folder(root)
    assert list(source.files) == ["ant/0.png", "bee/0.png"]


@pytest.mark.parametrize("target", ["loop", "nowhere", "loop/loop"])
def test_links_that_lead_nowhere(tmp_path: Path, target: str) -> None:
    write_image_folder(tmp_path, ("ant",), per_class=1)
    (tmp_path / "loop").symlink_to(target)
    with pytest.raises(UserError, match=r"/loop: a link that leads nowhere, or round in a circle: mend or remove it"):
        open_image_folder(tmp_path)


@pytest.mark.parametrize("target", [".", "..", "../root", "ant/.."])
def test_links_to_what_holds_all_classes(tmp_path: Path, target: str) -> None:
    root = write_image_folder(tmp_path / "root", ("ant",), per_class=1)
    (root / "all").symlink_to(target)
    with pytest.raises(UserError, match=r"/all: a link to .*, which holds all the classes: remove it"):
        open_image_folder(root)


@pytest.mark.parametrize("place", ["outside", "root/ant"])
def test_two_classes_in_one_folder(tmp_path: Path, place: str) -> None:
    root = write_image_folder(tmp_path / "root", ("ant",), per_class=1)
    add(tmp_path / "outside" / "0.png")
    for name in ("bee", "cat"):
        (root / name).symlink_to(tmp_path / place)
    first, second = ("ant", "bee") if place == "root/ant" else ("bee", "cat")
    message = rf"classes '{first}' and '{second}' are the same folder {tmp_path.resolve() / place}: remove a link"
    with pytest.raises(UserError, match=message):
        open_image_folder(root)


# what is refused


def test_root_missing_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, reason in (("nowhere", "No such file"), ("file", "Not a directory")):
        with pytest.raises(UserError, match=rf"data\.root=.*{name}: cannot be read \({reason}"):
            open_image_folder(tmp_path / name)


def test_root_without_class_folders(tmp_path: Path) -> None:
    add(tmp_path / "0.png")
    add(tmp_path / ".hidden" / "0.png")
    with pytest.raises(UserError, match=r"no class folders in it: each class needs a folder of images"):
        open_image_folder(tmp_path)


@pytest.mark.parametrize("inside", [None, "notes.txt", ".hidden.png", ".thumbnails/0.png"])
def test_class_folder_without_images(tmp_path: Path, inside: str | None) -> None:
    write_image_folder(tmp_path, ("ant",))
    (tmp_path / "bee").mkdir()
    if inside:
        (tmp_path / "bee" / inside).parent.mkdir(exist_ok=True)
        (tmp_path / "bee" / inside).write_text("")
    with pytest.raises(UserError, match=r"bee: class folder holds no images: fill or remove it"):
        open_image_folder(tmp_path)


@pytest.mark.parametrize("place", ["bee", "bee/wild"])
def test_unreadable_class_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    write_image_folder(tmp_path, ("ant", "bee", "bee/wild"))
    scandir = os.scandir

    def guarded(folder: str | os.PathLike[str]) -> Any:
        if Path(folder) == tmp_path / place:  # permissions do not bind root, so the refusal is played
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    message = rf"{tmp_path / place}: class folder cannot be read \(Permission denied\): mend its permissions"
    with pytest.raises(UserError, match=message):
        open_image_folder(tmp_path)


def test_root_that_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``chmod a=r ROOT`` makes it, or a class that is a link into someone else's folder."""
    write_image_folder(tmp_path, ("ant", "bee"))
    stat = os.stat

    def guarded(path: Any, **options: Any) -> os.stat_result:
        if str(path) == str(tmp_path / "bee"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", guarded)
    with pytest.raises(UserError, match=r"bee: .*Permission denied"):
        open_image_folder(tmp_path)


def test_names_that_only_look_different(tmp_path: Path) -> None:
    """The same letters as one code point and as two, as folders of two operating systems mix them."""
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for name in (composed, decomposed):
        add(tmp_path / name / "0.png")
    message = rf"two class folders are called '{composed}', spelled with other bytes: rename one"
    with pytest.raises(UserError, match=message):
        open_image_folder(tmp_path)


# the frozen list


def frozen(tmp_path: Path) -> tuple[FolderSource, Path]:
    root = write_image_folder(tmp_path / "root", ("ant", "bee"), per_class=2)
    (root / "ant" / "notes.txt").touch()
    source = open_image_folder(root)
    source.freeze(tmp_path / "files.feather")
    return source, tmp_path / "files.feather"


def test_frozen_list_is_found_again(tmp_path: Path) -> None:
    source, file = frozen(tmp_path)
    again = frozen_folder(file, source.root)
    assert list(again.class_names) == ["ant", "bee"]
    assert list(again.files) == ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"]
    assert again.labels.tolist() == [0, 0, 1, 1]
    assert again.labels.dtype == np.int64
    assert (again.ignored, again.name, len(again)) == (1, source.name, 4)
    assert np.array_equal(np.asarray(again.image(3)), np.asarray(source.image(3)))


def test_frozen_list_is_a_feather_file_of_two_columns(tmp_path: Path) -> None:
    _, file = frozen(tmp_path)
    table = pa.feather.read_table(file)
    assert table.column_names == ["file", "label"]
    assert json.loads(table.schema.metadata[b"classes"]) == ["ant", "bee"]
    assert table.schema.metadata[b"ignored"] == b"1"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["files.feather", "root"]


def damaged(kind: str, file: Path) -> None:
    whole = file.read_bytes()
    table = pa.feather.read_table(file)
    facts = table.schema.metadata
    if kind == "missing":
        file.unlink()
    elif kind in ("empty", "cut", "text"):
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"ant/0.png\n"}[kind])
    elif kind == "column":
        pa.feather.write_feather(table.select(["file"]), file)
    else:
        changes = {"no facts": None, "no classes": {"ignored": "1"}, "odd classes": facts | {b"classes": b"["}}
        pa.feather.write_feather(table.replace_schema_metadata(changes[kind]), file)


@pytest.mark.parametrize("kind", ["missing", "empty", "cut", "text", "column", "no facts", "no classes", "odd classes"])
def test_damaged_list_is_told(tmp_path: Path, kind: str) -> None:
    source, file = frozen(tmp_path)
    damaged(kind, file)
    message = rf"files\.feather: no list of images \(.*\): delete {tmp_path} to prepare it again"
    with pytest.raises(UserError, match=message):
        frozen_folder(file, source.root)


@pytest.mark.parametrize("name", [b"caf\xe9/0.png", b"ant/caf\xe9.png"])
def test_name_that_is_not_utf8(tmp_path: Path, name: bytes) -> None:
    """Latin-1 from an old disk."""
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    add(file)
    with pytest.raises(UserError, match=r"/caf.*: its name is not UTF-8: rename it"):
        open_image_folder(tmp_path)
