from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.tasks import hub
from instatune_deploy.tasks.tables import read_splits


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path: Path, **settings: Any) -> dict[str, pd.DataFrame]:
    return read_splits(DataSettings(reference=str(path), **settings))


def pairs(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table[["text", "label"]].itertuples(name=None))


def test_csv_keeps_cells_as_they_are(write):
    path = write("a.csv", 'text,label,x\n"a, ""b""\nc",01,\r\nNA,null,1\n\nü,2.50,\n')
    assert pairs(read(path)["all"]) == [(1, 'a, "b"\nc', "01"), (2, "NA", "null"), (3, "ü", "2.50")]


def test_tsv_has_no_quoting_and_a_mark_at_the_start_is_no_text(write):
    path = write("a.tsv", b'\xef\xbb\xbftext\tlabel\r\n"open\tgood\r\n\'\' "x"\tbad\r\n')
    assert pairs(read(path)["all"]) == [(1, '"open', "good"), (2, "'' \"x\"", "bad")]


def test_columns_name_a_table_without_header(write):
    path = write("a.txt", "1\t2.5\tfine\r\n2\t-1\tawful\r\n")
    settings = {"format": "tsv", "columns": ["id", "label", "text"]}
    assert pairs(read(path, **settings)["all"]) == [(1, "fine", "2.5"), (2, "awful", "-1")]


def test_jsonl_and_parquet(write, tmp_path):
    path = write("a.jsonl", '{"text": "x", "label": 1}\n\n{"label": true, "text": "y\\u2028z"}\n')
    assert pairs(read(path)["all"]) == [(1, "x", 1), (2, "y\u2028z", True)]
    pd.DataFrame({"text": ["x", "y"], "label": [0, 1]}, index=[7, 8]).to_parquet(tmp_path / "a.parquet")
    assert pairs(read(tmp_path / "a.parquet")["all"]) == [(1, "x", 0), (2, "y", 1)]


@pytest.mark.parametrize(
    ("name", "content", "settings", "message"),
    [
        ("a.csv", "", {}, "a.csv: the file is empty"),
        ("a.csv", "\n\n", {}, "a.csv: the file is empty"),
        ("a.csv", "text,label\n", {}, "a.csv: the file has no rows"),
        ("a.jsonl", "\n", {}, "a.jsonl: the file has no rows"),
        ("a.txt", "x\ty\n", {}, "'data.format' must say what this file is"),
        ("a.csv", b"text,label\nok,1\ncaf\xe9,0\n", {}, r"a.csv:3: not UTF-8 \(byte 0xe9\)"),
        ("a.csv", "text,label\nok,1\na,b,c\n", {}, "a.csv:3: malformed row: 3 fields, expected 2"),
        ("a.csv", "text,label\nok\n", {}, "a.csv:2: malformed row: 1 fields, expected 2"),
        ("a.csv", 'text,label\n"never closed,1\n', {}, "a.csv:2: malformed row: unexpected end of data"),
        ("a.csv", "text,label,text\na,b,c\n", {}, "two columns are named 'text'"),
        ("a.tsv", "a\tb\tc\n", {"columns": ["text", "label"]}, "a.tsv:1: malformed row: 3 fields, expected 2"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', {}, "a.jsonl:2: malformed row: not valid JSON"),
        ("a.jsonl", "[1]\n", {}, "a.jsonl:1: malformed row: expected a JSON object, found list"),
        ("a.jsonl", '{"text": "a", "label": 1}\n', {"columns": ["text", "label"]}, "names the columns of csv and tsv"),
        ("a.parquet", "PAR1 torn", {}, "a.parquet: not a readable Parquet file"),
        (
            "a.csv",
            "Text,sentiment\na,b\n",
            {},
            r"no column 'text' \(data.text\); the columns are: Text, sentiment; did you mean 'Text'\?",
        ),
        ("a.csv", "text,x\na,b\n", {}, r"no column 'label' \(data.label\); the columns are: text, x$"),
        ("a.csv", "text,label\na,b\n", {"splits": {"test": "t"}}, "this is one file"),
        ("a.csv", "text,label\na,b\n", {"format": "datasets"}, "is no datasets folder"),
        ("a.csv", "text,label\na,b\n", {"splits": {"test": "t", "train": "t"}}, "two splits are the same one"),
    ],
)
def test_bad_files(write, name, content, settings, message):
    with pytest.raises(BadInput, match=message) as caught:
        read(write(name, content), **settings)
    assert "\n" not in caught.value.message


def test_a_missing_file(tmp_path):
    with pytest.raises(BadInput, match=r"data\.reference: .*rows\.csv: no such file"):
        read(tmp_path / "rows.csv")


def test_a_folder_of_split_files(write, tmp_path):
    write("d/train.csv", "text,label\na,1\n")
    write("d/dev.csv", "text,label\nb,1\n")
    write("d/test.csv", "text,label\nc,1\n")
    write("d/README.md", "")
    assert {split: pairs(table) for split, table in read(tmp_path / "d").items()} == {
        "train": [(1, "a", "1")],
        "validation": [(1, "b", "1")],
        "test": [(1, "c", "1")],
    }
    mixed = read(tmp_path / "d", splits={"test": "dev"})
    assert {split: table.text[1] for split, table in mixed.items()} == {"train": "a", "test": "b"}
    with pytest.raises(BadInput, match=r"no split 'tset' \(data\.splits\.test\)"):
        read(tmp_path / "d", splits={"test": "tset"})


def test_a_split_in_several_files_keeps_their_order(write, tmp_path):
    for number, text in enumerate("ab"):
        write(f"d/train-0000{number}-of-00002.jsonl", json.dumps({"text": text, "label": 1}) + "\n")
    write("d/training-notes.jsonl", "not read")
    assert pairs(read(tmp_path / "d")["train"]) == [(1, "a", 1), (2, "b", 1)]


def test_text_files_in_a_folder_need_the_format(write, tmp_path):
    write("d/train.txt", "a\t1\n")
    assert list(read(tmp_path / "d", format="tsv", columns=["text", "label"])) == ["train"]
    with pytest.raises(BadInput, match="no train file"):
        read(tmp_path / "d")


def test_a_folder_with_two_formats(write, tmp_path):
    write("d/train.csv", "text,label\na,1\n")
    write("d/test.tsv", "text\tlabel\nb\t1\n")
    with pytest.raises(BadInput, match=r"several formats \(\.csv, \.tsv\)"):
        read(tmp_path / "d")
    assert list(read(tmp_path / "d", format="csv")) == ["train"]


def make_dataset(labels: list[int], names: tuple[str, ...] = ("zero", "anger")) -> datasets.Dataset:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(len(labels))], "label": labels}, features=features)


