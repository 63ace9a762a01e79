"""What the tokens of each block show, in colours: ``python analysis/pca_features.py [run=FOLDER] [name=value ...]``.

    checkpoint=PATH | run=FOLDER    what to look at; without either the newest finished run under runs/ (or runs=FOLDER)
    network=generator|discriminator whose tokens: of a sample being drawn, or of D looking at the samples (of a run only)
    positions=keep|removed          tokens as they are, or without all that is the same in every sample
    samples=64 classes=0,3 seed=0   samples that the components are fitted to: classes in turn (default: all of them)
    rows=6                          how many of them, the first ones, are in the picture
    checkpoints=all                 over all checkpoints of the run
    against=OTHER_RUN               two runs, e.g. with and without MNG: the same z and classes above each other
    out=FOLDER                      default: analysis/ in the run's folder

The paper shows such maps (v1 Fig. 4) and says little more than "PCA"; Adversarial Flow Models (App. B, "following GAT") fits
three components per layer. The rest is ours:

    tokens      ``embed`` and after each block, in fp32; of D the patch tokens, its stages perturbed as in training
    fit         per layer, on the tokens of all samples and positions together, centred: the three eigenvectors of their
                covariance with the largest eigenvalues
    order       a layer's three components are assigned to those of the layer before, one to one, so that the sum of absolute
                correlations of their scores over the same tokens is largest. In the first layer: by variance
    sign        the correlation with the component assigned to is positive. In the first layer: the loading of largest
                magnitude is positive. A layer before which nothing varies counts as a first one
    colours     red, green, blue; each component from its 1% to its 99% quantile over the layer's tokens, the ends clipped; a
                component that does not vary is grey
    removed     from each token the mean over all samples at its position is subtracted, before anything else. It is 0 where
                features do not depend on the sample (``embed`` of G always)
    of sample   share of the tokens' variance that is left after that, whatever ``positions`` says; it stands above the
                columns. Early blocks that do nothing for the sample leave it near 0, however vivid the maps: colours are
                scaled per layer, so that differences of one thousandth look like large ones. A block that changes nothing
                has the share of the layer before and correlations of 1; not the other way round, as one large component
                can hide what the others do. With n samples chance alone makes a share of (n - 1) / n where tokens owe
                nothing to their position

Colours of neighbouring layers compare where their components correlate (in the table); green is not always the second
largest. Each checkpoint is fitted alone: a colour of one checkpoint says nothing about the same colour of another; of
several the picture shows the same samples (z, class) in the same order, and a figure (PNG, PDF) their ``of sample`` by
layer. Equal eigenvalues, such as those of the position codes' sine-cosine start in x and in y, leave the components'
direction open. All tokens of all layers are held at once: samples x positions x width x layers x 4 bytes (2 GB for 64
samples of XL/2). Shapes: n samples, L layers, N positions, d width, M = n N tokens, H latent side, P image side in pixels.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from analysis import style
from analysis.alignment import CHUNK, discriminator_of, fake_batches, objective_of
from analysis.blocks import inputs_of
from analysis.command import circumstances, positive, run_command, sample_of
from analysis.components import Components, colours, components, matched, sample_share, without_positions
from analysis.opening import Opened
from analysis.series import SEVERAL, Row, Series, each_opened, generators_in, series_of, stem_of, unique, write_table
from analysis.series_figure import LEGEND_COLUMNS, comparison, looks
from analysis.sheets import CELL_PX, Sheet, save_sheets
from gat.data.workers import told_plainly
from gat.errors import UserError, require_choice
from gat.platform import choose_device, full_precision, keep_freed_memory
from gat.progress import Progress

NETWORKS = ("generator", "discriminator")
POSITIONS = ("keep", "removed")
KNOWN = SEVERAL | {
    "network": " or ".join(NETWORKS),
    "positions": " or ".join(POSITIONS),
    "samples": "number (default: 64)",
    "classes": "numbers, as 0,3,7 (default: all)",
    "seed": "of the samples (default: 0)",
    "rows": "samples in the picture (default: 6)",
}
SAMPLES = 64
ROWS = 6


@dataclass(frozen=True)
class Wanted:
    """Whose tokens of which samples, and how they are shown."""

    samples: int
    seed: int
    classes: list[int] | None = None
    """None: all."""
    network: str = NETWORKS[0]
    positions: str = POSITIONS[0]
    rows: int = ROWS


@dataclass(frozen=True)
class Seen:
    """Tokens (n, N, d) by layer, and the ``images`` (n, 3, P, P) that they belong to, uint8."""

    tokens: dict[str, Tensor]
    images: Tensor


@torch.no_grad()
def of_generator(it: Opened, samples: int, classes: list[int] | None, seed: int) -> Seen:
    """Tokens of G drawing ``samples`` samples, and these."""
    generator, truncation = it.subject.generator, it.config.evaluation.truncation
    z, labels = inputs_of(samples, generator.dims, classes, seed)
    records, images = [], []
    chunks = list(zip(z.split(CHUNK), labels.split(CHUNK), strict=True))
    for some_z, some_labels in Progress(chunks, desc="samples", unit="batch", leave=False):
        record: dict[str, Tensor] = {}
        stages = generator(some_z.to(it.device), some_labels.to(it.device), truncation=truncation, record=record)
        records.append({name: tokens.float().cpu() for name, tokens in record.items() if name != "aligned"})
        images.append(it.decode(stages[-1]).cpu())
    return Seen(_joined(records), torch.cat(images))


@torch.no_grad()
def of_discriminator(it: Opened, samples: int, seed: int) -> Seen:
    """Patch tokens of D looking at ``samples`` samples of the averaged generator, and these.

    Raises :class:`UserError` for weights that are no run's.
    """
    discriminator, objective = discriminator_of(it), objective_of(it)
    records, images = [], []
    for batch in fake_batches(it, objective, samples, seed):
        record: dict[str, Tensor] = {}
        discriminator(batch.stages, batch.labels, project_rows=0, record=record)
        records.append({name: tokens[:, 1:].float().cpu() for name, tokens in record.items()})
        images.append(batch.images.permute(0, 3, 1, 2).cpu())
    return Seen(_joined(records), torch.cat(images))


def _joined(records: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Batches one after another; :class:`UserError` for tokens that are not finite."""
    joined = {name: torch.cat([record[name] for record in records]) for name in records[0]}
    for name, tokens in joined.items():
        if not bool(tokens.isfinite().all()):
            raise UserError(f"tokens of {name} are not finite: the run has diverged, choose an earlier checkpoint")
    return joined


