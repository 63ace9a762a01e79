"""A trained generator as a diffusers pipeline, for sharing: class labels in, images out.

    model_index.json    class names (``id2label``), ``latent_scale``, default ``truncation``
    generator/          config.json: the fields of GeneratorDims; diffusion_pytorch_model.safetensors: Generator's state dict
    vae/                the AutoencoderKL

What loads it, from a folder or OWNER/NAME on the hub: ``GATPipeline.from_pretrained`` and, once this module has been
imported, ``diffusers.DiffusionPipeline.from_pretrained`` as well; no ``custom_pipeline``, no ``trust_remote_code``. Without
this package nothing does: the folder holds no code. ``push_to_hub`` writes a README.md of its own over the folder's.
Offloading to the CPU is not supported.

Shapes: B images, C latent channels, H latent side, P image side in pixels.
"""

import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Self, Union

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, ConfigMixin, DiffusionPipeline, ImagePipelineOutput, ModelMixin
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from gat.data.autoencoder import decode
from gat.data.images import to_uint8
from gat.errors import UserError, require_choice
from gat.models import Generator
from gat.models.generator import GeneratorDims
from gat.rng import seeded_init
from gat.tensors import writing_weights
from gat.truncation import check_truncation

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
LABELS_SHOWN = 5

# older versions of diffusers read an __init__'s annotations in this form alone
Names = Union[dict[int, str], dict[str, str], None]  # noqa: UP007
Scale = Union[float, None]  # noqa: UP007
Label = int | str
Images = list[Image.Image] | NDArray[np.float32] | Tensor


class GATGenerator(Generator, ModelMixin, ConfigMixin):
    """:class:`gat.models.Generator` that diffusers saves and loads; its ``config`` are the fields of its dimensions."""

    # diffusers' own would find the config's number ``heads`` before the modules of that name
    __getattr__ = nn.Module.__getattr__

    def __init__(self, **dims: Any) -> None:
        super().__init__(GeneratorDims(**dims))
        ConfigMixin.register_to_config(self, **asdict(self.dims))

    @classmethod
    def of(cls, generator: Generator) -> Self:
        """A copy of ``generator``, frozen, on its device and in its dtype.

        RoPE's tables are not in the state dict: the copy computes its own, as a saved pipeline does when it is loaded. The
        release's tables, computed in single precision, differ from them by rounding.
        """
        with seeded_init(0):  # leaves the global random state alone
            copy = cls(**asdict(generator.dims))
        nn.Module.to(copy, generator.mean_w.device, generator.mean_w.dtype)  # diffusers' warns of every dtype
        copy.load_state_dict(generator.state_dict())
        return copy.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **options: Any) -> Any:
        """As diffusers', but for :class:`UserError` where that leaves what a file lacks at random values."""
        told = options.pop("output_loading_info", False)
        model, info = super().from_pretrained(pretrained_model_name_or_path, output_loading_info=True, **options)
        for problem in ("missing", "unexpected"):
            if keys := sorted(info[f"{problem}_keys"]):
                raise UserError(
                    f"{pretrained_model_name_or_path}: its tensors are not those of its config.json ({problem}: {keys[0]}, "
                    f"{len(keys)} in all): fetch both again, or export them anew"
                )
        return (model, info) if told else model


GATGenerator.__init__.__signature__ = Signature(  # type: ignore[attr-defined]  # where diffusers reads the config's fields
    [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
    + [Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default) for f in fields(GeneratorDims)]
)


