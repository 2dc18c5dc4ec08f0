"""Results from another device: taken in whole, or refused with one line and nothing added."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instatune_deploy.devices.deployment import measurement_key
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.imports import Imported, add_results, read_results
from instatune_deploy.devices.plan import Plan
from instatune_deploy.devices.reference import reference_key
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.errors import BadInput

from .kits import RULES, keep, results, write_kit


@pytest.fixture
def plan(tmp_path: Path, graph: bytes, inputs: dict[str, Any]) -> Plan:
    made = write_kit(tmp_path / "kit", graph, inputs, b"a reference")
    keep(made, tmp_path / "runs")
    return made


@pytest.fixture
def take_in(tmp_path: Path) -> Callable[[Any], Imported]:
    def take(value: Any) -> Imported:
        path = tmp_path / "results.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        checked = read_results(path, tmp_path / "runs")
        with MeasurementStore(tmp_path / "store.sqlite") as store:
            return add_results(checked, store)

    return take


def test_taken_in(plan: Plan, take_in: Callable[[Any], Imported], tmp_path: Path) -> None:
    value = results(plan)
    imported = take_in(value)
    assert (imported.device, imported.new, imported.known, imported.doubted) == ("far-cpu", 3, 0, {})
    host = Host.from_facts(value["host"])
    assert imported.host == host
    with MeasurementStore(tmp_path / "store.sqlite") as store:
        found = store.select()
        assert [measurement.deployment.threads for measurement in found] == [1, 2, 4]
        one = found[0]
        key = measurement_key(one.deployment, "a" * 64, host.fingerprint, {"onnxruntime": "1.23.2"}, RULES.model_dump())
        assert store.find(key) == one
        assert one.timing is not None
        assert one.timing.to_json() == value["items"][0]["timing"]
        assert one.circumstances["kit"] == plan.digest
        assert one.circumstances["host"]["board"] == "Raspberry Pi 5"
        assert store.find_reference(reference_key(Run("onnxruntime", "fp32", 1), "1.23.2", host.fingerprint)) == 2.0


def test_sizes_of_images_are_taken_in(
    tmp_path: Path, graph: bytes, inputs: dict[str, Any], take_in: Callable[[Any], Imported]
) -> None:
    plan = write_kit(tmp_path / "kit", graph, inputs, b"a reference", {1: 42, 2: 56})
    keep(plan, tmp_path / "runs")
    assert take_in(results(plan)).new == 3
    with MeasurementStore(tmp_path / "store.sqlite") as store:
        assert [measurement.deployment.architecture.image_size for measurement in store.select()] == [42, 56, None]


def test_a_second_time(plan: Plan, take_in: Callable[[Any], Imported]) -> None:
    value = results(plan)
    value["items"][1]["why"] = "others"
    value["items"][2] |= {"timing": None, "why": "out of memory"}
    first, second = take_in(value), take_in(value)
    assert (first.new, first.known, first.doubted) == (3, 0, {"others": 1, "out of memory": 1})
    assert (second.new, second.known, second.doubted) == (0, 3, first.doubted)


def test_on_the_scale_of_what_is_known(plan: Plan, take_in: Callable[[Any], Imported], tmp_path: Path) -> None:
    """The second file's reference took 4 ms where the first one's took 2: its figures are halved."""
    first = results(plan)
    second = copy.deepcopy(first)
    second["references"][0]["nominal_ms"] = 4.0
    second["items"] = [{**second["items"][0], "timing": {**second["items"][0]["timing"], "nominal_ms": 4.0}, "why": "others"}]
    take_in(first)
    take_in(second)
    with MeasurementStore(tmp_path / "store.sqlite") as store:
        believed, *_, doubted = store.select(believed=None)
    assert believed.timing is not None
    assert doubted.timing is not None
    assert (believed.timing.p90_ms, doubted.timing.p90_ms) == (6.0, 3.0)
    assert doubted.timing.nominal_ms == 2.0


def test_a_zip_file(plan: Plan, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "back.zip", "w") as archive:
        archive.writestr("device/results.json", json.dumps(results(plan)))
    assert len(read_results(tmp_path / "back.zip", tmp_path / "runs").results.items) == 3
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("plan.json", "{}")
    with pytest.raises(BadInput, match=r"empty.zip: it holds no results.json"):
        read_results(tmp_path / "empty.zip", tmp_path / "runs")


def at(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return change


def without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(value: Any) -> None:
        for key in path[:-1]:
            value = value[key]
        del value[path[-1]]

    return change


FIRST = ("items", 0)
TIMED = (*FIRST, "timing")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (at("schema_version", to=2), "its schema_version is 2, and this version of instatune-deploy reads 1: it is newer"),
        (at("schema_version", to=0), "schema_version must be 1 (found 0)"),
        (without("schema_version"), "not the results of a kit"),
        (without("host"), "host: Field required"),
        (at("surplus", to=1), "surplus: Extra inputs are not permitted"),
        (without(*TIMED, "p50_ms"), "items.0.timing.p50_ms: Field required"),
        (at(*TIMED, "p50_ms", to="5"), "items.0.timing.p50_ms: Input should be a valid number"),
        (at(*TIMED, "p50_ms", to=-5.0), "items.0.timing.p50_ms: Input should be greater than 0"),
        (at(*TIMED, "p99_ms", to=float("nan")), "items.0.timing.p99_ms: Input should be"),
        (at(*TIMED, "max_ms", to=float("inf")), "items.0.timing.max_ms: Input should be"),
        (at(*TIMED, "p90_ms", to=4.5), "items.0.timing: p50_ms, p90_ms, p99_ms and max_ms must not decrease (found 5.0, 4.5,"),
        (at(*TIMED, "mean_ms", to=9.0), "items.0.timing: mean_ms 9.0 exceeds max_ms 8.5"),
        (at(*TIMED, "count", to=0), "items.0.timing.count: Input should be greater than or equal to 1"),
        (at(*TIMED, "count", to=True), "items.0.timing.count: Input should be a valid integer"),
        (at(*TIMED, "thrown", to=4), "items.0.timing: 4 windows were thrown away of 3"),
        (without(*TIMED, "limits", "p99"), "items.0.timing: limits must be those of p50, p90, p99 (found p50, p90)"),
        (at(*TIMED, "limits", "p50", "lower_ms", to=10.0), "limits.p50: lower_ms 10.0 exceeds upper_ms 9.0"),
        (at(*FIRST, "circumstances", "load", to=float("nan")), "it holds a number that is none"),
        (at(*FIRST, "timing", to=None), "items.0: without a timing, why must say what happened"),
        (at(*FIRST, "graph_hash", to="b" * 64), "items.0: graph bbbbbbbbbbbbbbbb, onnxruntime fp32, 1 thread: not in the kit"),
        (at(*FIRST, "sha256", to="b" * 64), "items.0: sha256 is not that of the kit's graph graphs/0001.onnx"),
        (at(*FIRST, "size_bytes", to=7), "items.0: size_bytes is not that of the kit's graph"),
        (at(*FIRST, "deployment", "threads", to=3), "items.0: graph aaaaaaaaaaaaaaaa, onnxruntime fp32, 3 threads: not in"),
        (at(*FIRST, "deployment", "threads", to=[1]), "items.0.deployment.threads: Input should be a valid integer"),
        (at(*FIRST, "deployment", "batch_size", to=8), "items.0: deployment is not that of the kit's graph"),
        (lambda value: value["items"].append(value["items"][0]), "items.3: graph aaaaaaaaaaaaaaaa, onnxruntime fp32, 1 thread: "),
        (at("references", to=[]), "items.0: it has a timing, but references do not say how fast the device was"),
        (at("references", 0, "nominal_ms", to=-1.0), "references.0.nominal_ms: Input should be greater than 0"),
        (at("references", 0, "run", to=["openvino", "fp32", 1, "cpu"]), "references.0: nothing of the kit is run as openvino"),
        (at("plan", to="f" * 64), "its graphs are not known: no kit with the plan ffffffffffffffff was made in"),
        (at("plan", to="../../secret"), "plan: String should match pattern"),
        (at("device", to="xeon-cpu"), "device is not what the kit's plan says ('far-cpu')"),
        (at("rules", "window_ms", to=5.0), "rules is not what the kit's plan says"),
        (at("host", "cores", to=0), "host: cores must be a whole number of at least 1 (found 0)"),
        (without("host", "os"), "host: missing: os"),
    ],
)
def test_refused(
    plan: Plan, take_in: Callable[[Any], Imported], tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    value = results(plan)
    change(value)
    with pytest.raises(BadInput) as refused:
        take_in(value)
    assert said in refused.value.message
    assert refused.value.message.startswith(f"{tmp_path / 'results.json'}: ")
    assert "\n" not in refused.value.message
    assert not (tmp_path / "store.sqlite").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text[:-40], "it ends in the middle: the file was cut short; copy it again from the device"),
        (lambda text: text[: len(text) // 2], "it ends in the middle"),
        (lambda text: "", "it ends in the middle"),
        (lambda text: "{oh}", "not valid JSON"),
        (lambda text: "[1]{}", "not valid JSON"),
        (lambda text: "3", "not the results of a kit"),
    ],
)
def test_no_whole_json(plan: Plan, take_in: Callable[[Any], Imported], spoil: Callable[[str], str], said: str) -> None:
    with pytest.raises(BadInput) as refused:
        take_in(spoil(json.dumps(results(plan))))
    assert said in refused.value.message


def test_no_file_and_no_text(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere.json: cannot be read: no such file"):
        read_results(tmp_path / "nowhere.json", tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"binary.json: not the results of a kit"):
        read_results(tmp_path / "binary.json", tmp_path)


def test_a_plan_that_was_changed(plan: Plan, take_in: Callable[[Any], Imported], tmp_path: Path) -> None:
    (kept,) = (tmp_path / "runs" / "kits").iterdir()
    kept.write_text(kept.read_text().replace("far-cpu", "near-cpu"))
    with pytest.raises(BadInput, match="it was changed; make the kit again"):
        take_in(results(plan))
