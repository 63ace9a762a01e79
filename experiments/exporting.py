"""A pipeline folder from a checkpoint, and its upload."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.checkpoints import DECODERS, asked_for
from gat.errors import UserError, first_line
from gat.evaluation.subject import open_data, open_subject
from gat.files import told
from gat.model_card import model_card, write_model_card
from gat.pipeline import make_pipeline
from gat.pretrained import PIPELINE_INDEX, Pretrained
from gat.training.results import RECORD, any_record

CPU = torch.device("cpu")
UPLOADED = [PIPELINE_INDEX, "README.md", "generator/*", "vae/*"]


def export(settings: DictConfig, overrides: list[str]) -> str:
    """Write the pipeline and its card, upload them if asked to; what to tell the user. ``overrides``: what was typed.

    Raises :class:`gat.errors.UserError` for every mistake in checkpoint and settings, and where the hub refuses.
    """
    pretrained, config = asked_for(settings, overrides, DECODERS)
    out = Path(settings.out) if settings.out else pretrained.place / "pipeline"
    check_place(out, pretrained)
    data = open_data(pretrained, config) if pretrained.kind == "run" else None
    subject = open_subject(pretrained, config, data, CPU)
    parts = (subject.generator, subject.decoder, subject.scale, subject.class_names or None)
    pipeline = make_pipeline(*parts, config.evaluation.truncation, subject.decoder_name)
    where = settings.export.push_to or out.resolve().name  # a recipient has the folder at another path
    card = model_card(pipeline, where, pretrained.facts, record_of(pretrained), license=settings.export.license)
    with told(f"pipeline in {out}", "start the same command again, or set another out"):
        out.mkdir(parents=True, exist_ok=True)
        pipeline.save_pretrained(out, safe_serialization=True)
        write_model_card(out, card)
    if settings.export.push_to:
        upload(out, settings.export.push_to)
        return f"{out}, https://huggingface.co/{settings.export.push_to}"
    return f"{out}: {', '.join(sorted(str(file.relative_to(out)) for file in out.rglob('*') if file.is_file()))}"


def check_place(out: Path, pretrained: Pretrained) -> None:
    """:class:`gat.errors.UserError` for a folder with anything but an earlier export."""
    if pretrained.home is not None and out.resolve() == pretrained.home.resolve():
        raise UserError(f"out={out}: is where the weights come from: set another out")
    if out.is_dir() and any(out.iterdir()) and not (out / PIPELINE_INDEX).is_file():
        raise UserError(f"out={out}: holds other things than a pipeline: name a new folder")


def record_of(pretrained: Pretrained) -> dict[str, Any] | None:
    """Return the run's record, if there is one; raise :class:`gat.errors.UserError` if it cannot be read."""
    home = pretrained.home if pretrained.kind == "run" else None
    record = any_record(home) if home is not None else None
    if record is not None and "config" not in record:
        raise UserError(f"{home}/{RECORD}: not the record of a run (lacks 'config'): start the run again to write it")
    return record


def upload(folder: Path, name: str) -> None:
    """To OWNER/NAME on the hub, made if need be; :class:`UserError` if that refuses (the folder stays)."""
    import huggingface_hub

    try:
        huggingface_hub.create_repo(name, exist_ok=True)
        huggingface_hub.upload_folder(repo_id=name, folder_path=folder, allow_patterns=UPLOADED)
    except Exception as error:  # the hub's client and the network each raise their own kinds
        raise UserError(
            f"export.push_to={name}: the hub refuses ({first_line(error)}): log in (hf auth login), or check the name; the "
            f"pipeline is whole in {folder}"
        ) from error
