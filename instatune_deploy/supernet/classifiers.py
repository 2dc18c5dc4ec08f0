"""The classifier that a checkpoint has, by what its files hold: config.json counts two labels where it says nothing of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from instatune_deploy.errors import BadInput, reason

KEPT = ("classifier.weight", "classifier.out_proj.weight")
"""The last matrix, as the models that are made super-networks call it."""
OTHERS = ("cls_classifier.weight",)
"""That of DeiT's class token, beside which its distillation token has another."""


class Classifier(NamedTuple):
    """labels: that it tells apart; kept: whether a model with as many labels starts from it"""

    labels: int
    kept: bool


def classifier_of(folder: Path, config: Any) -> Classifier | None:
    """That of the checkpoint in ``folder``, with ``config``; None for a backbone alone. No weights are read, only their sizes.

    ``BadInput`` for a file that is no safetensors.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "np") as tensors:
                for name in sorted({*KEPT, *OTHERS}.intersection(tensors.keys())):
                    labels, *others = tensors.get_slice(name).get_shape()
                    inputs = others[0] if len(others) == 1 else None
                    # DINOv2's takes in the mean of the patches, too
                    return Classifier(labels, name in KEPT and inputs == config.hidden_size)
        except (OSError, ValueError, SafetensorError) as error:
            raise BadInput(f"{path}: the weights cannot be read: {reason(error)}") from error
    return None
