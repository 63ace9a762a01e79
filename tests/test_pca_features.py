"""Principal components of tokens: planted ones, signs, positions, and analysis/pca_features.py as a user types it."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from analysis.components import colours, components, matched, sample_share, without_positions
from analysis.opening import opened
from analysis.pca_features import (
    Seen,
    fitted,
    look,
    main,
    maps,
    of_generator,
    rows_of_checkpoint,
    save_figure,
    sheet_of,
)
from analysis.series import Series
from gat.errors import UserError

SAMPLES, SIDE, WIDTH = 8, 4, 20
COUNT = SAMPLES * SIDE**2
IMAGES = torch.zeros(SAMPLES, 3, 32, 32, dtype=torch.uint8)


def draws(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def latents() -> Tensor:
    """(M, 3), orthogonal, centred, of variances 9, 4 and 1."""
    x = draws(0, COUNT, 3)
    return torch.linalg.qr(x - x.mean(dim=0))[0] * COUNT**0.5 * torch.tensor([3.0, 2.0, 1.0])


def planted(seed: int, order: tuple[int, ...] = (0, 1, 2), noise: float = 0.01) -> Tensor:
    """Tokens (M, d) made of the latents, with variances in an order of its own: a random subspace, a random centre."""
    directions = torch.linalg.qr(draws(seed, WIDTH, 3))[0].T
    scaled = latents() / torch.tensor([3.0, 2.0, 1.0]) * torch.tensor([3.0, 2.0, 1.0])[list(order)]
    return scaled @ directions + draws(seed + 1, 1, WIDTH) + noise * draws(seed + 2, COUNT, WIDTH)


def correlations(a: object, b: object) -> np.ndarray:
    """Column by column."""
    columns = zip(np.asarray(a).T, np.asarray(b).T, strict=True)
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in columns])


def test_planted_components_are_found() -> None:
    found = components(planted(1))
    assert np.abs(correlations(found.scores, latents())).min() > 0.999
    assert found.variance == pytest.approx(np.array([9, 4, 1]) / 14, abs=1e-3)
    assert found.loadings.T @ found.loadings == pytest.approx(np.eye(3))
    assert (found.loadings[np.abs(found.loadings).argmax(axis=0), range(3)] > 0).all()


def test_they_are_those_of_a_singular_value_decomposition() -> None:
    tokens = draws(5, COUNT, WIDTH)
    _, _, rows = torch.linalg.svd(tokens - tokens.mean(dim=0), full_matrices=False)
    assert np.abs(components(tokens).loadings) == pytest.approx(np.abs(rows[:3].T.numpy()))


def test_layers_are_matched_whatever_their_order_of_variances() -> None:
    """Each layer has the same three latents in a subspace of its own, with other variances."""
    layers = matched([components(planted(10)), components(planted(20, (2, 0, 1))), components(planted(30, (1, 2, 0)))])
    for layer in layers[1:]:
        assert correlations(layer.scores, layers[0].scores).min() > 0.999
        assert layer.correlation.min() > 0.999
        assert layer.loadings.T @ layer.loadings == pytest.approx(np.eye(3))
    assert np.isnan(layers[0].correlation).all()
    assert layers[1].variance == pytest.approx(np.array([1, 9, 4]) / 14, abs=1e-3)


def test_negated_features_keep_their_colours() -> None:
    tokens = [planted(10), planted(20), planted(30)]
    plain = matched([components(x) for x in tokens])
    for negated in ((1,), (2,), (1, 2)):
        found = matched([components(-x if i in negated else x) for i, x in enumerate(tokens)])
        for one, other in zip(plain, found, strict=True):
            assert one.scores == pytest.approx(other.scores)


def test_what_follows_a_layer_without_variance_is_a_first_layer() -> None:
    still, first = components(torch.ones(COUNT, WIDTH)), components(planted(10))
    found = matched([still, first, components(-planted(20))])
    assert (found[0].scores == 0).all()
    assert found[1] is first
    assert correlations(found[2].scores, first.scores).min() > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("samples", [3, 8])
def test_removing_positions_leaves_nothing_of_them(dtype: torch.dtype, samples: int) -> None:
    position = 100 * draws(0, 1, 16, WIDTH).to(dtype)
    assert (without_positions(position.expand(samples, -1, -1)) == 0).all()
    assert sample_share(position.expand(samples, -1, -1)) == 0
    of_sample = draws(1, samples, 16, WIDTH)
    left = without_positions(position + of_sample)
    assert torch.allclose(left, of_sample - of_sample.mean(dim=0), atol=1e-10)


def test_share_by_hand() -> None:
    """Two samples at two positions, 10 or 20 by position and 1 more or less by sample: variances 25 and 1."""
    tokens = torch.tensor([[9.0, 19.0], [11.0, 21.0]])[..., None]
    assert sample_share(tokens) == pytest.approx(1 / 26)
    assert np.isnan(sample_share(torch.ones(2, 2, 1)))


def test_idle_is_not_read_off_positions() -> None:
    """A position code beside a weak planted structure: it hides that, and removed, the structure is found."""
    code = 100 * draws(40, 1, SIDE**2, WIDTH)
    signal = planted(10).view(SAMPLES, SIDE**2, WIDTH)
    seen = Seen({"block_0": code + signal}, IMAGES)
    (hidden,), (found,) = fitted(seen, "keep"), fitted(seen, "removed")
    whose = without_positions(latents().view(SAMPLES, SIDE**2, 3)).flatten(0, 1)
    assert np.abs(correlations(found.scores, whose)).min() > 0.97  # their means over 8 samples are gone, too
    assert np.abs(correlations(hidden.scores, whose)).max() < 0.5
    with pytest.raises(UserError, match="positions='half' is unknown: choose one of keep, removed"):
        fitted(seen, "half")


def test_colours_by_hand() -> None:
    """0 to 100: 1 becomes 0 and 99 becomes 255; the last column does not vary, but for rounding."""
    steps = np.arange(101.0)
    found = colours(np.stack([steps, -steps, 1e-9 * steps], axis=1))
    assert found[[0, 1, 50, 99, 100], 0].tolist() == [0, 0, 128, 255, 255]
    assert (found[:, 1] == found[::-1, 0]).all()
    assert (found[:, 2] == 128).all()
    assert (colours(np.zeros((4, 3))) == 128).all()


def test_maps_are_in_reading_order() -> None:
    """One bright token: of sample 1, in row 2 and column 3."""
    tokens = torch.zeros(SAMPLES, SIDE**2, WIDTH)
    tokens[1, 2 * SIDE + 3, 0] = 1
    layer = components(tokens.flatten(0, 1))
    layer.scores[:, 0] = np.linspace(0, 1, COUNT)
    found = maps([layer], SAMPLES, 2)
    assert found.shape == (2, 1, 3, SIDE, SIDE)
    red = found[1, 0, 0].flatten()
    assert (red.int().diff() >= 0).all()
    assert red[0] > found[0, 0, 0].max()
    sheet = sheet_of(Seen({"block_0": tokens}, IMAGES), [layer], 2)
    assert sheet.shape == (4, 3, 96, 96)
    assert (sheet[[0, 2]] == 0).all()
    assert torch.equal(sheet[3, :, ::24, ::24], found[1, 0])


def test_tokens_of_the_generator(trained: Path) -> None:
    it = opened(f"{trained}/run", torch.device("cpu"))
    seen = of_generator(it, 5, None, seed=0)
    assert list(seen.tokens) == ["embed", *(f"block_{i}" for i in range(8))]
    assert seen.tokens["block_7"].shape[:2] == (5, 4)
    assert seen.images.shape == (5, 3, 32, 32)
    layers = fitted(seen, "removed")
    assert (layers[0].scores == 0).all()
    assert np.isnan(layers[1].correlation).all()
    it.subject.generator.class_embedding.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="tokens of block_0 are not finite: the run has diverged"):
        of_generator(it, 2, None, seed=0)


def values_of(*arguments: str) -> dict[str, str]:
    return {name: value for name, _, value in (argument.partition("=") for argument in arguments)}


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_as_typed(
    network: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"runs={trained}", f"network={network}", "positions=removed", "samples=8", "rows=2", f"out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["pca_features.py", *arguments])
    main()
    stem = f"pca_features-{network}-removed-step-00000004"
    assert {file.name for file in tmp_path.iterdir()} == {f"{stem}.{kind}" for kind in ("csv", "json", "png")}
    table = pd.read_csv(tmp_path / f"{stem}.csv")
    assert table["layer"].tolist()[::3] == ["embed", *(f"block_{i}" for i in range(8))]
    assert table["variance_of_sample_share"].between(0, 1).all()
    assert (table["variance_of_sample_share"][0] == 0) == (network == "generator")
    facts = json.loads((tmp_path / f"{stem}.json").read_text())
    assert (facts["network"], facts["positions"], facts["samples"]) == (network, "removed", 8)
    assert Image.open(tmp_path / f"{stem}.png").size == (10 * 97 + 1, 32 + 2 * 97 + 1)
    assert "block_7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["network=both"], "network='both' is unknown: choose one of generator, discriminator"),
        (["positions=no"], "positions='no' is unknown: choose one of keep, removed"),
        (["samples=1"], "samples=1 must be at least 2"),
        (["rows=0"], "rows=0 must be at least 1"),
        (["classes=2"], "classes=2: there are classes 0 to 1"),
        (["classes=1", "network=discriminator"], "classes= is for network=generator"),
    ],
)
def test_mistakes_are_one_line(trained: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        look(values_of(f"run={trained}/run", f"out={tmp_path}", *arguments))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_rows_of_a_checkpoint_are_the_commands(trained: Path, tmp_path: Path) -> None:
    look(values_of(f"run={trained}/run", f"out={tmp_path}", "samples=8", "seed=3"))
    stem = tmp_path / "pca_features-generator-keep-step-00000004"
    table = pd.read_csv(f"{stem}.csv")
    rows, save = rows_of_checkpoint(opened(f"{trained}/run", torch.device("cpu")), samples=8, seed=3)
    assert list(rows[0]) == list(table.columns[2:])
    shares = pd.DataFrame(rows)["variance_of_sample_share"].tolist()
    assert shares == pytest.approx(table["variance_of_sample_share"].tolist())
    save(tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == stem.with_name(f"{stem.name}.png").read_bytes()


def test_over_training_and_against_another(trained: Path, tmp_path: Path) -> None:
    """Four blocks of pictures under titles, of which those of the same checkpoint are equal; and a figure."""
    arguments = (f"run={trained}/run", f"against={trained}/run", "checkpoints=all", "samples=4", "rows=2")
    told = look(values_of(*arguments, f"out={tmp_path}"))
    stem = "pca_features-generator-keep-all-against-run"
    ends = (".csv", ".json", ".png", "-of_sample.png", "-of_sample.pdf")
    assert {file.name for file in tmp_path.iterdir()} == {f"{stem}{end}" for end in ends}
    table = pd.read_csv(tmp_path / f"{stem}.csv")
    assert table["step"].tolist() == 2 * ([2] * 27 + [4] * 27)
    assert [one.splitlines()[0] for one in told[:2]] == [f"run, step {step} (MNG: exponential)" for step in (2, 4)]
    facts = json.loads((tmp_path / f"{stem}.json").read_text())
    assert [one["step"] for one in facts["generators"]] == [2, 4, 2, 4]
    pixels = np.asarray(Image.open(tmp_path / f"{stem}.png"))
    title, block = 10 + 14 + 8, 32 + 2 * 97 + 1
    assert pixels.shape == (4 * (title + block), 10 * 97 + 1, 3)
    first, second, third, _ = (part[title:] for part in np.split(pixels, 4))
    assert (first == third).all()
    assert (first != second).any()


def test_each_checkpoint_is_fitted_alone(trained: Path, tmp_path: Path) -> None:
    """The numbers of a checkpoint are the same beside others as by itself."""
    run = f"run={trained}/run"
    look(values_of(run, "checkpoints=all", "samples=4", f"out={tmp_path}/all"))
    look(values_of(run, "samples=4", f"out={tmp_path}/one"))
    every, one = (pd.read_csv(next((tmp_path / name).glob("*.csv"))) for name in ("all", "one"))
    pd.testing.assert_frame_equal(every[every["step"] == 4].reset_index(drop=True), one)


def test_the_figure_of_shares(tmp_path: Path) -> None:
    rows = [{"layer": f"block_{i}", "variance_of_sample_share": i / 30} for i in range(28) for _ in range(3)]
    series = [Series(name, 5, rows, {"mng_schedule": None}, tmp_path) for name in "abc"]
    files = save_figure(series, ["a", "b", "c"], "the generator's tokens", tmp_path / "figure")
    assert [file.name for file in files] == ["figure.png", "figure.pdf"]
