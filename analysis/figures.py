"""Every figure of the paper, from ``results/`` alone: ``python analysis/figures.py [study=mini] [name=value ...]``.

    study=mini results=results      whose tables
    figures=mng,repa                which (default: all of them)
    allow_partial=true              draw what there is, and print on each figure what is missing; leave empty ones out

Writes ``results/STUDY/figures/NAME.png`` and ``.pdf``. Figures whose records are whole are written in any case; a gap in
those of another (a sweep that was not run, a run that failed, too few seeds) is an error that names the missing runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analysis.command import run_command
from analysis.diagnosis_figures import draw_alignment, draw_blocks, draw_features, draw_interpolation, draw_samples
from analysis.drawing import KNOWN as SHARED
from analysis.drawing import finish, partial_of, source_of
from analysis.lr_width import draw_lr_width
from analysis.scaling import draw_decoupled, draw_scaling
from analysis.sweep_figures import curves_of, draw_ablations, draw_mng
from analysis.tables import Source
from gat.errors import UserError, require_choice

KNOWN = SHARED | {"figures": "names, as mng,repa (default: all)"}
FOLDER = "figures"
BAND = "mean over seeds; band: least to greatest"


@dataclass(frozen=True)
class PaperFigure:
    """What draws it, and what a reader must know of it. Distances are the study's (their name stands on the axis)."""

    draw: Callable[[Source], Figure]
    caption: str


FIGURES = {
    "model_size": PaperFigure(
        curves_of("model_size"),
        f"v1 Fig. 3a. Four sizes over training ({BAND}).",
    ),
    "patch_size": PaperFigure(
        curves_of("patch_size"),
        "v1 Fig. 3b. Patches of three sizes, at two model sizes. Smaller patches are more tokens and more compute.",
    ),
    "gflops": PaperFigure(
        draw_scaling,
        "v1 Fig. 3c; v3. Distance at the end of training against forward GFLOPs of G, and against GFLOPs of the whole "
        "training with the power law. Smaller models are not trained longer: all see the same images.",
    ),
    "pca_features": PaperFigure(
        draw_features,
        "v1 Fig. 4a. Three principal components of each layer's tokens as colours, scaled per layer: vivid colours do not "
        "mean that a block works. The share of variance that is the sample's, above each column, tells that.",
    ),
    "layer_lpips": PaperFigure(
        draw_blocks,
        "v1 Fig. 4. Perceptual distance between a sample and the same without one block, as a part of the largest block's; "
        "mean over seeds, bars: least to greatest seed. The definition is ours: the paper gives none. On the right the share "
        "of the tokens' variance that is the sample's, mean over the first half of the blocks, a dot per seed.",
    ),
    "mng": PaperFigure(
        draw_mng,
        f"v1; v3's order. MNG's schedules and MSG over training ({BAND}), and at the end, a dot per seed; bars are the "
        "claim's intervals of the means.",
    ),
    "lr_crosscheck": PaperFigure(
        curves_of("lr_crosscheck"),
        f"v1 Fig. 5b. S and B at their own rate and at each other's ({BAND}). A cross: divergence began.",
    ),
    "repa": PaperFigure(curves_of("repa"), f"v1 Fig. 5c. With and without alignment of D ({BAND})."),
    "cknna": PaperFigure(
        draw_alignment,
        "v1 section 3.4; v3. Alignment of D with the teacher, mean over blocks, over training. At small scale the teacher is "
        "the one that D is trained to align with: the arm without alignment is the telling one.",
    ),
    "lr_width": PaperFigure(
        draw_lr_width, "v1 section 2.4, three ways. L and XL are deeper than S and B as well as wider."
    ),
    "decoupled": PaperFigure(draw_decoupled, "v3 Fig. 6a. All pairs of sizes of G and D."),
    "batch_rule": PaperFigure(
        curves_of("batch_rule"), "v3. Four times the batch in a quarter of the iterations, against images seen."
    ),
    "ablations": PaperFigure(
        draw_ablations,
        "Beyond the paper: distance at the end of training, a dot per seed, with the mean and its 95% interval (Student's).",
    ),
    "interpolation": PaperFigure(
        draw_interpolation, "Project page. Straight paths in w, first seed of the paper's arm."
    ),
    "samples": PaperFigure(draw_samples, "Samples of the four sizes, first seed, not selected; a column per class."),
}
CAPTIONS = {name: figure.caption for name, figure in FIGURES.items()}


def draw_all(values: dict[str, str]) -> list[str]:
    """Draw and write; lines for the terminal. :class:`UserError` for gaps, once what is whole is written."""
    names = values["figures"].split(",") if "figures" in values else list(FIGURES)
    for name in names:
        require_choice("figures", name, tuple(FIGURES))
    allow_partial = partial_of(values)
    written, gaps = [], {}
    for name in names:
        source = source_of(values)
        figure = FIGURES[name].draw(source)
        if source.gaps and not allow_partial:
            gaps[name] = source.gaps
            continue
        if not source.found:
            written.append(f"{name}: not drawn, as nothing of it was run")
            continue
        finish(figure, source, stem_of(source, name), allow_partial=allow_partial)
        written.append(f"{stem_of(source, name)}.png, .pdf" + (f" ({len(source.gaps)} gaps)" if source.gaps else ""))
    if gaps:
        told = "; ".join(f"{name}: {', '.join(missing)}" for name, missing in gaps.items())
        raise UserError(
            f"{len(written)} figures written, {len(gaps)} not, as records are missing (run them and collect again, or draw "
            f"what there is by allow_partial=true): {told}"
        )
    return written


def stem_of(source: Source, name: str) -> Path:
    """Of a figure's files."""
    return source.results / source.study / FOLDER / name


def main() -> None:
    """As typed."""
    run_command(__doc__, KNOWN, draw_all)


if __name__ == "__main__":
    main()
