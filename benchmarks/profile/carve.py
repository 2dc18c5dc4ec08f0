"""From an architecture to a session that is ready to run: carving beside exporting. ``python -m benchmarks.profile.carve``

Both sides take turns on the same random architectures. An export begins with the extracted network in memory and ends, as
carving does, with a session of the runtime. No sub-layer is gone: OpenVINO cannot load what the exporters make of one without
neurons.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.families import Family, family_option
from benchmarks.finetune.subjects import pipeline
from benchmarks.profile.setup import Subject, subject
from benchmarks.results import FOLDER, markdown, write_result
from instatune_deploy.cli import ClearErrors
from instatune_deploy.devices.runtimes.base import Graph
from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.carve import carve_shared
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.space import SearchSpace

RUNTIMES = ("onnxruntime", "openvino")
EXPORTERS: dict[str, dict[str, Any]] = {
    "torch.onnx.export (default)": {},
    "torch.onnx.export (optimize=False)": {"dynamo": True, "optimize": False},
    "torch.onnx.export (dynamo=False)": {"dynamo": False},
}
"""Ways of exporting, by name: what is said to the exporter beside model and inputs."""
DEFAULT = next(iter(EXPORTERS))
Ready = tuple[float, np.ndarray]
"""Seconds until the session stood, and its logits."""


@click.command(cls=ClearErrors)
@click.option("--quick", is_flag=True, help="A smoke run on one architecture of a tiny random model; its figures mean nothing.")
@click.option("--architectures", default=20, show_default=True, help="How many random ones.")
@click.option("--seeds", "seed", default=0, show_default=True, help="Which random ones.")
@click.option("--threads", default=2, show_default=True, help="Of a session.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
@family_option
def main(quick: bool, architectures: int, seed: int, threads: int, family: Family, results: Path) -> None:
    """Time carving and exporting, architecture by architecture."""
    seconds: dict[str, dict[str, list[float]]] = {runtime: {} for runtime in RUNTIMES}
    furthest = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        made = subject(pipeline(family.tiny, {}, Path(scratch)) if quick else family.settings())
        space = whole_sub_layers(made.space)
        genotypes = space.sample(np.random.default_rng(seed), 1 if quick else architectures)
        wanted = [space.decode(row) for row in genotypes]
        templates = {runtime: _kept(made.template(runtime), Path(scratch) / runtime) for runtime in RUNTIMES}
        for number, architecture in enumerate(wanted, 1):
            for runtime in RUNTIMES:
                sides = _sides(made, templates[runtime], architecture, Path(scratch) / runtime / "carved")
                expected = _expected(made, architecture)
                # another one is first every time
                order = list(sides)[number % len(sides) :] + list(sides)[: number % len(sides)]
                for name in order:
                    took, logits = _ready(sides[name], runtime, threads, made.example)
                    seconds[runtime].setdefault(name, []).append(took)
                    if name == "carve":
                        furthest = max(furthest, float(np.abs(logits - expected).max()))
            click.echo(f"{number} of {len(wanted)}", err=True)
    rows = [_row(runtime, name, values) for runtime in RUNTIMES for name, values in sorted(seconds[runtime].items())]
    medians = {runtime: {name: statistics.median(values) for name, values in seconds[runtime].items()} for runtime in RUNTIMES}
    click.echo(markdown(rows))
    write_result(
        family.result("profile-carve"),
        {"quick": quick, "architectures": len(wanted), "seed": seed, "threads": threads},
        rows,
        {
            "speedup_over_export": {runtime: round(of[DEFAULT] / of["carve"], 1) for runtime, of in medians.items()},
            "speedup_over_fastest_export": {
                runtime: round(min(of[name] for name in EXPORTERS) / of["carve"], 1) for runtime, of in medians.items()
            },
            "seconds_per_architecture": {runtime: round(of["carve"], 4) for runtime, of in medians.items()},
            "max_abs_diff": furthest,
        },
        results,
    )


def whole_sub_layers(space: SearchSpace) -> SearchSpace:
    """Without the choices of no heads and no neurons."""
    return replace(space, heads=tuple(filter(None, space.heads)), mlp_widths=tuple(filter(None, space.mlp_widths)))


def _sides(made: Subject, template: Template, architecture: Architecture, folder: Path) -> dict[str, Callable[[], Graph]]:
    """Every way of making one architecture's graph, by name."""
    exports = {name: partial(_export, made, architecture, options) for name, options in EXPORTERS.items()}
    return {**exports, "carve": partial(_carve, template, architecture, folder)}


def _kept(template: Template, folder: Path) -> Template:
    """As the pipeline has it: on disk, its weights mapped."""
    (folder / "carved").mkdir(parents=True)
    template.save(folder, "template")
    return Template.load(folder, "template")


def _carve(template: Template, architecture: Architecture, folder: Path) -> Graph:
    carve_shared(template, architecture).put(folder / "graph.onnx")
    return folder / "graph.onnx"


def _export(made: Subject, architecture: Architecture, options: dict[str, Any]) -> Graph:
    model = made.network.extract(architecture).eval()
    inputs = {name: torch.from_numpy(value) for name, value in made.example.items()}
    stream = io.BytesIO()
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if options.get("dynamo") is False:
            # which still writes to a stream, though its types do not say so
            names: dict[str, Any] = {"input_names": list(inputs), "output_names": ["logits"]}
            torch.onnx.export(model, (inputs,), stream, **names, **options)  # type: ignore[arg-type]
        else:
            program = torch.onnx.export(model, kwargs=inputs, verbose=False, **options)
            assert program is not None
            stream.write(program.model_proto.SerializeToString())
    return stream.getvalue()


def _ready(make: Callable[[], Graph], runtime: str, threads: int, inputs: dict[str, np.ndarray]) -> Ready:
    start = time.perf_counter()
    session = open_session(make(), runtime, "fp32", threads)
    took = time.perf_counter() - start
    with closing(session):
        return took, next(iter(session.run({name: inputs[name] for name in session.input_names}).values()))


def _expected(made: Subject, architecture: Architecture) -> np.ndarray:
    with torch.inference_mode():
        inputs = {name: torch.from_numpy(value) for name, value in made.example.items()}
        return np.asarray(made.network.extract(architecture)(**inputs).logits.numpy())


def _row(runtime: str, name: str, values: list[float]) -> dict[str, Any]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {
        "runtime": runtime,
        "how": name,
        "seconds (median)": round(float(middle), 3),
        "10% - 90%": f"{low:.3f} - {high:.3f}",
        "architectures": len(values),
    }


if __name__ == "__main__":
    main()
