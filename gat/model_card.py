"""The model card (README.md) of a shared pipeline: what it is, how to use it, what made it, and what it cannot do.

Everything in it comes from the pipeline, from where its weights were read (``facts`` of gat.pretrained) and from the run's
record; local paths stay out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from gat.files import replacing, told
from gat.pipeline import GATPipeline

CARD = "README.md"
TAGS = ["gat", "gan", "image-generation", "class-conditional"]
TASK = "unconditional-image-generation"  # the hub knows no task of class labels
PAPER = '["Scalable GANs with Transformers" (GAT)](https://arxiv.org/abs/2509.24935)'
PAPER_IMAGES, PAPER_CLASSES = 1_281_167, 1000
PAPER_EPOCHS = (40, 60)
ORIGINS = {
    "run": "a run of GAT-Repro, a reproduction of the paper by others than its authors",
    "release": "the paper's authors (their release), read into GAT-Repro's generator",
    "conversion": "the paper's authors (their release, as converted to diffusers), read into GAT-Repro's generator",
    "pipeline": "an earlier pipeline of GAT-Repro",
}
SETTINGS = (  # of a run's configuration, besides the whole objective
    "data.source",
    "data.resolution_px",
    "model.family",
    "model.size",
    "model.discriminator_size",
    "model.patch",
    "model.num_stages",
    "autoencoder.kind",
    "autoencoder.path",
    "autoencoder.latent_channels",
    "teacher.name",
    "training.total_steps",
    "training.batch_size",
    "training.seed",
    "training.precision",
    "optim.lr_base",
    "optim.lr_multiple",
    "optim.ema_decay",
)
ABOUT_PROTOCOLS = (
    "How they were measured (numbers of different protocols are not comparable; `FID` is said of Inception's features "
    "alone):"
)
SNIPPET = """\
import torch
from gat.pipeline import GATPipeline

