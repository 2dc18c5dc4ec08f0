from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from instatune_deploy.artifact import manifest as manifests
from instatune_deploy.artifact.checks import is_plain
from instatune_deploy.artifact.manifest import (
    Budget,
    FileEntry,
    Latency,
    Manifest,
    installed_versions,
    json_schema,
    read_manifest,
    write_manifest,
)
from instatune_deploy.artifact.parity import Parity
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput, VerificationFailed

from .tiny import edit, timing, tiny_deployment, tiny_manifest


def test_what_is_written_is_read(tmp_path: Path) -> None:
    manifest = tiny_manifest(files={"a/b.bin": FileEntry(sha256="b" * 64, bytes=3)})
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_the_json_holds_what_the_contract_names(tmp_path: Path) -> None:
    write_manifest(tmp_path, tiny_manifest())
    value = json.loads((tmp_path / "manifest.json").read_text())
    assert value["schema_version"] == 1
    assert value["created"] == "2026-01-02T03:04:05Z"
    others = {**dict.fromkeys(["size_bytes", "memory_bytes", "macs", "accuracy"]), "also_ms": {}}
    assert value["budget"] == {"text": "20ms", "statistic": "p90", "limit_ms": 20.0, **others}
    assert value["latency_ms"] == {"p50": 2.0, "p90": 4.0, "p99": 8.0, "count": 60, "upper": 4.4, "lower": 3.6, "stable": True}
    assert value["architecture"] == {"layers": [0, 2], "heads": [2, 1], "mlp_widths": [16, 8], "image_size": None}
    assert value["accuracy"] == {"validation": 0.875, **dict.fromkeys(["test", "searched", "top5_validation", "top5_test"])}
    assert value["parity"] == {"max_abs_diff": 1e-6, "rows": 5, "tolerance": 1e-4, "changed_decisions": 0}
    expected = {"task", "base_model", "labels", "device", "runtime", "precision", "threads", "batch_size", "input_shapes"}
    expected |= {
        "baseline",
        "predicted",
        "statistic",
        "macs",
        "parameters",
        "size_bytes",
        "host",
        "versions",
        "seed",
        "timing",
        "keys",
        "files",
    }
    assert expected <= set(value)


def test_the_seal_is_the_digest_of_everything_else(tmp_path: Path) -> None:
    write_manifest(tmp_path, tiny_manifest())
    value = json.loads((tmp_path / "manifest.json").read_text())
    seal = value.pop("sha256")
    assert seal == digest(value)


def test_latency_of_a_timing_takes_the_upper_limit_of_the_budgets_statistic() -> None:
    assert Latency.of(timing(4.0), "p50").upper == pytest.approx(2.4)
    assert Latency.of(timing(4.0), "p90").upper == pytest.approx(4.4)
    assert Latency.of(timing(4.0), "p99").upper is None


def test_deployment_is_what_was_measured() -> None:
    assert tiny_manifest("openvino").deployment == tiny_deployment("openvino")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latency_ms": Latency.of(timing(20.5), "p90")}, "its p90 exceeds its budget of 20 ms"),
        ({"parity": Parity(2e-4, 5, 1e-4, 0)}, "parity: logits of 5 rows differ by up to 0.0002, more than"),
        ({"parity": Parity(float("nan"), 5, 1e-4, 0)}, "more than the tolerance"),
        ({"input_shapes": {"input_ids": [2, 8]}}, "must be the batch size, 1"),
        ({"input_shapes": {"input_ids": [1]}}, "at least two dimensions"),
        ({"accuracy": {"validation": 87.5, "test": None}}, "less than or equal to 1"),
        ({"files": {"../x": FileEntry(sha256="b" * 64, bytes=3)}}, "'../x' is not the path of a file inside the artifact"),
    ],
)
def test_a_manifest_cannot_promise_what_was_not_proved(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        tiny_manifest(**changes)


@pytest.mark.parametrize(
    ("kept", "exceeded", "message"),
    [
        ({"size_bytes": 3456}, {"size_bytes": 3455}, "its 3456 bytes exceed its budget of 3455"),
        ({"memory_bytes": 7e7}, {"memory_bytes": 6.9e7}, "its peak memory of 70000000 bytes exceeds its budget of 69000000"),
        ({"macs": 48}, {"macs": 47}, "its 48 MACs exceed its budget of 47 an input"),
        ({"accuracy": 0.875}, {"accuracy": 0.88}, r"its validation accuracy of 0\.875 is below its budget of 0\.88"),
        ({"limit_ms": 4.0}, {"limit_ms": 3.9}, "its p90 exceeds its budget of 3.9 ms"),
        ({"also_ms": {"p99": 8.0}}, {"also_ms": {"p99": 7.9}}, "its p99 exceeds its budget of 7.9 ms"),
    ],
)
def test_every_limit_of_a_budget_is_kept(kept: dict[str, float], exceeded: dict[str, float], message: str) -> None:
    def budget(limits: dict[str, float]) -> Budget:
        return Budget(**{"text": "as asked", "statistic": "p90", "limit_ms": None, **limits})  # type: ignore[arg-type]

    assert tiny_manifest(budget=budget(kept)).budget == budget(kept)
    with pytest.raises(ValidationError, match=message):
        tiny_manifest(budget=budget(exceeded))


def test_without_a_budget_any_latency_will_do() -> None:
    assert tiny_manifest(budget=None, latency_ms=Latency.of(timing(2000.0), "p90")).budget is None


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "..", "C:\\x", "a\\b", "c:x", "a\nb", "a\0b", "manifest.json"],
)
def test_names_that_leave_the_folder_are_not_plain(name: str) -> None:
    assert not is_plain(name)


