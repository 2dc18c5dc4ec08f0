from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.load import load_pretrained
from instatune_deploy.tasks.text_inputs import load_tokenizer, tokenize
from instatune_deploy.tasks.vocabulary import differing, trim, used_tokens


@pytest.fixture(scope="module")
def trimmed(tiny_checkpoint: Path, tiny_sentences: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Of the first four texts."""
    texts = list(tiny_sentences)[:4]
    target = tmp_path_factory.mktemp("trimmed") / "model"
    trim(tiny_checkpoint, used_tokens(texts, load_tokenizer(tiny_checkpoint)), target)
    return target, texts


def logits(folder: Path, text: str) -> torch.Tensor:
    model, tokenizer = load_pretrained(folder, ["a", "b"], seed=0), load_tokenizer(folder)
    with torch.inference_mode():
        return model(**tokenizer(text, return_tensors="pt")).logits


def test_the_training_texts_are_tokenised_and_understood_as_before(
    trimmed: tuple[Path, list[str]], tiny_checkpoint: Path
) -> None:
    folder, texts = trimmed
    before, after = load_tokenizer(tiny_checkpoint), load_tokenizer(folder)
    assert len(after) < len(before)
    assert differing(texts, before, after) == (0.0, 0.0)
    for text in texts[:3]:
        torch.testing.assert_close(logits(folder, text), logits(tiny_checkpoint, text))


def test_the_rows_of_the_embeddings_are_those_of_before(trimmed: tuple[Path, list[str]], tiny_checkpoint: Path) -> None:
    folder, _ = trimmed
    before, after = load_tokenizer(tiny_checkpoint), load_tokenizer(folder)
    old, new = (load_file(path / "model.safetensors") for path in (tiny_checkpoint, folder))
    (name,) = (name for name in old if name.endswith("word_embeddings.weight"))
    assert len(new[name]) == len(after)
    for word, number in after.get_vocab().items():
        torch.testing.assert_close(new[name][number], old[name][before.get_vocab()[word]], rtol=0, atol=0)
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == len(after)
    assert config["pad_token_id"] == after.pad_token_id
    assert (folder / "vocab.txt").read_text().splitlines() == [
        word for word, _ in sorted(after.get_vocab().items(), key=lambda item: item[1])
    ]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_text_of_the_training_words_is_tokenised_as_before(
    trimmed: tuple[Path, list[str]], tiny_checkpoint: Path, data: st.DataObject
) -> None:
    folder, texts = trimmed
    words = sorted({word for text in texts for word in text.split()})
    text = " ".join(data.draw(st.lists(st.sampled_from(words), max_size=12)))
    before, after = load_tokenizer(tiny_checkpoint), load_tokenizer(folder)
    assert differing([text], before, after) == (0.0, 0.0)
    assert len(tokenize([text], after, 99)["input_ids"][0]) == len(tokenize([text], before, 99)["input_ids"][0])


def test_other_texts_are_counted(trimmed: tuple[Path, list[str]], tiny_checkpoint: Path) -> None:
    folder, texts = trimmed
    before, after = load_tokenizer(tiny_checkpoint), load_tokenizer(folder)
    gone = next(word for word in sorted(before.get_vocab()) if word.isalpha() and word not in after.get_vocab())
    rows, unknown = differing([texts[0], gone], before, after)
    assert rows == 0.5
    assert 0 <= unknown < 1
    assert differing([], before, after) == (0.0, 0.0)


def test_what_cannot_be_trimmed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    value = json.loads((copy / "tokenizer.json").read_text())
    value["model"]["type"] = "BPE"
    (copy / "tokenizer.json").write_text(json.dumps(value))
    with pytest.raises(BadInput, match=r"knows WordPiece tokenizers \(found BPE\); leave it out"):
        trim(copy, [0], tmp_path / "out")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match=r"model\.trim_vocabulary needs a tokenizer\.json"):
        trim(copy, [0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