pipe = GATPipeline.from_pretrained({where}).to("cuda" if torch.cuda.is_available() else "cpu")
output = pipe(class_labels=[{label}], truncation={truncation}, generator=torch.Generator().manual_seed(0))
output.images[0].save("sample.png")
"""

Row = Sequence[object]


def model_card(
    pipeline: GATPipeline,
    where: str,
    facts: dict[str, Any],
    record: dict[str, Any] | None = None,
    *,
    license: str | None = None,  # noqa: A002
    title: str | None = None,
) -> str:
    """Markdown with the hub's metadata on top.

    ``where``: the folder or OWNER/NAME that the usage example loads. ``facts``: of the weights (``Pretrained.facts``).
    ``record``: of the run that made them, None if there is none. ``license``: of the weights, an identifier of the hub's;
    None states none. ``title``: None for one from the record.
    """
    metadata = ModelCardData(license=license, library_name="diffusers", pipeline_tag=TASK, tags=TAGS).to_yaml()
    parts = [
        f"---\n{metadata}\n---",
        f"# {title or _title(record)}",
        _what(pipeline, facts),
        f"## Use\n\n{_use(pipeline, where)}",
        f"## Training\n\n{_training(facts, record)}",
        f"## Numbers\n\n{_numbers(facts, record)}",
        f"## Origin\n\n{_origin(facts, record)}",
        f"## Limits\n\n{_limits(pipeline, facts, record, license)}",
    ]
    return "\n\n".join(parts) + "\n"


def write_model_card(folder: Path, card: str) -> None:
    """Write ``README.md``, whole or not at all; :class:`gat.errors.UserError` if the folder cannot be written."""
    with told(f"model card in {folder}", "export it again"), replacing(folder / CARD) as stream:
        stream.write(card.encode())


def _title(record: dict[str, Any] | None) -> str:
    if record is None:
        return "GAT generator"
    model = record["config"]["model"]
    return f"GAT {model['family']}-{model['size']}/{model['patch']} on {record['config']['data']['source']}"


def _what(pipeline: GATPipeline, facts: dict[str, Any]) -> str:
    dims = pipeline.generator.dims
    count = sum(parameter.numel() for parameter in pipeline.generator.parameters())
    return (
        f"A generator of images by class in one step, of {PAPER}, with the decoder of its latents. It is from "
        f"{ORIGINS[facts['kind']]}.\n\n"
        f"Images of {_side_px(pipeline)} x {_side_px(pipeline)} pixels in {dims.num_classes} classes. The generator has "
        f"{count:,} parameters: {dims.depth} blocks of width {dims.width}, {dims.heads} heads, patches of {dims.patch} x "
        f"{dims.patch} on latents of {dims.latent_side} x {dims.latent_side} x {dims.channels}, {dims.num_stages} stages."
    )


def _side_px(pipeline: GATPipeline) -> int:
    side: int = pipeline.generator.dims.latent_side
    return side * 2 ** (len(pipeline.vae.config.block_out_channels) - 1)


def _use(pipeline: GATPipeline, where: str) -> str:
    label = next((json.dumps(name, ensure_ascii=False) for name in _usable_names(pipeline)), "0")
    psi = pipeline.config.truncation
    snippet = SNIPPET.format(where=json.dumps(where, ensure_ascii=False), label=label, truncation=psi)
    names = "names or numbers" if pipeline.labels else "numbers"
    return (
        f"It needs the Python package `gat` of GAT-Repro; there is no code in this folder.\n\n```python\n{snippet}```\n\n"
        f"`class_labels` takes {names} (0 to {pipeline.generator.dims.num_classes - 1}), `truncation` a number from 0 (off) "
        f"to 1 (variety gives way to the class mean; the default here is {psi:g}), `output_type` one of `pil`, `np`, `pt`, "
        "`latent`. `diffusers.DiffusionPipeline.from_pretrained` loads it too, once `gat.pipeline` has been imported."
    )


def _usable_names(pipeline: GATPipeline) -> list[str]:
    """The first name of each class that shares it with no other."""
    first = [entry.split(",")[0].strip() for entry in (pipeline.config.id2label or {}).values()]
    return [name for name in first if len(pipeline.labels[name]) == 1]


def _training(facts: dict[str, Any], record: dict[str, Any] | None) -> str:
    if record is None:
        return "There is no record of how these weights were trained."
    settings = _flat(record["config"])
    chosen = [key for key in settings if key in SETTINGS or key.startswith("objective.")]
    table = _table(("setting", "value"), [(f"`{key}`", json.dumps(settings[key])) for key in chosen])
    step, images = _seen(facts, record)
    return f"{step:,} steps, {images:,} images seen.{_divergence(record)}\n\n{table}"


def _seen(facts: dict[str, Any], record: dict[str, Any]) -> tuple[int, int]:
    """Steps and images that the weights have been trained for; the run may have gone on, or have diverged later."""
    step: int = record["final_metrics"]["step"] if facts["step"] is None else facts["step"]
    return step, step * record["config"]["training"]["batch_size"]


def _divergence(record: dict[str, Any]) -> str:
    if record["status"] != "diverged":
        return ""
    step, reason = record["diverged"]["step"], record["diverged"]["reason"]
    return f" **The run diverged at step {step} ({reason}); these weights are from before.**"


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return values by dotted names; local paths (anything but OWNER/NAME on the hub) are cut to their last part."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        local = isinstance(value, str) and (value.startswith(("/", ".", "~")) or value.count("/") > 1)
        plain = Path(value).name if local else value
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: plain}
    return flat


def _numbers(facts: dict[str, Any], record: dict[str, Any] | None) -> str:
    """The final metrics about samples, each with its protocol; none if they are of another step's weights."""
    if record is None:
        return "None were measured in making this pipeline."
    final = record["final_metrics"]
    numbers = [(name, n) for evaluation in final.get("evaluations", {}).values() for name, n in evaluation.items()]
    if not numbers:
        return "None were measured."
    if facts["step"] not in (None, final["step"]):
        return (
            f"None of these weights: they are of step {facts['step']}, the run's final numbers of step {final['step']}."
        )
    protocols = [_protocol(record, number["protocol"]) for _, number in numbers]
    rows = [(f"`{n}`", _value(one["value"]), _called(p)) for (n, one), p in zip(numbers, protocols, strict=True)]
    table = _table(("number", "value", "protocol"), rows)
    rules = {_called(protocol): _rules(protocol) for protocol in protocols}
    described = "\n".join(f"- **{called}**: {rule}" for called, rule in rules.items())
    return f"{table}\n\n{ABOUT_PROTOCOLS}\n\n{described}"