class GATPipeline(DiffusionPipeline):
    """Images of classes from a generator and the decoder of its latents.

    ``id2label``: names by class number, synonyms separated by commas as in ImageNet's. ``latent_scale``: the generator's
    latents are the autoencoder's times this; None: the autoencoder's ``scaling_factor``. ``truncation``: of calls that give
    none, 0 (off) to 1 (the class means alone). ``decoder``: ``own`` if ``vae`` is what was trained on, else its name.
    """

    def __init__(
        self,
        generator: GATGenerator,
        vae: AutoencoderKL,
        id2label: Names = None,
        latent_scale: Scale = None,
        truncation: float = 0.0,
        decoder: str = "own",
    ) -> None:
        super().__init__()
        if vae.config.latent_channels != generator.dims.channels:
            raise UserError(
                f"the vae has {vae.config.latent_channels} latent channels, the generator {generator.dims.channels}: "
                "give the autoencoder that it was trained with"
            )
        scale = vae.config.scaling_factor if latent_scale is None else _plain(latent_scale)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise UserError(f"latent_scale={scale!r} must be a finite number above 0")
        check_truncation(truncation)
        names = checked_names(id2label, generator.dims.num_classes)
        self.register_modules(generator=generator, vae=vae)
        self.register_to_config(id2label=names or None, latent_scale=float(scale), truncation=float(truncation))
        self.register_to_config(decoder=decoder)
        self.labels = class_numbers(names)
        """Class numbers by name, of whole entries and of synonyms."""

    def save_pretrained(self, save_directory: Any, *arguments: Any, **options: Any) -> None:
        """Save as diffusers does, but without the local paths from which the parts were loaded (``_name_or_path``)."""
        for part in (self, self.generator, self.vae):
            if "_name_or_path" in part.config:
                part.register_to_config(_name_or_path="")
        with writing_weights(Path(save_directory)):
            super().save_pretrained(save_directory, *arguments, **options)

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Return the class numbers of one name or several; raise :class:`UserError` for an unknown or ambiguous name."""
        return [self._number(name) for name in _listed(label)]

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Label | Sequence[Label] | Tensor,
        truncation: float | None = None,
        num_images_per_label: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """One image for each of ``class_labels`` (numbers, names or both), or ``num_images_per_label`` of each, side by side.

        ``truncation``: None for the pipeline's own. ``generator``: the random numbers', or a list with one per image.
        ``output_type``: ``pil``; ``np`` (B, P, P, 3) and ``pt`` (B, 3, P, P), fp32 in [0, 1], the same 256 grey levels;
        ``latent``: the generator's latents (B, C, H, H), before the division by ``latent_scale``. Returns an
        ``ImagePipelineOutput``, or without ``return_dict`` a tuple of the images. All mistakes are :class:`UserError`.
        """
        require_choice("output_type", output_type, OUTPUT_TYPES)
        if not isinstance(return_dict, bool):
            raise UserError(f"return_dict={return_dict!r} must be True or False")
        psi = self.config.truncation if truncation is None else _plain(truncation)
        check_truncation(psi)
        labels = self._labels(class_labels, _plain(num_images_per_label))
        latents = self.generator(self._draw(len(labels), generator), labels, truncation=psi)[-1]
        images = latents if output_type == "latent" else self._decode(latents, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _draw(self, count: int, generator: torch.Generator | list[torch.Generator] | None) -> Tensor:
        """Draw z (B, z_dim), in fp32, so that a seed means the same image in every dtype."""
        given = generator if isinstance(generator, list) else [] if generator is None else [generator]
        for one in given:
            if not isinstance(one, torch.Generator):
                raise UserError(f"generator={one!r} must be a torch.Generator, or a list with one per image")
        if isinstance(generator, list) and len(generator) != count:
            raise UserError(f"{len(generator)} generators were given for {count} images: give one, or one per image")
        z = randn_tensor((count, self.generator.dims.z_dim), generator, self.generator.device, torch.float32)
        return z.to(self.generator.dtype)

    def _decode(self, latents: Tensor, output_type: str) -> Images:
        pixels = to_uint8(decode(self.vae, latents, self.config.latent_scale))
        if output_type == "pt":
            return pixels.float() / 255
        rows = pixels.permute(0, 2, 3, 1).cpu()
        return (
            (rows.float() / 255).numpy() if output_type == "np" else [Image.fromarray(image) for image in rows.numpy()]
        )

    def _labels(self, given: Label | Sequence[Label] | Tensor, repeats: int) -> Tensor:
        """Return the class numbers (B,) on the generator's device."""
        listed = _listed(given)
        if not listed:
            raise UserError("class_labels is empty: give at least one class number or name")
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise UserError(f"num_images_per_label={repeats!r} must be a whole number of at least 1")
        numbers = torch.tensor([self._number(_plain(label)) for label in listed], device=self.generator.device)
        return numbers.repeat_interleave(repeats)

    def _number(self, label: object) -> int:
        """Of one class, by number or name."""
        if isinstance(label, str):
            return self._named(label)
        if not isinstance(label, int) or isinstance(label, bool):
            raise UserError(
                f"class_labels: {label!r} is neither a class number nor a name: give these, or a list of them"
            )
        check_class(label, self.generator.dims.num_classes, "class_labels")
        return label

    def _named(self, name: str) -> int:
        numbers = self.labels.get(name, [])
        if len(numbers) == 1:
            return numbers[0]
        if numbers:
            raise UserError(f"several classes are called {name!r}: give the number, one of {numbers}")
        if not self.labels:
            raise UserError(
                f"no class is called {name!r}, as this pipeline knows no names: give numbers, 0 to "
                f"{self.generator.dims.num_classes - 1}"
            )
        close = difflib.get_close_matches(name, self.labels, LABELS_SHOWN)
        remedy = f"did you mean {' or '.join(map(repr, close))}?" if close else "its labels lists all names"
        raise UserError(f"no class of this pipeline is called {name!r}: {remedy}")


