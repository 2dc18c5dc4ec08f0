"""Official BEiT-3 checkpoints to folders with config.json and model.safetensors, which `from_pretrained` reads."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from instatune_deploy.errors import BadInput
from instatune_deploy.files import whole_folder
from instatune_deploy.supernet.beit3.checkpoint import Checkpoint, read_checkpoint, sizes_said
from instatune_deploy.supernet.beit3.config import Beit3Config
from instatune_deploy.supernet.beit3.names import (
    HEADS,
    LANGUAGE_POSITIONS,
    MASK_TOKEN,
    UNUSED_POSITIONS,
    VISION_POSITIONS,
    Head,
    name_in_checkpoint,
)
from instatune_deploy.supernet.load import quiet_transformers
from instatune_deploy.words import counted

HEAD_SIZE = 64
"""Of all official models."""


@dataclass(frozen=True)
class Converted:
    """A checkpoint's model, and what it was made of."""

    model: PreTrainedModel
    head: str
    left_out: tuple[str, ...]
    """What the checkpoint has beside it, in words."""


def convert(path: Path, target: Path, head: str | None = None, attention_heads: int | None = None) -> Converted:
    """Write the model of the checkpoint at ``path`` to the folder ``target``, which may not be there yet.

    head, attention_heads: see `converted`. ``BadInput`` for whatever is wrong with the file, or with the folder.
    """
    if target.exists():
        raise BadInput(f"{target}: is there already; name a folder that is not")
    made = converted(read_checkpoint(path), head, attention_heads)
    with whole_folder(target) as scratch, quiet_transformers():
        made.model.save_pretrained(scratch)
    return made


def converted(checkpoint: Checkpoint, head: str | None = None, attention_heads: int | None = None) -> Converted:
    """The model of a checkpoint, float32, in evaluation mode.

    head:            a key of `HEADS`, which the checkpoint must have then; by default what it has
    attention_heads: how many, which no tensor tells; by default as many as the official models have at this hidden size

    ``BadInput`` names a tensor that is missing, has another shape than the others ask for, or has no place in the model.
    """
    name, kind = _head(checkpoint, head)
    config = _config(checkpoint, kind, attention_heads)
    with torch.device("meta"):
        model = kind.model(config)
    names = {ours: name_in_checkpoint(ours, kind, checkpoint.prefix) for ours in model.state_dict()}
    state = {ours: _tensor(checkpoint, theirs, tuple(model.state_dict()[ours].shape)) for ours, theirs in names.items()}
    left_out = _left_out(checkpoint, kind, set(names.values()))
    model.load_state_dict(state, assign=True)
    return Converted(model.eval(), name, left_out)


def converted_lines(made: Converted, target: Path) -> list[str]:
    """What was converted, for a person."""
    config: Any = made.model.config
    parts = [
        f"{counted(config.num_hidden_layers, 'layer')} of {counted(config.num_attention_heads, 'head')}",
        f"hidden size {config.hidden_size}",
        f"MLP {config.intermediate_size}",
        f"images of {config.image_size} px",
    ]
    if HEADS[made.head].language:
        parts.append(f"{config.vocab_size} words, texts of up to {config.max_position_embeddings} tokens")
    head = "no head" if made.head == "none" else f"head: {made.head}, {counted(config.num_labels, 'label')}"
    lines = [f"BEiT-3: {', '.join(parts)}; {head}"]
    if made.left_out:
        lines.append(f"left out: {', '.join(made.left_out)}")
    return [*lines, f"written to {target}"]


def _head(checkpoint: Checkpoint, wanted: str | None) -> tuple[str, Head]:
    found = next((name for name, head in HEADS.items() if head.mark in checkpoint.tensors), "none")
    if wanted not in (None, found):
        has = "no head that is known here" if found == "none" else f"a head for {found}"
        raise BadInput(f"{checkpoint.path}: has {has}, not one for {wanted}; --head {found} is right")
    return found, HEADS[found]