def _protocol(record: dict[str, Any], used: str) -> dict[str, Any] | None:
    """Return the protocol whose id is ``used``; None if the record lacks it."""
    found: dict[str, Any] | None = record.get("protocols", {}).get(used)
    return found if found is None else {"id": used} | found


def _called(protocol: dict[str, Any] | None) -> str:
    return "not recorded" if protocol is None else f"{protocol.get('name', 'own')} ({protocol['id']})"


def _rules(protocol: dict[str, Any] | None) -> str:
    if protocol is None:
        return "compare these numbers with no others"
    return ", ".join(f"{key} {value}" for key, value in protocol.items() if key not in ("id", "name"))


def _value(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.5g}"


def _origin(facts: dict[str, Any], record: dict[str, Any] | None) -> str:
    rows: list[Row] = [
        ("weights", f"`{facts['weights']}` of `{Path(facts['checkpoint']).name}`"),
        ("SHA-256", f"`{facts['sha256']}`"),
        ("step", "unknown" if facts["step"] is None else facts["step"]),
    ]
    if record is not None:
        rows += [("ended", record["ended_at"]), ("run's identity", f"`{record['identity']}`"), ("code", _code(record))]
        rows += [(f"hardware: {key}", _shown(value)) for key, value in record["hardware"].items()]
        rows += [(f"version: {key}", value) for key, value in record["versions"].items()]
    return _table(("what", "which"), rows)


def _code(record: dict[str, Any]) -> str:
    git = record["git"]
    if git["commit"] is None:
        return "commit unknown"
    return f"commit `{git['commit']}`{', **with changes that were not committed**' if git['dirty'] else ''}"


def _shown(value: object) -> object:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else value


def _limits(pipeline: GATPipeline, facts: dict[str, Any], record: dict[str, Any] | None, licence: str | None) -> str:
    dims, side = pipeline.generator.dims, _side_px(pipeline)
    lines = [
        f"It draws what it was trained on and nothing else: {dims.num_classes} classes at {side} x {side} pixels; no text, "
        "no other sizes. What is wrong or one-sided in those images is in its samples too.",
        "Samples go through a lossy autoencoder, which bounds their detail.",
    ]
    if record is not None:
        lines.append(_scale(facts, record, dims.num_classes))
    elif facts["kind"] in ("release", "conversion"):
        lines.append("The weights are the authors'; what they report of them was not measured anew for this card.")
    if licence is None:
        lines.append(
            "No licence is stated: whoever trained the weights, and the owners of the training images, have a say."
        )
    return "\n".join(f"- {line}" for line in lines)


def _scale(facts: dict[str, Any], record: dict[str, Any], num_classes: int) -> str:
    """How far the training is from the paper's."""
    (_, seen), source = _seen(facts, record), record["config"]["data"]["source"]
    low, high = (epochs * PAPER_IMAGES for epochs in PAPER_EPOCHS)
    line = (
        f"Trained on `{source}`: {seen:,} images seen. The paper's models see {low / 1e6:.0f} to {high / 1e6:.0f} million, "
        f"of ImageNet's {PAPER_CLASSES:,} classes."
    )
    if seen >= low and num_classes == PAPER_CLASSES:
        return line
    return (
        f"{line} This is not that model, and its numbers say nothing about the quality that the method reaches there."
    )


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