def _plain(value: Any) -> Any:
    """Python's numbers instead of NumPy's or PyTorch's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _listed(labels: Any) -> Sequence[Any]:
    """Return one label, or several, as a sequence."""
    plain = _plain(labels)
    return [plain] if isinstance(plain, str) or not isinstance(plain, Sequence) else plain


def checked_names(id2label: Names, num_classes: int) -> dict[int, str]:
    """Return names by class number; raise :class:`UserError` for an entry of another kind, or a class that does not exist."""
    if not isinstance(id2label, Mapping | None):
        raise UserError(f"id2label={id2label!r} must be a mapping from class numbers to names, or None")
    names = {}
    for number, name in (id2label or {}).items():
        if not str(number).isdecimal() or not isinstance(name, str):
            raise UserError(f"id2label: {{{number!r}: {name!r}}} must be a class number with its name")
        names[int(number)] = name
    for number in names:
        check_class(number, num_classes, "id2label")
    return names


def class_numbers(id2label: Mapping[int, str]) -> dict[str, list[int]]:
    """Class numbers by name, of whole entries and their synonyms; a whole entry goes before another's synonym."""
    whole: dict[str, list[int]] = {}
    parts: dict[str, list[int]] = {}
    for number, entry in id2label.items():
        whole.setdefault(entry, []).append(number)
        for synonym in {part.strip() for part in entry.split(",")}:
            parts.setdefault(synonym, []).append(number)
    return dict(sorted((parts | whole).items()))


def check_class(number: int, num_classes: int, where: str) -> None:
    """:class:`UserError` unless there is a class of that number."""
    if not 0 <= number < num_classes:
        raise UserError(
            f"{where}: there is no class {number}: this generator has {num_classes} classes, 0 to {num_classes - 1}"
        )


def make_pipeline(
    generator: Generator,
    vae: AutoencoderKL,
    latent_scale: float,
    class_names: Sequence[str] | None = None,
    truncation: float = 0.0,
    decoder: str = "own",
) -> GATPipeline:
    """A pipeline of a copy of ``generator`` and of ``vae`` itself; ``class_names`` in the order of the class numbers."""
    if class_names is not None and len(class_names) != generator.dims.num_classes:
        raise UserError(
            f"{len(class_names)} class names were given for {generator.dims.num_classes} classes: give one for each, or none"
        )
    id2label = None if class_names is None else dict(enumerate(class_names))
    return GATPipeline(GATGenerator.of(generator), vae, id2label, latent_scale, truncation, decoder)


# diffusers finds pipelines in its own namespace, and takes from the hub only components of modules that it knows there
diffusers.GATPipeline = GATPipeline
setattr(diffusers.pipelines, __name__, sys.modules[__name__])
