"""Our artifacts' graphs beside what optimum, Olive and the plain exporters make of the same weights: latency, size, accuracy.

The full MiniLM and three of its sub-networks, with all heads, so that an ordinary configuration can say them and others can
export them; fine-tuned as the default pipeline does. Finished files of all sides are measured by the same protocol, in turns.
optimum and Olive live in environments of their own (`benchmarks/environments/`). Let nothing else run meanwhile.
``python -m benchmarks.artifact.peers``
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.artifact.setup import opened_bench
from benchmarks.main.job import pipeline_file
from benchmarks.profile.peers import OLIVE, OPTIMUM, SCRIPT, TOKENS, Peer, environment, run_in
from benchmarks.profile.runtimes import Contender, bytes_of, finished, measure_in_turn
from benchmarks.profile.setup import device
from benchmarks.results import FOLDER, REPOSITORY, markdown, write_result
from instatune_deploy.artifact.samples import batch
from instatune_deploy.devices.runs import Run
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.evaluate import opened
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.tasks.metrics import accuracy

WORK = REPOSITORY / "runs" / "benchmarks" / "peers"
NETWORKS = {
    "full": Architecture(tuple(range(6)), (12,) * 6, (1536,) * 6),
    "5 layers, MLP 1152": Architecture((0, 1, 2, 4, 5), (12,) * 5, (1152,) * 5),
    "3 layers, MLP 768": Architecture((1, 3, 5), (12,) * 3, (768,) * 3),
    "2 layers, MLP 384": Architecture((2, 5), (12,) * 2, (384,) * 2),
}
CALIBRATION_ROWS = 128
OPENVINO_FP32 = ("openvino", "fp32")
JUDGED_ROWS = 500
"""Test rows that every file's accuracy is looked at: enough to see one that broke."""
MOST_LOST = 0.02
"""Of a network's accuracy in fp32, that a file may lose on these rows and be compared."""


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A smoke run: one round of the smallest network, no peers; its figures mean nothing.")
@click.option("--rounds", default=3, show_default=True, help="How often everything is measured, in turns.")
@click.option("--work", default=WORK, type=click.Path(path_type=Path), show_default=True, help="What is kept for the next time.")
@click.option("--optimum", type=click.Path(path_type=Path), help="optimum's environment, if there is one already.")
@click.option("--olive", type=click.Path(path_type=Path), help="Olive's environment, if there is one already.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, rounds: int, work: Path, optimum: Path | None, olive: Path | None, results: Path) -> None:
    """Export, measure in turns, compare."""
    work.mkdir(parents=True, exist_ok=True)
    pythons = None if quick else (environment(OPTIMUM, optimum), environment(OLIVE, olive))
    here, names = device("xeon-cpu"), list(NETWORKS)[-1:] if quick else list(NETWORKS)
    with (
        tempfile.TemporaryDirectory() as scratch,
        opened_bench(pipeline_file(work, quick), here, work / "runs") as bench,
    ):
        contenders: list[Contender] = []
        for name in names:
            folder = Path(scratch) / name.replace(" ", "-")
            for run in here.runs:
                contenders.append(finished(bench, name, NETWORKS[name], run, folder / "-".join([run.runtime, run.precision])))
            if pythons is not None:
                contenders += theirs(bench, name, folder / "peers", *pythons)
            click.echo(f"{name}: made", err=True)
        for contender in contenders:
            contender.accuracy = judged(bench, contender)
        for number in range(1 if quick else rounds):
            measure_in_turn(contenders, bench, bench.laboratory, here)
            click.echo(f"round {number + 1}", err=True)
    rows = [row(contender) for contender in contenders]
    click.echo(markdown(rows))
    settings = {"quick": quick, "rounds": rounds, "threads": here.runs[0].threads, "judged_rows": JUDGED_ROWS}
    write_result("artifact-peers", settings, rows, summarised(contenders), results)


def theirs(bench: Bench, name: str, folder: Path, optimum: Path, olive: Path) -> list[Contender]:
    """What others make of a network's weights, in ``folder``."""
    checkpoint = folder / "checkpoint"
    model = bench.supernet.network.extract(NETWORKS[name])
    model.save_pretrained(checkpoint)
    bench.task.save(checkpoint, bench.device.size)
    example = {key: torch.from_numpy(rows) for key, rows in bench.example(NETWORKS[name]).items()}
    program = torch.onnx.export(model, kwargs=example, verbose=False)
    assert program is not None
    program.save(str(folder / "plain.onnx"))
    np.savez(folder / "rows.npz", **bench.rows(NETWORKS[name], "train", CALIBRATION_ROWS))  # type: ignore[arg-type]
    made = folder / "optimum"
    run_in(optimum, str(SCRIPT), str(checkpoint), str(made), str(TOKENS), str(folder / "rows.npz"))
    peers = [
        Peer("torch.onnx.export", "onnxruntime", folder / "plain.onnx"),
        Peer("torch.onnx.export", "openvino", folder / "plain.onnx"),
        Peer("optimum-onnx", "onnxruntime", made / "onnx" / "model.onnx"),
        Peer("optimum-onnx O2", "onnxruntime", made / "o2" / "model_optimized.onnx"),
        Peer("optimum-onnx O3", "onnxruntime", made / "o3" / "model_optimized.onnx"),
        Peer("optimum-onnx, dynamic int8", "onnxruntime", made / "int8-dynamic" / "model_quantized.onnx", "int8-dynamic"),
        Peer("optimum-intel", "openvino", made / "openvino" / "openvino_model.xml"),
        Peer("optimum-intel, int8", "openvino", made / "openvino-int8" / "openvino_model.xml", "int8"),
        *of_olive(checkpoint, folder / "olive", olive),
    ]
    # OpenVINO's own default on processors that compute in bf16: any of its graphs runs so too
    peers += [
        Peer(peer.name, peer.runtime, peer.path, "bf16") for peer in peers if (peer.runtime, peer.precision) == OPENVINO_FP32
    ]
    threads = bench.device.runs[0].threads
    return [
        Contender(name, peer.name, Run(peer.runtime, peer.precision, threads), peer.path, bytes_of(peer.path), ours=False)
        for peer in peers
    ]


def of_olive(checkpoint: Path, folder: Path, python: Path) -> list[Peer]:
    """``olive optimize`` in fp32; its int8 takes calibration data from the hub that fit language models only, so dynamic int8
    is asked for by a configuration."""
    model = ["--model_name_or_path", str(checkpoint), "--task", "text-classification", "--disable_telemetry"]
    command = ["-m", "olive", "optimize", *model, "--device", "cpu", "--provider", "CPUExecutionProvider"]
    run_in(python, *command, "--precision", "fp32", "--exporter", "torchscript_exporter", "--output_path", str(folder / "fp32"))
    passes = {
        "conversion": {"type": "OnnxConversion"},
        "fusion": {"type": "OrtTransformersOptimization", "model_type": "bert", "opt_level": 1},
        "quantised": {"type": "OnnxDynamicQuantization"},
    }
    here = {"type": "LocalSystem", "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}]}
    workflow = {
        "input_model": {"type": "HfModel", "model_path": str(checkpoint), "task": "text-classification"},
        "systems": {"here": here},
        "passes": passes,
        "host": "here",
        "target": "here",
        "no_artifacts": True,
        "output_dir": str(folder / "int8"),
    }
    (folder / "int8.json").write_text(json.dumps(workflow), encoding="utf-8")
    run_in(python, "-m", "olive", "run", "--config", str(folder / "int8.json"), "--disable_telemetry")
    return [
        Peer("olive optimize", "onnxruntime", folder / "fp32" / "model.onnx"),
        Peer("olive run, dynamic int8", "onnxruntime", folder / "int8" / "model.onnx", "int8-dynamic"),
    ]


def judged(bench: Bench, contender: Contender) -> float:
    """Accuracy of the file on the first test rows, in its runtime and precision."""
    labels = bench.task.labels["test"][:JUDGED_ROWS]
    with opened(contender.path, contender.run) as session:
        rows = bench.rows(bench.architectures.largest(), "test", JUDGED_ROWS)
        # whatever the one output is called
        parts = [next(iter(session.run(batch(rows, start, 1)).values())) for start in range(len(labels))]
    return accuracy(np.concatenate(parts), labels)


def row(contender: Contender) -> dict[str, Any]:
    """One file."""
    took = contender.latencies_ms
    return {
        "network": contender.network,
        "made by": contender.name,
        "run": f"{contender.run.runtime} {contender.run.precision}",
        "p90 ms (median)": None if contender.median_ms is None else round(contender.median_ms, 2),
        "rounds": f"{min(took):.2f} - {max(took):.2f}" if took else "not believed",
        "MB": round(contender.size_bytes / 1e6, 1),
        "accuracy": "" if contender.accuracy is None else f"{contender.accuracy:.1%}",
    }


def summarised(contenders: Sequence[Contender]) -> dict[str, Any]:
    """Ours against the best of theirs, of the network where we do worst: the fastest files of each side, all precisions
    together and each by itself, and the smallest files likewise. Files that lose more than `MOST_LOST` are left out."""
    networks = list(dict.fromkeys(item.network for item in contenders))
    classes = {"any": None, "fp32": ("fp32",), "bf16": ("bf16",), "int8": ("int8", "int8-dynamic")}
    whole = sound(contenders)

    def least(network: str, ours: bool, precisions: tuple[str, ...] | None, of: Callable[[Contender], float]) -> float | None:
        found = [
            of(item)
            for item in whole
            if (item.network, item.ours) == (network, ours)
            and item.median_ms is not None
            and (precisions is None or item.run.precision in precisions)
        ]
        return min(found, default=None)

    def ratios(precisions: tuple[str, ...] | None, of: Callable[[Contender], float]) -> list[float]:
        pairs = [(least(name, True, precisions, of), least(name, False, precisions, of)) for name in networks]
        return [ours / theirs for ours, theirs in pairs if ours is not None and theirs is not None]

    latency = {name: ratios(precisions, lambda item: item.median_ms or 0.0) for name, precisions in classes.items()}
    size = {name: ratios(precisions, lambda item: item.size_bytes) for name, precisions in classes.items()}
    typical = latency["any"]
    return {
        "latency_ratio_to_best_peer": _worst(latency["any"]),
        "size_ratio_to_best_peer": _worst(size["any"]),
        "median_latency_ratio": round(statistics.median(typical), 3) if typical else None,
        "latency_ratio_by_precision": {name: _worst(values) for name, values in latency.items()},
        "size_ratio_by_precision": {name: _worst(values) for name, values in size.items()},
        **({} if typical else {"why": "no peers in a smoke run, or nothing was believed"}),
    }


def sound(contenders: Sequence[Contender]) -> list[Contender]:
    """Those that are about as accurate as the network is in fp32: a file that broke is neither fast nor small."""
    fp32: dict[str, float] = {}
    for item in contenders:
        if item.run.precision == "fp32" and item.accuracy is not None:
            fp32[item.network] = max(item.accuracy, fp32.get(item.network, 0.0))
    return [item for item in contenders if item.accuracy is None or item.accuracy >= fp32.get(item.network, 0.0) - MOST_LOST]


def _worst(ratios: Sequence[float]) -> float | None:
    return round(max(ratios), 3) if ratios else None


if __name__ == "__main__":
    main()
