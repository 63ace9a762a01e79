"""Kinds of numbers about samples, and their names. Imports nothing heavy."""

from gat.evaluation.protocol import INCEPTION

CLASSIFIER = "classifier"  # the extractor trained on the data set itself
FRECHET, RECONSTRUCTION = "frechet", "frechet_reconstruction"
KINDS = {
    FRECHET: "",
    RECONSTRUCTION: "",
    "kid": "KID",
    "inception_score": "IS",
    "precision": "precision",
    "recall": "recall",
    "class_accuracy": "class_accuracy",
    "class_accuracy_real_held_out": "class_accuracy_real_held_out",
}
"""Every kind and the stem of its names; a Fréchet distance is named after its features."""
LABELS = {  # the literature's name of the Fréchet distance in these features, and the suffix of other numbers
    INCEPTION: ("FID", ""),
    "clip-vit-b-32": ("CLIP-FID", "-CLIP"),
    "dinov2-vit-l-14": ("FD-DINOv2", "-DINOv2"),
    "efficientnet-lite0": ("FD-EfficientNetLite0", "-EfficientNetLite0"),
}


def number_name(kind: str, extractor: str, samples: int) -> str:
    """Return the name of a number: ``FID-50K``, ``KID-EfficientNetLite0-1K``, ``FID-5K-reconstruction``.

    It names the features, unless they are Inception's, and the number of samples.
    """
    if kind.startswith("class_accuracy"):
        return KINDS[kind]
    count = f"{samples // 1000}K" if samples % 1000 == 0 else str(samples)
    distance, suffix = LABELS.get(extractor, (f"FD-{extractor}", f"-{extractor}"))
    if kind in (FRECHET, RECONSTRUCTION):
        return f"{distance}-{count}" + "-reconstruction" * (kind == RECONSTRUCTION)
    return f"{KINDS[kind]}{suffix}-{count}"