def _config(checkpoint: Checkpoint, head: Head, attention_heads: int | None) -> Beit3Config:
    """The sizes that the tensors tell."""
    prefix = checkpoint.prefix
    hidden, channels, patch, width = checkpoint.shape(f"{prefix}vision_embed.proj.weight", 4)
    if patch != width:
        raise BadInput(f"{checkpoint.path}: patches of {patch} x {width} px; only squares are supported")
    text: dict[str, Any] = {}
    if head.language:
        text = {"vocab_size": checkpoint.shape(f"{prefix}text_embed.weight", 2)[0]}
        rows = checkpoint.shape(prefix + LANGUAGE_POSITIONS, 2)[0]
        if rows <= UNUSED_POSITIONS:
            raise BadInput(f"{checkpoint.path}: '{prefix}{LANGUAGE_POSITIONS}' has {rows} rows, of which none is for a token")
        text["max_position_embeddings"] = rows - UNUSED_POSITIONS
    labels: dict[str, Any] = {} if head.labels is None else {"num_labels": checkpoint.shape(head.labels, 2)[0]}
    return Beit3Config(
        hidden_size=hidden,
        num_hidden_layers=_layers(checkpoint),
        num_attention_heads=_attention_heads(checkpoint, hidden, attention_heads),
        intermediate_size=checkpoint.shape(f"{prefix}encoder.layers.0.ffn.A.fc1.weight", 2)[0],
        image_size=_grid(checkpoint) * patch,
        patch_size=patch,
        num_channels=channels,
        **text,
        **labels,
    )


def _layers(checkpoint: Checkpoint) -> int:
    numbered = [re.match(rf"{re.escape(checkpoint.prefix)}encoder\.layers\.(\d+)\.", name) for name in checkpoint.tensors]
    numbers = {number[1] for number in numbered if number is not None}
    for layer in map(str, range(len(numbers))):
        if layer not in numbers:
            raise BadInput(f"{checkpoint.path}: has {counted(len(numbers), 'layer')}, but none of them is layer {layer}")
    return len(numbers)


def _attention_heads(checkpoint: Checkpoint, hidden: int, wanted: int | None) -> int:
    if wanted is None and hidden % HEAD_SIZE:
        raise BadInput(
            f"{checkpoint.path}: how many attention heads it has is not in the file, and its hidden size ({hidden}) is not made "
            f"of heads of {HEAD_SIZE}; say it with --attention-heads"
        )
    heads = hidden // HEAD_SIZE if wanted is None else wanted
    if hidden % heads:
        raise BadInput(
            f"{checkpoint.path}: {counted(heads, 'attention head')}: its hidden size ({hidden}) is no multiple of that"
        )
    return heads


def _grid(checkpoint: Checkpoint) -> int:
    """Patches along an image's edge."""
    name = checkpoint.prefix + VISION_POSITIONS
    rows = checkpoint.shape(name, 2)[0]
    patches = rows - UNUSED_POSITIONS - 1  # and the class token
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        raise BadInput(
            f"{checkpoint.path}: '{name}' has {rows} rows, which are not {UNUSED_POSITIONS + 1} more than a square image's"
        )
    return math.isqrt(patches)


def _tensor(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor as our model of that shape has it."""
    is_positions = name in (checkpoint.prefix + VISION_POSITIONS, checkpoint.prefix + LANGUAGE_POSITIONS)
    right = (shape[-2] + UNUSED_POSITIONS, shape[-1]) if is_positions else shape
    if (found := checkpoint.shape(name, len(right))) != right:
        raise BadInput(
            f"{checkpoint.path}: '{name}' is {sizes_said(found)}; beside the other tensors, {sizes_said(right)} is right"
        )
    value = checkpoint.tensors[name].float()
    if is_positions:
        value = value[UNUSED_POSITIONS:].reshape(shape)
    return value.clone()  # the file may be mapped into memory


def _left_out(checkpoint: Checkpoint, head: Head, used: set[str]) -> tuple[str, ...]:
    """What is not ``used`` and need not be, in words; ``BadInput`` names anything else, which would change what is computed."""
    words = []
    for name in sorted(set(checkpoint.tensors) - used):
        inner = name.removeprefix(checkpoint.prefix)
        if name == checkpoint.prefix + MASK_TOKEN:
            words.append("the mask token of pre-training")
        elif checkpoint.is_base(name) and not head.language and (".B." in inner or inner.startswith("text_embed.")):
            words.append("what only texts need")
        elif not checkpoint.is_base(name) and head.labels is None:
            words.append(f"{name.partition('.')[0]} (not known here)")
        else:
            raise BadInput(f"{checkpoint.path}: '{name}' has no place in a BEiT-3 as it is known here")
    return tuple(dict.fromkeys(words))
