from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from instatune_deploy.errors import BadInput
from instatune_deploy.finetune.checks import check_dataset, check_labels, classes_of


def test_classes(make_model: Any, make_config: Any) -> None:
    from transformers import AutoModelForMaskedLM, AutoModelForMultipleChoice

    assert classes_of(make_model(num_labels=3)) == 3
    assert classes_of(make_model(num_labels=1)) is None  # a number, not a class
    assert classes_of(AutoModelForMaskedLM.from_config(make_config())) is None  # labels are tokens
    assert classes_of(AutoModelForMultipleChoice.from_config(make_config())) is None  # labels are choices


@pytest.mark.parametrize("name", ["label", "labels"])
def test_a_column_of_a_data_set(name: str) -> None:
    check_dataset(Dataset.from_dict({name: [0, 1, 1, -100]}), 4, 2)
    with pytest.raises(BadInput, match=r"^label 2 \(row 1\) is outside 0 to 1: the model has 2 classes$"):
        check_dataset(Dataset.from_dict({name: [0, 2, 1, 1]}), 4, 2)
    with pytest.raises(BadInput, match=r"^4 training rows are fewer than one batch \(5\)"):
        check_dataset(Dataset.from_dict({name: [0, 2, 1, 1]}), 5, 2)


def test_labels_of_tokens() -> None:
    check_labels(torch.tensor([[0, -100], [1, 1]]), 2)
    with pytest.raises(BadInput, match=r"^label -1 \(row 1\)"):
        check_labels(torch.tensor([[0, -100], [1, -1]]), 2)


@pytest.mark.parametrize(
    "rows",
    [
        [{"labels": 0.5}, {"labels": 3.0}],
        [{"labels": "good"}, {"labels": "bad"}],
        [{"labels": [0, 1]}, {"labels": [0]}],
        [{"text": "no label"}] * 2,
        [(1, 2), (3, 4)],
        iter([{"labels": 9}]),
    ],
)
def test_what_cannot_be_looked_at_is_let_through(rows: Any) -> None:
    check_dataset(rows, 2, 2)


def test_numbers_that_are_no_classes_are_let_through() -> None:
    check_labels(np.array([0.5, 7.0]), 2)