def test_a_datasets_folder_with_class_names_and_hidden_test_labels(tmp_path):
    splits = {"train": make_dataset([0, 1]), "validation": make_dataset([1]), "test": make_dataset([-1, -1])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    tables = read(tmp_path / "d")
    assert list(tables) == ["train", "validation"]
    assert pairs(tables["train"]) == [(1, "t0", "zero"), (2, "t1", "anger")]
    assert list(tables["train"].label.cat.categories) == ["zero", "anger"]
    assert read(tmp_path / "d", splits={"test": "test"})["test"].label.isna().all()
    with pytest.raises(BadInput, match=r"no split 'dev' \(data\.splits\.test\); there are: train, validation, test"):
        read(tmp_path / "d", splits={"test": "dev"})


def test_one_split_is_never_two(tmp_path):
    splits = {"train": make_dataset([0, 1]), "validation": make_dataset([1])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    assert list(read(tmp_path / "d", splits={"test": "validation"})) == ["train", "test"]


def test_a_datasets_folder_without_splits(tmp_path):
    make_dataset([0, 1]).save_to_disk(tmp_path / "d")
    assert pairs(read(tmp_path / "d")["all"]) == [(1, "t0", "zero"), (2, "t1", "anger")]
    with pytest.raises(BadInput, match="no column 'sentence'"):
        read(tmp_path / "d", text="sentence")
    with pytest.raises(BadInput, match="has no splits"):
        read(tmp_path / "d", splits={"test": "x"})
    next((tmp_path / "d").glob("*.arrow")).write_bytes(b"torn")
    with pytest.raises(BadInput, match="the datasets folder cannot be loaded"):
        read(tmp_path / "d")


def test_hub_data(monkeypatch):
    asked = []

    def load(name: str, revision: str | None, where: str) -> datasets.DatasetDict:
        asked.append((name, revision))
        return datasets.DatasetDict({"train": make_dataset([0, 1]), "extra": make_dataset([1])})

    monkeypatch.setattr(hub, "load_data", load)
    tables = read_splits(DataSettings(reference="some/data", revision="v1"))
    assert asked == [("some/data", "v1")]
    assert list(tables) == ["train"]
    with pytest.raises(BadInput, match=r"no split 'nope'|no split 'train'"):
        read_splits(DataSettings(reference="some/data", splits={"train": "nope"}))
