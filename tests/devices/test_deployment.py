from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.runs import Run
from instatune_deploy.errors import BadInput

Make = Callable[..., Measurement]


def test_json_both_ways(make_measurement: Make) -> None:
    for made in (make_measurement(), make_measurement(timing=None, why="it could not be run: out of memory")):
        text = json.dumps(made.to_json(), allow_nan=False)
        assert Measurement.from_json(json.loads(text)) == made


def test_deployment_in_json_holds_the_architectures_own(make_measurement: Make) -> None:
    value = make_measurement(layers=2).to_json()
    assert value["schema_version"] == 2
    assert value["deployment"] == {
        "architecture": {"layers": [0, 1], "heads": [4, 4], "mlp_widths": [16, 16]},
        "runtime": "onnxruntime",
        "precision": "fp32",
        "threads": 2,
        "batch_size": 1,
        "sequence_length": 128,
        "provider": "cpu",
    }
    assert value["timing"]["limits"]["p90"] == {"lower_ms": 5.8, "upper_ms": 6.3}


def test_measurements_of_the_first_schema_are_still_read(make_measurement: Make) -> None:
    """What the second added has a default; so has the key, and nothing is measured again for it."""
    made = make_measurement()
    value = made.to_json()
    value["schema_version"] = 1
    del value["deployment"]["provider"]
    for name in ("thrown", "reference_ms", "nominal_ms", "seconds", "timed_seconds"):
        del value["timing"][name]
    found = Measurement.from_json(json.loads(json.dumps(value)))
    assert found == made
    assert found.key == made.key
    assert found.deployment.provider == "cpu"


def test_provider_and_reference_both_ways(make_measurement: Make) -> None:
    made = make_measurement()
    assert made.timing is not None
    timing = replace(made.timing, thrown=2, reference_ms=5.0, nominal_ms=4.0, seconds=3.5, timed_seconds=3.0)
    made = replace(made, timing=timing, deployment=replace(made.deployment, precision="fp16", provider="cuda"))
    assert Measurement.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_how_it_is_run(make_measurement: Make) -> None:
    deployment = make_measurement().deployment
    assert deployment.run == Run("onnxruntime", "fp32", 2, "cpu")
    deployment = replace(deployment, provider="cuda", threads=1)
    assert str(deployment.run) == "onnxruntime cuda fp32, 1 thread"
    assert str(deployment) == f"{deployment.architecture}; onnxruntime cuda fp32, 1 thread"


def test_believed(make_measurement: Make) -> None:
    assert make_measurement().believed
    assert not make_measurement(stable=False).believed
    assert not make_measurement(why="a neighbour").believed
    assert not make_measurement(timing=None).believed


def test_key_is_of_what_decides_latency(make_measurement: Make) -> None:
    made = make_measurement()
    same = [
        replace(made, device="laptop-cpu"),
        replace(made, timing=None),
        replace(made, circumstances={}),
        replace(made, size_bytes=1),
    ]
    deployment = made.deployment
    other = [
        make_measurement(layers=3),
        replace(made, graph_hash="b" * 64),
        replace(made, host="fedcba9876543210"),
        replace(made, versions={"onnxruntime": "1.32.0"}),
        replace(made, protocol={"window_ms": 200.0}),
        replace(made, deployment=replace(deployment, threads=7)),
        replace(made, deployment=replace(deployment, batch_size=7)),
        replace(made, deployment=replace(deployment, sequence_length=7)),
        replace(made, deployment=replace(deployment, precision="bf16")),
        replace(made, deployment=replace(deployment, provider="cuda")),
    ]
    assert {item.key for item in same} == {made.key}
    assert len({item.key for item in [made, *other]}) == len(other) + 1


def test_deployment_is_hashable_and_readable(make_measurement: Make) -> None:
    deployment = make_measurement().deployment
    assert deployment in {make_measurement().deployment}
    assert str(deployment) == "2 layers, heads 4, MLP 16; onnxruntime fp32, 2 threads"


def broken(value: dict[str, Any], path: str, new: Any) -> Any:
    inner = value
    *way, last = path.split(".")
    for part in way:
        inner = inner[part]
    inner[last] = new
    return value


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("schema_version", 3, r"f\.json: schema_version must be 1 to 2 \(found 3\)"),
        ("schema_version", 0, r"f\.json: schema_version must be 1 to 2 \(found 0\)"),
        ("schema_version", None, r"f\.json: schema_version must be 1 to 2 \(found None\)"),
        ("schema_version", [1], r"f\.json: schema_version must be 1 to 2 \(found \[1\]\)"),
        ("timing.nominal_ms", math.inf, r"f\.json: timing\.nominal_ms: .*finite"),
        ("timing.unheard", 1, r"f\.json: timing\.unheard"),
        ("deployment.unheard", 1, r"f\.json: deployment\.unheard"),
        ("timing.p90_ms", math.nan, r"f\.json: timing\.p90_ms: .*finite"),
        ("timing.p90_ms", "fast", r"f\.json: timing\.p90_ms"),
        ("deployment.architecture.heads", [4], r"f\.json: deployment\.architecture"),
        ("unheard", 1, r"f\.json: unheard"),
        ("size_bytes", None, r"f\.json: size_bytes"),
    ],
)
def test_bad_json(make_measurement: Make, path: str, new: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        Measurement.from_json(broken(make_measurement().to_json(), path, new), "f.json")
    assert "\n" not in caught.value.message


def test_json_that_is_no_measurement() -> None:
    with pytest.raises(BadInput, match="found a list"):
        Measurement.from_json([])
