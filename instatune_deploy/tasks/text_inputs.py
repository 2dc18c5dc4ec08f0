"""From texts to what a text model takes in: tokens, padded arrays of one shape, batches of like length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from instatune_deploy.errors import BadInput, reason

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# without one of these, transformers 5 makes up a tokenizer of five tokens from config.json and says nothing
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; nothing is downloaded, no code of the folder is run. ``BadInput`` when there is none."""
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise BadInput(f"{folder}: the model folder has no tokenizer (tokenizer.json or vocab.txt)")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise anything, also bare Exception
        raise BadInput(f"{folder}: the tokenizer cannot be loaded: {reason(error)}") from error
    if tokenizer.pad_token_id is None:
        raise BadInput(f"{folder}: the tokenizer has no padding token")
    return tokenizer


def tokenize(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, list[list[int]]]:
    """Token numbers and whatever else the model takes beside them, one list a text, cut to ``max_length`` tokens, not padded."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)
    return {str(name): rows for name, rows in encoded.items()}


def pad(
    rows: Mapping[str, Sequence[Sequence[int]]], length: int, tokenizer: PreTrainedTokenizerBase
) -> dict[str, npt.NDArray[np.int64]]:
    """``tokenize``'s lists as arrays of one shape: each ``(rows, length)``, int64, filled up with the tokenizer's own values.

    ``ValueError`` when a row is longer than ``length``: cutting is the tokenizer's business, it keeps the closing token.
    """
    fills: dict[str, Any] = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    arrays = {}
    for name, lists in rows.items():
        array = np.full((len(lists), length), fills.get(name, 0), dtype=np.int64)
        for index, values in enumerate(lists):
            if len(values) > length:
                raise ValueError(f"row {index} has {len(values)} tokens, more than {length}")
            place = slice(length - len(values), length) if tokenizer.padding_side == "left" else slice(0, len(values))
            array[index, place] = values
        arrays[name] = array
    return arrays


def padded_batches(
    rows: Mapping[str, Sequence[Sequence[int]]], batch_size: int, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.int64]]]]:
    """`tokenize`'s rows in batches of like length, the longest first: row numbers, and arrays as of `pad`. Every row once."""
    lengths = [len(ids) for ids in rows["input_ids"]]
    for indices in reversed(length_batches(lengths, batch_size)):
        yield indices, pad(chosen(rows, indices), max(lengths[index] for index in indices), tokenizer)


def chosen(rows: Mapping[str, Sequence[Sequence[int]]], indices: Iterable[int]) -> dict[str, list[Sequence[int]]]:
    """Some of `tokenize`'s rows."""
    indices = list(indices)
    return {name: [values[index] for index in indices] for name, values in rows.items()}


def length_batches(lengths: Sequence[int], batch_size: int) -> list[npt.NDArray[np.int64]]:
    """Row indices in batches of at most ``batch_size``, shortest rows first, so that little is padded. Every row once."""
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
