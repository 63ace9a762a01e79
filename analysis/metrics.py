"""The metrics that claims and figures take from tables of diagnostics: one value per run and checkpoint.

layer_lpips    early_of_largest, early_share: of the first half of the blocks (analysis/blocks.py), mean of ``of_largest``
               and sum of ``share``
cknna          cknna_real, cknna_fake: means over D's blocks; cknna_fake_minus_real
pca_features   early_of_sample: mean over the first half of G's blocks of the share of their tokens' variance that is the
               sample's (analysis/pca_features.py)
stages         first_to_final: what is missing after the first stage (analysis/stages.py)
interpolation  largest_step_share, straightness: means over paths (analysis/interpolation.py)
evaluations    every number of experiments/evaluate.py without truncation, by the run's own decoder
"""

from collections.abc import Callable
from typing import Any

import pandas as pd

from gat.errors import UserError

Row = dict[str, Any]
RUN = ["arm", "seed", "status", "step", "end"]


def blocks_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a block each."""
    early = rows[2 * rows["block"] < len(rows)]
    return {"early_of_largest": early["of_largest"].mean(), "early_share": early["share"].sum(min_count=1)}


def alignment_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a block each."""
    real, fake = rows["real"].mean(), rows["fake"].mean()
    return {"cknna_real": real, "cknna_fake": fake, "cknna_fake_minus_real": fake - real}


def features_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a layer and colour each."""
    blocks = rows[rows["layer"].str.startswith("block_")].drop_duplicates("layer")
    number = blocks["layer"].str.removeprefix("block_").astype(int)
    return {"early_of_sample": blocks[2 * number < len(blocks)]["variance_of_sample_share"].mean()}


def stages_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a stage each."""
    return {"first_to_final": rows.loc[rows["stage"].idxmin(), "to_final"]}


def paths_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a path each; paths along which nothing changes count for nothing."""
    return {name: rows[name].mean() for name in ("largest_step_share", "straightness")}


def evaluations_summary(rows: pd.DataFrame) -> Row:
    """Of rows, a number each: those without truncation, by the run's own decoder (as ``evaluation=corrected`` measures).

    :class:`UserError` for one name by several such protocols, which do not compare, or several times by one.
    """
    rows = rows[(rows["truncation"] == 0) & (rows["decoder"] == "own")]
    for name, same in rows.groupby("number"):
        if same["protocol_id"].nunique() > 1:
            raise UserError(
                f"{name} was measured by several protocols: keep the records of one in the run's evaluations/"
            )
        if len(same) > 1:
            raise UserError(
                f"{name} was measured {len(same)} times (of several seeds?): keep one record of it in the run's evaluations/"
            )
    return dict(zip(rows["number"], rows["value"], strict=True))


SUMMARIES: dict[str, Callable[[pd.DataFrame], Row]] = {
    "layer_lpips": blocks_summary,
    "cknna": alignment_summary,
    "pca_features": features_summary,
    "stages": stages_summary,
    "interpolation": paths_summary,
    "evaluations": evaluations_summary,
}


def metrics_of(diagnostic: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The metrics of a table of rows: a row per run and checkpoint; runs without numbers (diverged) are kept without."""
    found = []
    for key, same in rows.reindex(columns=list(dict.fromkeys([*RUN, *rows]))).groupby(RUN, dropna=False, sort=False):
        numbers = same.dropna(subset=["step"])
        found.append(dict(zip(RUN, key, strict=True)) | (SUMMARIES[diagnostic](numbers) if len(numbers) else {}))
    return pd.DataFrame(found)
