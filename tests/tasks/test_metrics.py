from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.tasks.metrics import accuracy, top_k_accuracy

LOGITS = [[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [1.0, 3.0, 2.0]]
LABELS = [0, 0, 0, 0]  # first, third, second, third


def test_top_k_accuracy_by_hand():
    assert [top_k_accuracy(LOGITS, LABELS, k) for k in (1, 2, 3, 9)] == [0.25, 0.5, 1.0, 1.0]


def test_of_equal_logits_the_first_is_the_larger_one_and_no_number_is_wrong():
    assert top_k_accuracy([[1.0, 1.0, 1.0]], [1], 1) == 0
    assert top_k_accuracy([[1.0, 1.0, 1.0]], [1], 2) == 1
    assert top_k_accuracy([[float("nan")] * 3], [0], 3) == 0
    assert top_k_accuracy([[float("nan"), 1.0, 0.0]], [1], 1) == 0


def test_other_shapes_are_refused():
    for wrong in (lambda: top_k_accuracy(LOGITS, [0], 1), lambda: top_k_accuracy(np.zeros((0, 2)), [], 1)):
        with pytest.raises(ValueError, match="are not"):
            wrong()
    with pytest.raises(ValueError, match="k is 0"):
        top_k_accuracy(LOGITS, LABELS, 0)


@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 99))
def test_the_best_one_is_accuracy_and_more_are_never_less(rows, classes, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.integers(0, 3, (rows, classes)), rng.integers(0, classes, rows)
    found = [top_k_accuracy(logits, labels, k) for k in range(1, classes + 1)]
    assert found[0] == accuracy(logits, labels)
    assert found == sorted(found)
    assert found[-1] == 1
