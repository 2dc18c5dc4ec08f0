"""A checkpoint with fewer tokens: only those that a data set uses. In a small model the embeddings are half of all bytes.

WordPiece takes the longest token that fits, again and again. Without tokens that were never taken, the training texts are taken
apart just as before; other texts may be taken apart into smaller pieces, or have unknown words: `differing` measures it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instatune_deploy.errors import BadInput
from instatune_deploy.files import read_json, whole_folder, write_json, write_text
from instatune_deploy.tasks.text_inputs import tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER, CONFIG, WORDS = "tokenizer.json", "config.json", "vocab.txt"
WORDPIECE = "WordPiece"
WHOLE = 10**6
"""Tokens of a text that is not cut: where a word is cut, its rest would be missing, and the word another one."""
BY_TOKEN = re.compile(r"(word_embeddings\.weight|predictions\.bias|decoder\.(weight|bias))$")
"""Weights with a row for every token."""
IDS = re.compile(r".*_token_id")
"""Keys of config.json that name a token by its number."""


@dataclass(frozen=True)
class Trimmed:
    """folder: of the checkpoint; kept: the old numbers of its tokens, increasing; of: how many there were."""

    folder: Path
    kept: tuple[int, ...]
    of: int


def used_tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Numbers of the tokens in ``texts``, of the special ones, and of single characters: so few words are unknown."""
    used = {token for row in tokenize(texts, tokenizer, WHOLE)["input_ids"] for token in row}
    singles = {number for word, number in tokenizer.get_vocab().items() if len(word.removeprefix("##")) == 1}
    return used | set(tokenizer.all_special_ids) | singles


def trim(folder: Path, kept: Iterable[int], target: Path) -> Trimmed:
    """Write the checkpoint of ``folder`` with the tokens ``kept`` only to ``target``, whole or not at all.

    The rows of the embeddings are those of before, in the old order. ``BadInput`` for a tokenizer of another kind than
    WordPiece, whose tokens depend on each other, and for weights that are not in safetensors.
    """
    from safetensors.torch import load_file, save_file

    tokenizer = _wordpiece(folder)
    config = read_json(folder / CONFIG)
    count = int(config["vocab_size"])
    numbers = sorted({*kept} | {item["id"] for item in tokenizer.get("added_tokens", [])})
    new = {old: index for index, old in enumerate(numbers)}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInput(f"{folder}: model.trim_vocabulary needs weights in safetensors")
    with whole_folder(target) as scratch:
        for path in folder.iterdir():
            if path.is_file() and path not in files and path.name not in (TOKENIZER, CONFIG, WORDS):
                shutil.copyfile(path, scratch / path.name)
        for path in files:
            weights = {
                # the embeddings, and what a pre-training head has a row of for every token
                name: value[numbers].contiguous() if BY_TOKEN.search(name) and value.shape[0] == count else value
                for name, value in load_file(path).items()
            }
            save_file(weights, scratch / path.name, metadata={"format": "pt"})
        write_json(scratch / CONFIG, _renumbered_config(config, new))
        write_json(scratch / TOKENIZER, _renumbered(tokenizer, new))
        words = sorted(((number, word) for word, number in tokenizer["model"]["vocab"].items() if number in new))
        write_text(scratch / WORDS, "".join(f"{word}\n" for _, word in words))
    return Trimmed(target, tuple(numbers), count)


def differing(texts: Sequence[str], before: PreTrainedTokenizerBase, after: PreTrainedTokenizerBase) -> tuple[float, float]:
    """Of ``texts``, the share that is tokenised differently now, and the share of their tokens that are unknown now."""
    if not texts:
        return 0.0, 0.0
    old, new = (
        [each.convert_ids_to_tokens(row) for row in tokenize(texts, each, WHOLE)["input_ids"]] for each in (before, after)
    )
    unknown = sum(row.count(after.unk_token) for row in new) / max(1, sum(map(len, new)))
    return sum(one != other for one, other in zip(old, new, strict=True)) / len(texts), unknown


def _wordpiece(folder: Path) -> dict[str, Any]:
    """The content of tokenizer.json."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise BadInput(f"{folder}: model.trim_vocabulary needs a {TOKENIZER}")
    tokenizer: dict[str, Any] = read_json(path)
    kind = tokenizer.get("model", {}).get("type")
    if kind != WORDPIECE:
        raise BadInput(f"{path}: model.trim_vocabulary knows {WORDPIECE} tokenizers (found {kind}); leave it out")
    return tokenizer


def _renumbered(tokenizer: dict[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """tokenizer.json with the tokens of ``new`` only, under their new numbers."""
    found: dict[str, Any] = json.loads(json.dumps(tokenizer))
    found["model"]["vocab"] = {word: new[number] for word, number in tokenizer["model"]["vocab"].items() if number in new}
    for item in found.get("added_tokens", []):
        item["id"] = new[item["id"]]
    _renumber_specials(found.get("post_processor"), new)
    padding = found.get("padding")
    if padding:
        padding["pad_id"] = new[padding["pad_id"]]
    return found


def _renumber_specials(part: Any, new: Mapping[int, int]) -> None:
    """Post-processors name the tokens that they put around a text: as ``[word, number]`` or as ``{"ids": [number]}``."""
    if isinstance(part, list):
        for item in part:
            _renumber_specials(item, new)
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        if key in ("sep", "cls") and isinstance(value, list) and len(value) == 2:
            value[1] = new[value[1]]
        elif key == "ids" and isinstance(value, list):
            part[key] = [new[number] for number in value]
        else:
            _renumber_specials(value, new)


def _renumbered_config(config: dict[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    renumbered = {
        key: new.get(value, value) if IDS.fullmatch(key) and isinstance(value, int) else value for key, value in config.items()
    }
    return {**renumbered, "vocab_size": len(new)}
