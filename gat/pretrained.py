"""Trained generators from wherever they lie: a run's checkpoint, the authors' release, a pipeline folder, the hub.

    RUN or RUN/checkpoints/step-N.safetensors   a run of ours (the folder: its last checkpoint)
    FILE.pt                                     the authors' training checkpoint: a pickled dictionary with ``ema``,
                                                ``generator``, ``args`` (hse1032/GAT, train.py); or a bare state dict
    FOLDER with model_index.json                a pipeline: ours (gat.pipeline), or the release's conversion to diffusers
    OWNER/NAME[/SUBFOLDER]                      such a folder on the hub, e.g. BiliSakura/GAT-diffusers/GAT-XL-2-256

Of a file with several sets of weights, the averaged ones (``ema``) are taken. Pickles are read as tensors only
(:mod:`gat.state_dicts`).
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gat.checkpoint_file import checkpoints_in, read_checkpoint
from gat.errors import UserError, first_line
from gat.files import sha256
from gat.models import Generator
from gat.models.generator import GeneratorDims
from gat.numerics import NUMERICS
from gat.release import load_generator
from gat.state_dicts import (
    AVERAGED,
    PLAIN,
    StateDict,
    diffusers_file,
    read_diffusers,
    read_weights,
    state_in,
    unwrapped,
)

DISCRIMINATOR_SIGNS = ("patch_embed.weight", "logit_linear.weight", "final_layer.1.weight")
RELEASE_SIGN = "y_embedder.embedding_table.weight"
PIPELINE_WEIGHTS = "generator/diffusion_pytorch_model.safetensors"
PIPELINE_INDEX = "model_index.json"
NO_GENERATOR = "{}: holds a discriminator, which cannot generate: give the generator's checkpoint"
NOT_DIMS = (ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)  # of making a network of odd sizes
PICKLES = (".pt", ".pth", ".ckpt", ".bin")
WHAT_THERE_IS = (
    "a run's folder or checkpoint, the release's .pt, a pipeline folder, or OWNER/NAME[/SUBFOLDER] on the hub"
)


@dataclass(frozen=True)
class Pretrained:
    """A generator with averaged weights, frozen, in evaluation mode and fp32; and where it comes from."""

    generator: Generator
    kind: str
    """``run``, ``release`` (authors' file), ``conversion`` (of the release to diffusers) or ``pipeline`` (ours)."""
    source: Path
    """The file of the weights."""
    facts: dict[str, Any]
    """Provenance for records: ``checkpoint``, ``kind``, ``sha256``, ``weights``, ``step``."""
    home: Path | None
    """The run's folder or the pipeline's; None for a lone file."""
    fetched: bool = False
    """Whether it lies in the hub's cache."""

    @property
    def place(self) -> Path:
        """Where a command writes by default: the home, or the present folder."""
        return self.home if self.home is not None and not self.fetched else Path()


def load_pretrained(where: str) -> Pretrained:
    """The generator at ``where``; :class:`UserError` for anything that is none, a discriminator's weights among them."""
    path = Path(where)
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        return _from_file(path, where)
    if _may_be_on_the_hub(where):
        return replace(_from_folder(fetch(where)), fetched=True)
    raise UserError(f"checkpoint={where}: no such file or folder: give {WHAT_THERE_IS}")


def _may_be_on_the_hub(where: str) -> bool:
    """Whether ``where``, which is not here, reads as a hub name: not RUNS/RUN misspelt, where the folder RUNS is here."""
    first, *rest = where.split("/")
    named = len(rest) in (1, 2) and first not in ("", ".", "..", "~")
    return named and Path(where).suffix not in (*PICKLES, ".safetensors") and not Path(first).is_dir()


def fetch(where: str) -> Path:
    """The local copy of OWNER/NAME[/SUBFOLDER] on the hub, its networks alone; :class:`UserError` if it cannot be had."""
    from huggingface_hub import snapshot_download

    owner, name, *subfolder = where.split("/")
    wanted = ["/".join([*subfolder, part]) for part in (PIPELINE_INDEX, "generator/*", "vae/*")]
    try:
        folder = Path(snapshot_download(f"{owner}/{name}", allow_patterns=wanted)).joinpath(*subfolder)
    except Exception as error:  # the hub's client and the network each raise their own kinds
        raise UserError(
            f"checkpoint={where}: no such file or folder, and not to be had from the hub ({first_line(error)}): "
            f"give {WHAT_THERE_IS}; without network, fetch it elsewhere and give the local folder"
        ) from error
    return folder


def _from_folder(folder: Path) -> Pretrained:
    if (folder / PIPELINE_INDEX).is_file():
        return _from_pipeline(folder)
    if stored := diffusers_file(folder):
        return _from_generator_alone(folder, stored[0])
    checkpoints = checkpoints_in(folder)
    if not checkpoints:
        raise UserError(f"checkpoint={folder}: holds neither {PIPELINE_INDEX} nor checkpoints/: give {WHAT_THERE_IS}")
    return _from_run(checkpoints[-1])


def _from_generator_alone(folder: Path, file: Path) -> Pretrained:
    """Load the generator folder of the release's conversion; raise :class:`UserError` for ours, which needs its pipeline."""
    tensors, files = read_diffusers(file)
    if RELEASE_SIGN in tensors:
        return _made(_generator(file, unwrapped(tensors)), "conversion", files, "generator", folder)
    raise UserError(
        f"checkpoint={folder}: is one part of a pipeline, without {PIPELINE_INDEX} and the autoencoder: give the folder of "
        "the whole pipeline, usually its parent"
    )


def _from_file(file: Path, where: str) -> Pretrained:
    if file.suffix == ".safetensors":
        tensors = read_weights(file)
        if any(key.startswith(f"{part}.") for part in ("ema", "generator", "discriminator") for key in tensors):
            return _from_run(file)
        return _made(_generator(file, unwrapped(tensors)), "release", [file], "generator", None)
    if file.suffix in PICKLES:
        return _from_pickle(file)
    raise UserError(f"checkpoint={where}: {file.suffix or 'a file without a suffix'} is unknown: give {WHAT_THERE_IS}")


def _from_run(file: Path) -> Pretrained:
    metadata, tensors = read_checkpoint(file, "ema.")
    if "generator" not in metadata:
        raise UserError(
            f"{file}: its metadata lack the generator's dimensions: it is of an earlier version, train it again"
        )
    try:
        step, generator = int(metadata["step"]), Generator(GeneratorDims(**json.loads(metadata["generator"])))
    except NOT_DIMS as error:
        raise UserError(f"{file}: its metadata are not those of a run ({first_line(error)}): fetch it again") from error
    _take(generator, tensors, file)
    home = file.parent.parent if (file.parent.parent / "config.yaml").is_file() else None
    return _made(generator, "run", [file], "ema", home, step=step)


def _from_pickle(file: Path) -> Pretrained:
    content = read_weights(file)
    try:
        key, state = state_in(content, (*AVERAGED, *PLAIN))
    except ValueError as error:
        if "discriminator" in content:
            raise UserError(NO_GENERATOR.format(file)) from error
        raise UserError(f"{file}: {error}: give {WHAT_THERE_IS}") from error
    return _made(_generator(file, state), "release", [file], key, None, step=_step(content.get("steps")))


def _step(given: Any) -> int | None:
    """Return the step of a checkpoint as a number; None if it is not one."""
    try:
        return int(given)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        OverflowError,
    ):  # None, other text, a tensor of several numbers, infinity
        return None