@pytest.mark.parametrize("name", ["model.onnx", "1/model.onnx", "..a", "a b.txt", "special_tokens_map.json"])
def test_plain_names(name: str) -> None:
    assert is_plain(name)


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.c", "/"]), min_size=1, max_size=6))
def test_a_plain_name_never_leaves_its_folder(parts: list[str]) -> None:
    name = "/".join(parts)
    if is_plain(name):
        root = Path("/some/folder")
        assert root in Path(root, name).parents
        assert ".." not in Path(name).parts


def test_unknown_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    manifest = tiny_manifest()
    value = {**manifest.model_dump(mode="json"), "licence": "Apache-2.0"}
    value["latency_ms"]["circumstances"] = {"load": 0.1}
    (tmp_path / "manifest.json").write_text(json.dumps({**value, "sha256": digest(value)}))
    assert read_manifest(tmp_path) == manifest


def test_no_folder_and_no_artifact_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere: no such folder"):
        read_manifest(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"not an artifact \(it has no file manifest\.json\)"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_manifest(tmp_path / "elsewhere", tiny_manifest())
    (tmp_path / "manifest.json").symlink_to(tmp_path / "elsewhere" / "manifest.json")
    with pytest.raises(BadInput, match="not an artifact"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("schema", [2, 99])
def test_a_newer_schema_is_refused(tmp_path: Path, schema: int) -> None:
    write_manifest(tmp_path, tiny_manifest())
    edit(tmp_path, schema_version=schema)
    with pytest.raises(VerificationFailed, match=rf"newer instatune-deploy \(schema {schema}\); this one reads up to 1"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["[]", '{"name": "a web app"}', '{"schema_version": "1"}', '{"schema_version": true}', '{"schema_version": 0}', "null"],
)
def test_another_programs_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(VerificationFailed, match="not the manifest of an artifact"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b'{"schema_version": 1,', b"\xff\xfe\x00", b"[" * 100_000, b'{"schema_version": ' + b"1" * 5000 + b"}"],
    ids=["empty", "torn", "no UTF-8", "nested", "digits"],
)
def test_a_damaged_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(VerificationFailed, match="damaged") as raised:
        read_manifest(tmp_path)
    assert "\n" not in raised.value.message


def test_a_manifest_of_any_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(tmp_path, tiny_manifest())
    os.truncate(tmp_path / "manifest.json", 1 << 40)
    monkeypatch.setattr(manifests, "read_json", lambda path: pytest.fail("it was read"))
    with pytest.raises(VerificationFailed, match=rf"not the manifest of an artifact \(it has {1 << 40} bytes, "):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {"text": "20ms", "statistic": "p90", "limit_ms": 40.0}},
        {"budget": None},
        {"threads": 2},
        {"seed": float("nan")},
        {"sha256": "0" * 64},
        {"extra": 1},
    ],
)
def test_an_edited_manifest_is_found(tmp_path: Path, changes: dict[str, Any]) -> None:
    write_manifest(tmp_path, tiny_manifest())
    edit(tmp_path, **changes)
    with pytest.raises(VerificationFailed, match="damaged or edited: its content does not match its own checksum"):
        read_manifest(tmp_path)


def test_a_resealed_manifest_without_sense_names_the_key(tmp_path: Path) -> None:
    value = {**tiny_manifest().model_dump(mode="json"), "threads": "many"}
    (tmp_path / "manifest.json").write_text(json.dumps({**value, "sha256": digest(value)}))
    with pytest.raises(VerificationFailed, match=r"manifest\.json: damaged: threads: ") as raised:
        read_manifest(tmp_path)
    assert "\n" not in raised.value.message


def test_an_unknown_setting_of_the_protocol_is_refused(tmp_path: Path) -> None:
    """Another protocol measures something else."""
    value = tiny_manifest().model_dump(mode="json")
    value["timing"]["drop_outliers"] = True
    (tmp_path / "manifest.json").write_text(json.dumps({**value, "sha256": digest(value)}))
    with pytest.raises(VerificationFailed, match=r"timing\.drop_outliers"):
        read_manifest(tmp_path)


def test_versions_are_of_what_is_installed() -> None:
    import numpy

    versions = installed_versions()
    assert versions["numpy"] == numpy.__version__
    assert {"python", "instatune-deploy", "onnxruntime", "openvino", "tokenizers", "pillow"} <= set(versions)


def test_the_schema_can_be_published() -> None:
    schema = Manifest.model_json_schema()
    assert "input_shapes" in schema["required"]
    assert "files" in schema["properties"]


def test_the_published_schema_is_that_of_the_code_and_takes_a_real_manifest(tmp_path: Path) -> None:
    published = json.loads((Path(manifests.__file__).parent / "manifest.schema.json").read_text(encoding="utf-8"))
    assert published == json_schema(), "run `make schema`"
    write_manifest(tmp_path, tiny_manifest())
    value = json.loads((tmp_path / "manifest.json").read_text())
    validator = jsonschema.Draft202012Validator(published)
    validator.check_schema(published)
    validator.validate(value)
    for changes in ({"threads": 0}, {"sha256": "0"}, {"latency_ms": {}}, {"runtime": "tvm"}):
        assert not validator.is_valid({**value, **changes})
    assert not validator.is_valid({name: item for name, item in value.items() if name != "sha256"})
