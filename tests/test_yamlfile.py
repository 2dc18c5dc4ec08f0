from __future__ import annotations

from pathlib import Path

import pytest

from instatune_deploy.config import PipelineSettings, ProfileSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.yamlfile import load_yaml, parse_yaml, top_keys

PIPELINE = """\
# a comment
task: text-classification
model:
  reference: a/model
data:
  reference: rows.csv
  split:
    test: 5
    validation: 5
finetune:
  learning_rate: 5e-5
"""
PROFILE = """\
name: some-cpu
description: A CPU.
runs:
  - runtime: openvino
    precision: bf16
    requires:
      any_cpu_flag: [avx512_bf16]
  - runtime: onnxruntime
"""


def message(text: str, model: type[PipelineSettings] | type[ProfileSettings] = PipelineSettings) -> str:
    with pytest.raises(BadInput) as caught:
        parse_yaml(text, model, "file.yaml")
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(PIPELINE, encoding="utf-8")
    settings = load_yaml(path, PipelineSettings)
    assert settings.model.reference == "a/model"
    assert settings.data.split.test == 5
    assert settings.finetune.learning_rate == 5e-5  # YAML 1.1 would make a text of it
    assert parse_yaml(PROFILE, ProfileSettings, "").runs[0].requires.any_cpu_flag == ["avx512_bf16"]


@pytest.mark.parametrize(
    ("wrong", "right", "line", "key"),
    [
        ("taks:", "task:", 2, "taks"),
        ("refrence: a/model", "reference: a/model", 4, "model.refrence"),
        ("splt:", "split:", 7, "data.splt"),
        ("tset:", "test:", 8, "data.split.tset"),
        ("lerning_rate:", "learning_rate:", 11, "finetune.lerning_rate"),
    ],
)
def test_a_misspelt_key(wrong: str, right: str, line: int, key: str) -> None:
    assert wrong not in PIPELINE
    assert PIPELINE.count(right) == 1
    said = message(PIPELINE.replace(right, wrong))
    assert said == f"file.yaml:{line}: unknown key '{key}'; did you mean '{right.partition(':')[0]}'?"


def test_a_misspelt_key_inside_a_list() -> None:
    said = message(PROFILE.replace("any_cpu_flag", "any_cpu_flags"), ProfileSettings)
    assert said == "file.yaml:7: unknown key 'runs.0.requires.any_cpu_flags'; did you mean 'any_cpu_flag'?"
    said = message(PROFILE.replace("- runtime: onnxruntime", "- runtimes: onnxruntime"), ProfileSettings)
    assert said == "file.yaml:8: unknown key 'runs.1.runtimes'; did you mean 'runtime'?"


def test_a_key_like_no_other() -> None:
    said = message(PIPELINE.replace("test: 5", "test: 5\n    zzzzzz: 1"))
    assert said == "file.yaml:9: unknown key 'data.split.zzzzzz'; known keys here: test, validation, seed"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  reference: a/model\n", "  sha256: null\n", "file.yaml:3: key 'model.reference' is missing"),
        ("task: text-classification\n", "", "key 'task' is missing"),
        ("test: 5", "test: many", "file.yaml:8: data.split.test: input should be a valid integer"),
        ("test: 5", "test: 0", "file.yaml:8: data.split.test: input should be greater than or equal to 1 (found 0)"),
        ("test: 5", "test: 2.5", "file.yaml:8: data.split.test: "),
        ("test: 5", "test: [5]", "file.yaml:8: data.split.test: "),
        ("5e-5", "-5e-5", "file.yaml:11: finetune.learning_rate: input should be greater than 0 (found -5e-05)"),
        ("5e-5", ".nan", "file.yaml:11: finetune.learning_rate: "),
        ("5e-5", ".inf", "file.yaml:11: finetune.learning_rate: "),
        (
            "text-classification",
            "translation",
            "file.yaml:2: task: input should be 'text-classification' or 'image-classification' (found 'translation')",
        ),
        ("  reference: a/model", "  - a/model", "file.yaml:3: model: "),
    ],
)
def test_a_wrong_value(old: str, new: str, expected: str) -> None:
    assert PIPELINE.count(old) == 1
    said = message(PIPELINE.replace(old, new))
    assert said.removeprefix("file.yaml:2: ").startswith(expected) or said.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "file.yaml: the file is empty; it needs at least the keys task, model, data"),
        ("# only a comment\n", "file.yaml: the file is empty"),
        ("just words", "file.yaml: expected keys and values such as 'task, model, data: ...', found a str"),
        ("- a\n- b\n", "found a list"),
        ("task: [1\nmodel: x", "file.yaml:2: "),
        ("task: a: b", "file.yaml:1: "),
        ("task: 1\n\tmodel: 2", "file.yaml:2: "),
        ("task: x\nmodel: y\ntask: z\n", "file.yaml:3: key 'task' stands here twice"),
        ("task: x\nmodel:\n  reference: 1\n  reference: 2\n", "file.yaml:4: key 'reference' stands here twice"),
        ("task: !!python/object/apply:os.system ['true']", "file.yaml:1: could not determine a constructor"),
        ("task: x\n---\ntask: y\n", "file.yaml:2: "),
        ("task: \x00", "file.yaml: not valid YAML: "),
        ("task: 2001-99-99", "file.yaml: not valid YAML: month must be in 1..12"),
        pytest.param(f"task: {'1' * 5000}", "file.yaml: not valid YAML: Exceeds the limit (4300 digits)", id="digits"),
        pytest.param(f"task: {'[' * 5000}", "file.yaml: not valid YAML: nested too deeply", id="nested"),
        ("? [a, b]\n: c\n", "file.yaml:1: a key must be a plain word"),
        ("task: {{x}: y}", "file.yaml:1: a key must be a plain word"),
    ],
)
def test_what_is_no_settings_file(text: str, expected: str) -> None:
    assert expected in message(text)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a: 1\nb:\n  c: 2\n", {"a", "b"}),
        ("'a': 1\n\"b\": 2\n", {"a", "b"}),
        ('{"a": 1, "b": [{"c": 2}]}', {"a", "b"}),
        ("# c:\n? a\n: 1\n? b\n", {"a", "b"}),
        ("---\n  a : 1\n  b : |\n   x\n", {"a", "b"}),
        ("x: |\n  y\na: &b {c: 1}\n", {"x", "a"}),
        ("1: 2", {"1"}),
        ("- a: 1\n", set()),
        ("", set()),
        ("a: 1\nb: [", set()),
        ("a: 1\na: 1\n", set()),
        ("a: 2001-99-99", set()),
        pytest.param(f"a: {'[' * 5000}", set(), id="nested"),
    ],
)
def test_the_keys_at_the_top(text: str, keys: set[str], tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    assert top_keys(path) == keys


def test_no_keys_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("größe: 1".encode("latin-1"))
    for path in (tmp_path, tmp_path / "none.yaml", tmp_path / "latin.yaml"):
        assert top_keys(path) == set()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    with pytest.raises(BadInput) as caught:
        load_yaml(path, PipelineSettings)
    assert caught.value.message == f"{path}: no such file"
    path.write_bytes("task: größer".encode("latin-1"))
    with pytest.raises(BadInput) as caught:
        load_yaml(path, PipelineSettings)
    assert caught.value.message.startswith(f"{path}: cannot be read: ")
    assert "utf-8" in caught.value.message
    with pytest.raises(BadInput, match="is a directory"):
        load_yaml(tmp_path, PipelineSettings)
