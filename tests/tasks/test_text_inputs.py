from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.text_inputs import length_batches, load_tokenizer, pad, tokenize

# [PAD] is deliberately not 0
VOCABULARY = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "[PAD]", "film"]


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(model_folder(tmp_path_factory.mktemp("tokenizer") / "model"))


def test_tokenize_cuts_and_does_not_pad(tokenizer):
    rows = tokenize(["A good film", "bad"], tokenizer, max_length=4)
    assert rows["input_ids"] == [[1, 4, 5, 2], [1, 6, 2]]
    assert rows["attention_mask"] == [[1, 1, 1, 1], [1, 1, 1]]


def test_pad_fills_up_with_the_tokenizers_values(tokenizer):
    arrays = pad(tokenize(["a film", "bad"], tokenizer, 8), 5, tokenizer)
    assert all(array.dtype == np.int64 for array in arrays.values())
    assert arrays["input_ids"].tolist() == [[1, 4, 8, 2, 7], [1, 6, 2, 7, 7]]
    assert arrays["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert arrays["token_type_ids"].tolist() == [[0] * 5] * 2


def test_pad_on_the_left_where_the_tokenizer_does(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", "left")
    arrays = pad({"input_ids": [[1, 2], [1, 4, 2]]}, 3, tokenizer)
    assert arrays["input_ids"].tolist() == [[7, 1, 2], [1, 4, 2]]


def test_pad_is_what_transformers_does(tokenizer):
    rows = tokenize(["a good bad film", "", "film film"], tokenizer, 16)
    reference = tokenizer(["a good bad film", "", "film film"], padding="max_length", max_length=9, return_tensors="np")
    ours = pad(rows, 9, tokenizer)
    assert set(ours) == set(reference)
    for name, array in ours.items():
        assert np.array_equal(array, reference[name])


def test_pad_refuses_longer_rows(tokenizer):
    with pytest.raises(ValueError, match="row 1 has 3 tokens, more than 2"):
        pad({"input_ids": [[1, 2], [1, 4, 2]]}, 2, tokenizer)


def test_no_tokenizer_is_not_made_up(tmp_path):
    folder = model_folder(tmp_path / "model")
    (folder / "vocab.txt").unlink()
    with pytest.raises(BadInput, match=r"has no tokenizer \(tokenizer\.json or vocab\.txt\)"):
        load_tokenizer(folder)


def test_a_broken_tokenizer_is_one_clear_line(tmp_path):
    folder = model_folder(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{broken")
    with pytest.raises(BadInput, match=r"the tokenizer cannot be loaded: [^\n]+$"):
        load_tokenizer(folder)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 9))
def test_length_batches_hold_every_row_once_and_like_with_like(lengths, batch_size):
    batches = length_batches(lengths, batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    in_order = [lengths[index] for batch in batches for index in batch]
    assert in_order == sorted(lengths)
