"""How a text becomes what the graph takes in, for consumers in any language: `preprocessing.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instatune_deploy.files import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE_NAME = "preprocessing.json"
TOKENIZER = "tokenizer.json"
KINDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""By input of the graph: what the tokenizers library calls it of an encoded text."""
STEPS = (
    "tokenise the text by tokenizer.json (the tokenizers library's own format), special tokens included",
    "cut it to 'length' tokens; the tokenizer keeps its closing token",
    "fill it up to 'length' tokens on the side 'padding.direction': input_ids with 'padding.pad_id', token_type_ids with "
    "'padding.pad_type_id', attention_mask with 0",
    "put 'batch_size' rows together: each input is int64 of shape (batch_size, length)",
    "the output 'logits' is float32 of shape (batch_size, labels); the largest is the answer, their softmax the probabilities",
)


def write_preprocessing(
    folder: Path, tokenizer: PreTrainedTokenizerBase, inputs: Sequence[str], batch_size: int, length: int, labels: Sequence[str]
) -> bool:
    """Write the file; False, and nothing, where the tokenizer has no tokenizer.json or the graph takes what it cannot say."""
    if not (folder / TOKENIZER).is_file() or not set(inputs) <= set(KINDS):
        return False
    content: dict[str, Any] = {
        "kind": "text",
        "steps": STEPS,
        "tokenizer": TOKENIZER,
        "length": length,
        "padding": {
            "direction": tokenizer.padding_side,
            "pad_id": tokenizer.pad_token_id,
            "pad_type_id": tokenizer.pad_token_type_id,
            "pad_token": tokenizer.pad_token,
        },
        "batch_size": batch_size,
        "inputs": {name: KINDS[name] for name in inputs},
        "output": "logits",
        "labels": list(labels),
    }
    write_json(folder / FILE_NAME, content)
    return True
