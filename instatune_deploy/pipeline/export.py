"""Stages *export* and *verify*: the chosen deployment as files, proved, and handed over as an artifact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instatune_deploy.artifact.licence import license_of
from instatune_deploy.budget import Budget
from instatune_deploy.config import Statistic
from instatune_deploy.devices.runs import Run
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput, NoArchitectureFits, TooNoisy, UserError, VerificationFailed
from instatune_deploy.pipeline.bench import Bench, Point
from instatune_deploy.pipeline.objectives import latency_ms
from instatune_deploy.pipeline.picture import draw_search
from instatune_deploy.pipeline.results import NEAREST, SearchResult, lines_of, nearest_to, ranked
from instatune_deploy.pipeline.search import Searcher
from instatune_deploy.pipeline.training import packages_of, versions_of
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.tasks.references import is_on_hub
from instatune_deploy.tasks.tables import SPLITS, Split
from instatune_deploy.terminal import Terminal

if TYPE_CHECKING:
    from instatune_deploy.artifact.manifest import Manifest
    from instatune_deploy.artifact.write import Draft
    from instatune_deploy.devices.deployment import Deployment, Measurement

SAMPLE_ROWS = 32
ARTIFACT_REVISION = 5
"""Raised when an artifact holds something else than before: one of before is made anew. 2: programs and a card; 4: the programs
check what they use; 5: top-5 accuracy."""
ATTEMPTS = 5
ACCURACY_TOLERANCE = 0.01
"""On the same rows, so only a calibration can make a difference: more than a point is another network."""


@dataclass(frozen=True)
class Exported:
    """An artifact that was proved, and the point it was made from."""

    folder: Path
    manifest: Manifest


class _NotKept(UserError):
    """The finished files are slower than the budget allows, or less accurate than what was searched."""

    advice = ""


class _Slower(_NotKept):
    """The finished files are slower than the budget allows."""

    advice = "run again when this host is quiet, or "


class _Larger(_NotKept):
    """The finished files take more bytes, on disk or in memory, than the budget allows: in some runtimes more than what was
    measured. ``figure`` is that of a `Measurement`."""

    def __init__(self, what: str, figure: str, found: float, limit: float) -> None:
        super().__init__(f"the finished files take {found / 1e6:.4g} MB{what}, more than {limit / 1e6:.4g} MB")
        self.figure, self.found, self.limit = figure, found, limit


def export_stage(
    searcher: Searcher,
    result: SearchResult,
    target: Path,
    terminal: Terminal,
    opened: tuple[str, ...] = (),
    check: Callable[[Manifest], object] = lambda manifest: None,
) -> Exported:
    """Make the artifact of the best point that keeps the budget: the most accurate, or the fastest that is accurate enough.

    It is measured again on the finished files, in three fresh processes some seconds apart, and the slowest is what its
    manifest says. One that exceeds the budget there is not handed over: the next best is tried. An artifact with the same
    key that still is what it was is reused.

    opened: of batch and tokens what may be of any size (`graphs.shapes.AXES`); the promise holds for the device's shape
    check:  raises what keeps a finished artifact from being put in its place
    """
    terminal.stage(f"export: {target}")
    candidates = ranked(result, searcher.budget, searcher.statistic)
    kept = _reusable(searcher, target, candidates, opened)
    if kept is not None:
        check(kept.manifest)
        terminal.result("made before, its files are unchanged, reused")
        return kept
    why, tried, advice = "", 0, ""
    most_bytes: dict[tuple[Run, str], float] = {}
    for point in candidates:
        larger = any(
            run == point.run and getattr(point.measurement, figure) > limit for (run, figure), limit in most_bytes.items()
        )
        if tried == ATTEMPTS or larger:
            continue
        tried += 1
        try:
            return _make(searcher, result, point, target, terminal, opened, check)
        except _NotKept as error:
            why, advice = error.message, error.advice
            terminal.result(f"{why}; the next best is tried")
            if isinstance(error, _Larger):  # so will those of others be that are run in this way
                most_bytes[point.run, error.figure] = getattr(point.measurement, error.figure) * error.limit / error.found
    budget = searcher.budget or Budget()
    nearest = lines_of(
        nearest_to(result, budget, searcher.statistic) if searcher.budget else candidates[:NEAREST], searcher.statistic
    )
    said = (
        f"the finished files of the {tried} networks tried did not keep {searcher.budget or 'their accuracy'} "
        f"(the last: {why}); {advice}allow a little more. The nearest of {len(result.points)} measured:"
    )
    raise NoArchitectureFits("\n".join([said, *nearest]))


def full_point(result: SearchResult, bench: Bench) -> Point:
    """The baseline: the full network as most would ship it, in ONNX Runtime and fp32 where the device has that.

    ``TooNoisy`` when no latency of the full network could be believed.
    """
    full = bench.architectures.largest()
    points = {point.run: point for point in result.points if point.architecture == full}
    # sorted() leaves the profile's order among equals
    preferred = sorted(bench.device.runs, key=lambda run: (run.precision != "fp32", run.runtime != "onnxruntime", -run.threads))
    for run in preferred:
        if run in points:
            return points[run]
    raise TooNoisy(f"device '{bench.device.name}': the full model's latency could not be believed; run again on a quieter host")


def _make(
    searcher: Searcher,
    result: SearchResult,
    point: Point,
    target: Path,
    terminal: Terminal,
    opened: tuple[str, ...],
    check: Callable[[Manifest], object],
) -> Exported:
    from instatune_deploy.artifact.card import PICTURE
    from instatune_deploy.artifact.write import draft

    bench = searcher.bench
    device = bench.on(point.architecture)
    terminal.result(f"{point.architecture}; {point.run}")
    deployment = device.deployment(point.architecture, point.run)
    embedding = bench.inputs.embedding
    # an image processor's file beside a graph that does its work would have the work done twice
    save = partial(bench.task.save, size=device.size) if embedding is None else _nothing
    with draft(target, deployment) as artifact:
        small = bench.supernet.network.extract(point.architecture)
        artifact.add_graph(bench.finished_graph(point.architecture, point.run, opened))
        _check_size(searcher, artifact, deployment)
        artifact.add_preprocessing(small.config.to_dict(), save)
        described = (
            bench.task.described(artifact.folder, [*bench.example(point.architecture)], device.size)
            if embedding is None
            else embedding.described(device.size)
        )
        artifact.add_predict(described, bench.task.label_names)
        samples = _samples(bench, point.architecture, small)
        artifact.add_samples(samples, bench.task.samples("test", samples.rows, artifact.folder))
        parity = artifact.prove_parity()
        terminal.result(f"parity with PyTorch: {parity}")
        measured, accuracy = [_measured_again(searcher, artifact)], dict[str, float]()
        for split in SPLITS[1:]:
            accuracy |= _shipped_accuracy(bench, artifact, deployment, split)
            if split == "validation":
                _compare(searcher, point, accuracy[split], terminal)
            measured.append(_measured_again(searcher, artifact))
        took = ", ".join(f"{_took(item, searcher.statistic):.2f}" for item in measured)
        terminal.result(f"measured again on the finished files, each time in a fresh process: {took} ms ({searcher.statistic})")
        manifest = _manifest(searcher, result, point, artifact, measured, accuracy, parity, opened)
        check(manifest)
        draw_search(artifact.folder / PICTURE, searcher, result, full_point(result, bench), point)
        artifact.finish(manifest)
    from instatune_deploy.artifact.manifest import read_manifest

    return Exported(target, read_manifest(target))


def _check_size(searcher: Searcher, artifact: Draft, deployment: Deployment) -> None:
    from instatune_deploy.artifact.graph_files import GRAPH_FILES

    limit = (searcher.budget or Budget()).size_bytes
    size_bytes = GRAPH_FILES[deployment.runtime].size_bytes(artifact.folder)
    if limit is not None and size_bytes > limit:
        raise _Larger("", "size_bytes", size_bytes, limit)


def _compare(searcher: Searcher, point: Point, accuracy: float, terminal: Terminal) -> None:
    """The finished files beside the graph that was searched, on the validation rows; raises when they are worse, or less
    accurate than the budget says."""
    least = (searcher.budget or Budget()).accuracy
    if least is not None and accuracy < least:
        raise _NotKept(f"the finished files reach {accuracy:.2%}, less than {searcher.budget}")
    if point.run.precision.startswith("int8"):
        terminal.result(f"calibrated afresh for this network: {accuracy:.1%}; as it was searched: {point.accuracy:.1%}")
    if accuracy < point.accuracy - ACCURACY_TOLERANCE:
        raise _NotKept(f"the finished files reach {accuracy:.1%}, the graph that was searched {point.accuracy:.1%}")


def _measured_again(searcher: Searcher, artifact: Draft) -> Measurement:
    """The finished files in a fresh process; raises when they exceed the budget or cannot be believed."""
    measurement = artifact.remeasure(searcher.device.name, searcher.device.timing)
    if measurement.timing is None:
        raise VerificationFailed(f"the finished files cannot be run: {measurement.why}")
    if not measurement.believed:
        raise TooNoisy(f"the finished files' latency cannot be believed: {measurement.why}; run again on a quieter host")
    most = (searcher.budget or Budget()).memory_bytes
    if most is not None and (measurement.memory_bytes or math.inf) > most:
        raise _Larger(" of memory", "memory_bytes", measurement.memory_bytes or math.inf, most)
    for statistic, limit_ms in (searcher.budget or Budget()).latencies_ms(searcher.statistic).items():
        took = measurement.timing.statistic_ms(statistic)
        if took <= limit_ms:
            continue
        slower = _slower(searcher, measurement)
        if took / slower <= limit_ms:
            raise TooNoisy(
                f"this host is {slower:.2f} times slower now than when it is quiet, and the finished files take {took:.2f} ms "
                f"({statistic}), more than {searcher.budget}; run again later"
            )
        raise _Slower(f"the finished files take {took:.2f} ms ({statistic}), more than {searcher.budget}")
    return measurement


def _slower(searcher: Searcher, measurement: Measurement) -> float:
    """By how much the reference model said that this host was slower than on its nominal speed; 1.0 when it cannot say."""
    reference_ms = measurement.timing.reference_ms if measurement.timing is not None else None
    if reference_ms is None:
        return 1.0
    nominal_ms, _ = searcher.bench.laboratory.nominal_ms(measurement.deployment.run, searcher.device)
    return 1.0 if nominal_ms is None else reference_ms / nominal_ms


def _samples(bench: Bench, architecture: Architecture, small: Any) -> Any:
    import torch

    from instatune_deploy.artifact.samples import MAX_BYTES, Samples

    row_bytes = sum(values.nbytes for values in bench.example(architecture).values()) // bench.device.batch_size
    # large images: as many as whoever verifies will read, the logits beside them
    count = max(1, min(SAMPLE_ROWS, MAX_BYTES // 2 // row_bytes, bench.task.counts["test"]))
    size, embedding = bench.on(architecture).size, bench.inputs.embedding
    inputs = bench.given.arrays("test", size, range(count))
    # the processor's own values: parity is that of the preprocessing too
    taken = inputs if embedding is None else embedding.pixels(inputs, size)
    with torch.inference_mode():
        logits = small(**{name: torch.from_numpy(values) for name, values in taken.items()}).logits
    return Samples(inputs, logits.float().numpy())


def _shipped_accuracy(bench: Bench, artifact: Draft, deployment: Deployment, split: Split) -> dict[str, float]:
    """Of the finished files, in their runtime and precision, on every row of a split; by their names in `Accuracy`."""
    from instatune_deploy.artifact.graph_files import GRAPH_FILES
    from instatune_deploy.pipeline.evaluate import opened
    from instatune_deploy.tasks.metrics import TOP, accuracy, top_k_accuracy

    with opened(GRAPH_FILES[deployment.runtime].path(artifact.folder), deployment.run) as session:
        logits = bench.logits(deployment.architecture, session, split)
    labels = bench.task.labels[split]
    top5 = {f"top5_{split}": top_k_accuracy(logits, labels, TOP)} if bench.task.has_top5 else {}
    return {split: accuracy(logits, labels), **top5}


def _manifest(
    searcher: Searcher,
    result: SearchResult,
    point: Point,
    artifact: Draft,
    measured: list[Measurement],
    accuracy: dict[str, float],
    parity: Any,
    opened: tuple[str, ...],
) -> Manifest:
    from instatune_deploy.artifact import manifest as manifests
    from instatune_deploy.artifact.graph_files import GRAPH_FILES

    bench, statistic = searcher.bench, searcher.statistic
    device = bench.on(point.architecture)
    settings, shape = bench.inputs.settings, bench.supernet.shape
    baseline = full_point(result, bench)
    promised = result.predicted.get((point.architecture, point.run))
    budget = searcher.budget
    limits_ms = (budget or Budget()).latencies_ms(statistic)
    # a host may be slower for seconds on end without anything to see of it: what is promised is the slowest
    slowest = max(measured, key=lambda item: _took(item, statistic))
    assert slowest.timing is not None
    quality, accuracy_quality = result.latency_quality.get(str(point.run)), result.accuracy_quality
    return manifests.Manifest(
        created=datetime.now(UTC),
        task=settings.task,
        base_model=settings.model.reference,
        base_model_on_hub=is_on_hub(settings.model.reference),
        license=license_of(bench.inputs.model_folder),
        labels=bench.task.label_names,
        device=device.name,
        statistic=statistic,
        budget=budget
        and manifests.Budget(
            text=str(budget),
            statistic=statistic,
            limit_ms=limits_ms.pop(statistic, None),
            size_bytes=budget.size_bytes,
            memory_bytes=budget.memory_bytes,
            macs=budget.macs,
            accuracy=budget.accuracy,
            also_ms=limits_ms,
        ),
        runtime=point.run.runtime,  # type: ignore[arg-type]
        precision=point.run.precision,  # type: ignore[arg-type]
        provider=point.run.provider,  # type: ignore[arg-type]
        threads=point.run.threads,
        batch_size=device.batch_size,
        sequence_length=device.sequence_length,
        input_shapes={name: list(values.shape) for name, values in bench.example(point.architecture).items()},
        input_types={name: str(values.dtype) for name, values in bench.example(point.architecture).items()},  # type: ignore[misc]
        open_axes=list(opened),
        architecture=point.architecture,
        latency_ms=manifests.Latency.of(slowest.timing, statistic),
        circumstances=slowest.circumstances,
        accuracy=manifests.Accuracy(**accuracy, searched=point.accuracy),
        data=manifests.Data(
            reference=settings.data.reference,
            key=bench.task.key,
            rows=dict(bench.task.counts),
        ),
        vocabulary=bench.inputs.vocabulary and manifests.Vocabulary(**asdict(bench.inputs.vocabulary)),
        baseline=manifests.Baseline(
            latency_ms=latency_ms(baseline, statistic),
            accuracy=baseline.accuracy,
            runtime=baseline.run.runtime,  # type: ignore[arg-type]
            precision=baseline.run.precision,  # type: ignore[arg-type]
            image_size=baseline.architecture.image_size,
        ),
        predicted=promised and manifests.Prediction(latency_ms=promised.latency_ms, accuracy=promised.accuracy),
        predictors=manifests.Predictors(
            latency_mape=quality and quality.mape,
            latency_tau=quality and quality.tau,
            accuracy_mae=accuracy_quality and accuracy_quality.mae,
            accuracy_tau=accuracy_quality and accuracy_quality.tau,
        ),
        parity=parity,
        macs=shape.macs_of(point.architecture, device.sequence_length) * device.batch_size,
        parameters=shape.parameters_of(point.architecture),
        size_bytes=GRAPH_FILES[point.run.runtime].size_bytes(artifact.folder),
        memory_bytes=max((item.memory_bytes for item in measured if item.memory_bytes is not None), default=None),
        host=device.host.describe(),
        versions=manifests.installed_versions(),
        seed=searcher.seed,
        timing=device.timing,
        keys={"supernet": bench.supernet.key, "search": searcher.key(), "export": _export_key(searcher, opened)},
    )


def _nothing(folder: Path) -> None:
    pass


def _took(measurement: Measurement, statistic: Statistic) -> float:
    assert measurement.timing is not None
    return measurement.timing.statistic_ms(statistic)


def _export_key(searcher: Searcher, opened: tuple[str, ...]) -> str:
    packages = ["torch", "transformers", "onnx", "onnxscript", *packages_of(searcher.device.runs)]
    return digest([searcher.key(), versions_of(*packages), ARTIFACT_REVISION, *opened])[:16]


def _reusable(searcher: Searcher, target: Path, candidates: list[Point], opened: tuple[str, ...]) -> Exported | None:
    """The artifact that lies there already, when it is one of the best, made from the same things, and no file has changed."""
    if searcher.bench.laboratory.again:
        return None
    from instatune_deploy.artifact.checks import check_files
    from instatune_deploy.artifact.manifest import read_manifest

    try:
        manifest = read_manifest(target)
        chosen = {searcher.bench.on(point.architecture).deployment(point.architecture, point.run) for point in candidates}
        made_alike = manifest.deployment in chosen and manifest.keys.get("export") == _export_key(searcher, opened)
        same = made_alike and all(check.ok for check in check_files(target, manifest))
    except (BadInput, VerificationFailed, OSError):
        return None
    return Exported(target, manifest) if same else None
