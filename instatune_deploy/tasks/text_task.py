"""Text classification as a `Task`: labelled texts, and the checkpoint's tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from instatune_deploy.config import DataSettings
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.base import TOKENS, Arrays, OfData
from instatune_deploy.tasks.tables import SPLITS, Split
from instatune_deploy.tasks.text_classification import TextData, load_rows
from instatune_deploy.tasks.text_inputs import chosen, load_tokenizer, pad, padded_batches, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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

Tokens = Mapping[str, Sequence[Sequence[int]]]
"""What `text_inputs.tokenize` gives."""


@dataclass(frozen=True, eq=False)
class TextTask(OfData):
    """largest: longest text, in tokens; longer ones are cut."""

    data: TextData
    tokenizer: PreTrainedTokenizerBase
    largest: int
    _tokenised: dict[tuple[Split, int], Tokens] = field(default_factory=dict, init=False)

    unit = TOKENS
    has_top5 = False
    warnings = ()
    axes = ("batch", "tokens")
    packages = ("tokenizers",)

    @property
    def counts(self) -> dict[Split, int]:
        """See `Task`."""
        return {split: len(self.data.texts[split]) for split in SPLITS}

    def rows_key(self, split: Split) -> str:
        """See `Task`."""
        return digest([self.data.texts[split], self.data.labels[split].tolist()])

    def trained_on(self) -> dict[str, Any]:
        """See `Task`."""
        return {"max_length": self.largest}

    def size_on(self, sequence_length: int, image_size: int | None = None) -> int:
        """See `Task`: a device's texts are no longer than those that were trained on."""
        return min(sequence_length, self.largest)

    def tokens(self, size: int) -> int:
        """See `Task`."""
        return size

    def tokenised(self, split: Split, size: int) -> Tokens:
        """The rows of a split, cut to ``size`` tokens, not padded; tokenised once: every candidate is run over them."""
        if (split, size) not in self._tokenised:
            self._tokenised[split, size] = tokenize(self.data.texts[split], self.tokenizer, size)
        return self._tokenised[split, size]

    def arrays(self, split: Split, size: int, rows: Sequence[int] | None = None) -> Arrays:
        """See `Task`: (rows, size) int64 each."""
        tokens = self.tokenised(split, size)
        return pad(tokens if rows is None else chosen(tokens, rows), size, self.tokenizer)

    def batches(self, split: Split, size: int, batch_size: int) -> Iterator[tuple[npt.NDArray[np.int64], Arrays]]:
        """See `Task`: batches of texts of like length, the longest first."""
        yield from padded_batches(self.tokenised(split, size), batch_size, self.tokenizer)

    def training_rows(self, seed: int) -> list[dict[str, Any]]:
        """See `Task`; nothing is drawn."""
        tokens = self.tokenised("train", self.largest)
        return [
            {name: values[index] for name, values in tokens.items()} | {"labels": int(label)}
            for index, label in enumerate(self.labels["train"])
        ]

    def collator(self) -> Callable[[list[Any]], Any]:
        """See `Task`."""
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(self.tokenizer)

    def save(self, folder: Path, size: int) -> None:
        """See `Task`; a tokenizer's files say nothing of lengths."""
        self.tokenizer.save_pretrained(str(folder))

    def described(self, folder: Path, inputs: Sequence[str], size: int) -> dict[str, Any] | None:
        """See `Task`; None where the tokenizer has no tokenizer.json or the graph takes what it cannot say."""
        if not (folder / TOKENIZER).is_file() or not set(inputs) <= set(KINDS):
            return None
        return {
            "kind": "text",
            "steps": STEPS,
            "tokenizer": TOKENIZER,
            "length": size,
            "padding": {
                "direction": self.tokenizer.padding_side,
                "pad_id": self.tokenizer.pad_token_id,
                "pad_type_id": self.tokenizer.pad_token_type_id,
                "pad_token": self.tokenizer.pad_token,
            },
            "inputs": {name: KINDS[name] for name in inputs},
        }

    def samples(self, split: Split, count: int, folder: Path) -> list[dict[str, Any]]:
        """See `Task`."""
        return [{"text": text} for text in self.data.texts[split][:count]]


def load_text_task(settings: DataSettings, folder: Path, config: Any, positions: Callable[[Any], int]) -> TextTask:
    """See `registry.load_task`."""
    usable = positions(config)
    if settings.max_length > usable:
        raise BadInput(f"data.max_length: {settings.max_length} tokens are more than the model has positions ({usable})")
    data = load_rows(settings)
    # what is wrong with the tokenizer is found before the training, not in it
    tokenizer = load_tokenizer(folder)
    if len(tokenizer) > config.vocab_size:
        raise BadInput(f"{folder}: the tokenizer knows {len(tokenizer)} tokens, the model only {config.vocab_size}")
    return TextTask(data, tokenizer, settings.max_length)