def fitted(seen: Seen, positions: str) -> list[Components]:
    """The components of each layer, ordered and signed. Raises :class:`UserError` for an unknown choice."""
    require_choice("positions", positions, POSITIONS)
    prepare = without_positions if positions == "removed" else Tensor.double
    layers = Progress(seen.tokens.values(), desc="components", unit="layer", leave=False)
    return matched([components(prepare(tokens).flatten(0, 1)) for tokens in layers])


def maps(layers: list[Components], samples: int, rows: int) -> Tensor:
    """The first ``rows`` of ``samples`` samples as RGB images (rows, L, 3, h, h), uint8, a pixel per token."""
    found = []
    for layer in layers:
        side = math.isqrt(len(layer.scores) // samples)
        found.append(torch.from_numpy(colours(layer.scores)).view(samples, side, side, 3)[:rows].permute(0, 3, 1, 2))
    return torch.stack(found, dim=1)


def sheet_of(seen: Seen, layers: list[Components], rows: int) -> Tensor:
    """Images and maps in reading order (rows (1 + L), 3, P', P'), at one size: each pixel and each token a rectangle."""
    drawn = maps(layers, len(seen.images), rows)
    images = seen.images[: len(drawn), None]
    side = max(CELL_PX, images.shape[-1], drawn.shape[-1])
    cells = [torch.nn.functional.interpolate(x.flatten(0, 1), size=(side, side)) for x in (images, drawn)]
    pairs = (x.view(len(drawn), -1, 3, side, side) for x in cells)
    return torch.cat(list(pairs), dim=1).flatten(0, 1)


def rows_of(shares: dict[str, float], layers: list[Components]) -> list[Row]:
    """Of the table: a row per layer and colour."""
    return [
        {
            "layer": name,
            "colour": colour,
            "share_of_variance": layer.variance[c],
            "correlation_with_layer_before": layer.correlation[c],
            "variance_of_sample_share": share,
        }
        for (name, share), layer in zip(shares.items(), layers, strict=True)
        for c, colour in enumerate(("red", "green", "blue"))
    ]


def shares_of(seen: Seen) -> dict[str, float]:
    """Share of each layer's variance that is the sample's."""
    return {name: sample_share(tokens) for name, tokens in seen.tokens.items()}


def rows_of_checkpoint(it: Opened, *, samples: int, seed: int) -> tuple[list[Row], Callable[[Path], None]]:
    """Of the generator, positions kept, all classes in turn: a row per layer and colour; what saves the picture as PNG.

    Raises :class:`UserError` for fewer than 2 samples, and for tokens that are not finite.
    """
    rows, sheet = looked_at(it, Wanted(samples, seed))
    return rows, sheet.save


def looked_at(it: Opened, wanted: Wanted) -> tuple[list[Row], Sheet]:
    """The same as ``wanted``, and the picture itself."""
    if wanted.samples < 2:
        raise UserError(f"samples={wanted.samples} must be at least 2: one sample has no components of its own")
    if wanted.network == "generator":
        seen = of_generator(it, wanted.samples, wanted.classes, wanted.seed)
    else:
        seen = of_discriminator(it, wanted.samples, wanted.seed)
    layers, shares = fitted(seen, wanted.positions), shares_of(seen)
    headings = ["sample", *(f"{name}\n{share:.2g} of sample" for name, share in shares.items())]
    return rows_of(shares, layers), Sheet(sheet_of(seen, layers, wanted.rows), headings)


def wanted_of(values: dict[str, str]) -> Wanted:
    """From the arguments; :class:`UserError` for a number that is none, an unknown choice, or two that do not go together."""
    network, positions = values.get("network", NETWORKS[0]), values.get("positions", POSITIONS[0])
    require_choice("network", network, NETWORKS)
    require_choice("positions", positions, POSITIONS)
    samples, classes, seed = sample_of(values, SAMPLES)
    if classes is not None and network == "discriminator":
        raise UserError("classes= is for network=generator: D looks at samples of all classes in turn")
    return Wanted(samples, seed, classes, network, positions, positive("rows", values, ROWS))


def look(values: dict[str, str]) -> list[str]:
    """Fit, draw and write; lines that say what came out. :class:`UserError` for every mistake in the arguments."""
    wanted, device = wanted_of(values), choose_device(values.get("training.device", "auto"))
    keep_freed_memory()
    began = time.perf_counter()
    series, sheets = [], []
    with told_plainly(), full_precision():
        for it in each_opened(values, device):
            rows, sheet = looked_at(it, wanted)
            series.append(series_of(it, rows))
            sheets.append(sheet)
    name = f"pca_features-{wanted.network}-{wanted.positions}-{{}}"
    stem = stem_of(name, values, series, series[0].facts["checkpoint"])
    how = {
        "measured": f"principal components of the {wanted.network}'s tokens",
        "definition": __doc__,
        "network": wanted.network,
        "positions": wanted.positions,
        "samples": wanted.samples,
        "classes": wanted.classes or "all, balanced",
        "seed": wanted.seed,
    }
    write_table(stem, series, how | generators_in(series) | circumstances(device, time.perf_counter() - began))
    return [shown(one) for one in series] + [f"{stem}.csv, .json, {saved(series, sheets, wanted, stem)}"]


def saved(series: list[Series], sheets: list[Sheet], wanted: Wanted, stem: Path) -> str:
    """Write the picture, and of several checkpoints the figure; the files' endings."""
    file = stem.with_name(f"{stem.name}.png")
    if len(series) == 1:
        sheets[0].save(file)
        return ".png"
    names = unique([one.name for one in series])
    save_sheets(list(zip(names, sheets, strict=True)), file)
    save_figure(series, names, f"the {wanted.network}'s tokens", stem.with_name(f"{stem.name}-of_sample"))
    return ".png, -of_sample.png, -of_sample.pdf"


def save_figure(series: Sequence[Series], names: Sequence[str], whose: str, stem: Path) -> list[Path]:
    """Write ``stem``.png and .pdf: the share of variance that is the sample's by layer, a line per checkpoint; the files."""
    figure, (axes,) = comparison(1, len(series), width_in=9.0)
    for one, look in zip(series, looks(series, names), strict=True):
        shares = {row["layer"]: row["variance_of_sample_share"] for row in one.rows}
        axes.plot(list(shares), list(shares.values()), **look)
    axes.set_title(f"Share of the variance of {whose} that depends on the sample")
    axes.set_ylabel("share of variance (of sample)")
    axes.set_ylim(0, 1)
    axes.tick_params(axis="x", rotation=90 if len(series[0].rows) > 60 else 30)
    style.legend_below(figure, axes, LEGEND_COLUMNS)
    return style.save(figure, stem)


def shown(series: Series) -> str:
    """A checkpoint's numbers for the terminal: a line per layer."""
    lines = [
        {
            "layer": name,
            "of sample": f"{rows['variance_of_sample_share'].iloc[0]:.3g}",
            "variance of red, green, blue": ", ".join(f"{share:.1%}" for share in rows["share_of_variance"]),
            "correlation": ", ".join(f"{r:.2f}" for r in rows["correlation_with_layer_before"]),
        }
        for name, rows in pd.DataFrame(series.rows).groupby("layer", sort=False)
    ]
    return f"{series.name}\n{pd.DataFrame(lines).to_string(index=False)}"


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, look)


if __name__ == "__main__":
    main()