def _from_pipeline(folder: Path) -> Pretrained:
    stored = diffusers_file(folder / "generator")
    if stored is None:
        raise UserError(f"{folder}: has no {PIPELINE_WEIGHTS}: fetch the whole folder again, or export it again")
    file = stored[0]
    tensors, files = read_diffusers(file)
    tensors = unwrapped(tensors)
    if RELEASE_SIGN in tensors:
        return _made(_generator(file, tensors), "conversion", files, "generator", folder)
    try:
        config = json.loads((file.parent / "config.json").read_text(encoding="utf-8"))
        given = {key: value for key, value in config.items() if not key.startswith("_")}
        generator = Generator(GeneratorDims(**given))
    except (OSError, *NOT_DIMS) as error:
        raise UserError(
            f"{file.parent}/config.json: not a generator's ({first_line(error)}): export it again"
        ) from error
    _take(generator, tensors, file)
    return _made(generator, "pipeline", files, "generator", folder)


def _generator(file: Path, state: StateDict) -> Generator:
    """Make a generator from the release's state dict, read from ``file``."""
    if any(sign in state for sign in DISCRIMINATOR_SIGNS):
        raise UserError(NO_GENERATOR.format(file))
    try:
        return load_generator({key: value.float() for key, value in state.items()})
    except ValueError as error:
        raise UserError(f"{file}: no generator of GAT ({error}): give {WHAT_THERE_IS}") from error


def _take(generator: Generator, tensors: dict[str, Tensor], file: Path) -> None:
    if "pos_embed" not in tensors:
        raise UserError(
            f"{file}: has no position codes (pos_embed): it is damaged, or was written before version {NUMERICS} of the "
            "numerics, which trains them: use the version of this code that wrote it"
        )
    try:
        generator.load_state_dict(tensors)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise UserError(f"{file}: its tensors are not those of its generator ({lines[-1]}): fetch it again") from error


def _made(
    generator: Generator, kind: str, files: list[Path], weights: str, home: Path | None, step: int | None = None
) -> Pretrained:
    """Freeze ``generator`` and state its facts: path of the first of ``files``, SHA-256 (of several: of their digests)."""
    digests = [sha256(file) for file in files]
    digest = digests[0] if len(files) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    facts = {"checkpoint": str(files[0]), "kind": kind, "sha256": digest, "weights": weights, "step": step}
    return Pretrained(generator.float().requires_grad_(False).eval(), kind, files[0], facts, home)
