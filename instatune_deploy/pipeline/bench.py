"""The bench of one device: latency and accuracy of deployments, each measured once and kept for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.measure import Laboratory, key_of, measure_graph
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.modules import version_for
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput, clear_os_errors
from instatune_deploy.pipeline.evaluate import CannotEvaluate, Rows, in_batches, of_one_size
from instatune_deploy.pipeline.inputs import PipelineInputs
from instatune_deploy.pipeline.supernet import Supernet, narrow_weights
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.tasks.base import Arrays, Task
from instatune_deploy.tasks.tables import SPLITS, Split

if TYPE_CHECKING:
    import onnx

    from instatune_deploy.devices.runtimes.base import Session
    from instatune_deploy.graphs.carved import Carved
    from instatune_deploy.graphs.template import Template
    from instatune_deploy.graphs.variants import Variant

CALIBRATION_ROWS = 128
EVALUATION_BATCH = 16


@dataclass(frozen=True)
class Point:
    """One measured deployment: what predictors learn from, and what may be chosen.

    accuracy: on the validation rows, 0 to 1, of the graph that ran, in its runtime and precision
    macs:     multiply-accumulates of one input
    """

    architecture: Architecture
    run: Run
    measurement: Measurement
    accuracy: float
    macs: int

    def to_json(self) -> dict[str, Any]:
        """A JSON value; the measurement itself stays in the store, under its key."""
        return {
            "architecture": self.architecture.to_json(),
            "run": list(self.run),
            "measurement": self.measurement.key,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True)
class Bench:
    """Measures what the store does not know yet; everything once more where the laboratory says so.

    told: figures that every measurement must have, of those that not every store has: ``memory_bytes``, ``energy_mj``
    """

    inputs: PipelineInputs
    supernet: Supernet
    device: Device
    laboratory: Laboratory
    told: tuple[str, ...] = ()
    _templates: dict[tuple[Variant, int, bool], Template] = field(default_factory=dict)
    _examples: dict[int, Arrays] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What the network has learned."""
        return self.inputs.task

    @property
    def given(self) -> Rows:
        """Rows as the graphs take them that are measured and handed over."""
        return self.inputs.embedding or self.task

    @property
    def architectures(self) -> SearchSpace:
        """The super-network's space, with those MLP widths only that the device computes well, and its own size of images."""
        settings = self.device.settings
        edge = None if settings.image_size is None else self.device.image_size
        return self.supernet.space.restricted(settings.width_multiple, edge)

    def on(self, architecture: Architecture) -> Device:
        """The device with inputs of the size that an architecture takes."""
        edge = architecture.image_size
        return self.device if edge is None else self.inputs.sized(self.device, edge)

    @property
    def store(self) -> MeasurementStore:
        """Where everything is kept."""
        return self.laboratory.store

    def point(self, architecture: Architecture, run: Run) -> Point | None:
        """Latency and accuracy of a deployment; None when its latency cannot be believed (the store says why)."""
        measurement = self.latency(architecture, run)
        if not measurement.believed or self.lacks(measurement):
            return None
        try:
            return Point(architecture, run, measurement, self.accuracy(architecture, run, "validation"), self.macs(architecture))
        except (CannotEvaluate, BadInput) as error:
            self.store.add(replace(measurement, why=error.message))
            return None

    def macs(self, architecture: Architecture) -> int:
        """Multiply-accumulates of one input."""
        return self.supernet.shape.macs_of(architecture, self.device.sequence_length)

    def known(self, architecture: Architecture, run: Run) -> bool:
        """Whether `point` would find everything in the store."""
        return self._found(architecture, run) is not None and self._kept(architecture, run, "validation") is not None

    def latency(self, architecture: Architecture, run: Run) -> Measurement:
        """Measured on the graph that would ship, carved from the one export of the full network."""
        kept = self._found(architecture, run)
        if kept is not None:
            return kept
        carved = self.graph(architecture, run)
        with clear_os_errors(f"cannot write a graph to measure below {self.laboratory.scratch or 'the temporary folder'}"):
            # a folder for every template: the weights its graphs share are linked there once
            folder = self.laboratory.process(run).scratch / self._template(self._variant(run), architecture).structure
            folder.mkdir(exist_ok=True)
            carved.put(folder / "graph.onnx")
        measurement = measure_graph(
            folder / "graph.onnx",
            self.on(architecture).deployment(architecture, run),
            self.device,
            self.graph_hash(architecture, run),
            self._shipped_bytes(carved, run),
            self.example(architecture),
            self.laboratory,
        )
        # what lacks a figure that is wanted now was measured before there was such a figure
        again = self.laboratory.again or self.lacks(self.store.find(measurement.key))
        self.store.add(measurement, again=again)
        if measurement.believed:
            self.laboratory.measured_again.add(measurement.key)
        return measurement

    def accuracy(self, architecture: Architecture, run: Run, split: Split) -> float:
        """Share of a split's rows that the sub-network's graph, in the run's runtime and precision, classifies right."""
        kept = self._kept(architecture, run, split)
        if kept is None:
            kept = self._evaluate(architecture, run, split)
            where = {"split": split, "rows": self.task.counts[split], "how": self._how(architecture, run, split)}
            self.store.add_accuracy(self.supernet.weights, architecture, accuracy=kept, **where)  # type: ignore[arg-type]
        return kept

    def graph(self, architecture: Architecture, run: Run) -> Carved:
        """The graph of an architecture, as ``run``'s runtime is given it."""
        carved = self._carved(self._template(self._variant(run), architecture), architecture, run)
        embedding = self.inputs.embedding
        if embedding is None:
            return carved
        # the weights stay where they are
        return replace(carved, graph=embedding.graph(carved.graph, self.on(architecture).size))

    def finished_graph(self, architecture: Architecture, run: Run, opened: tuple[str, ...] = ()) -> onnx.ModelProto:
        """The same to be handed over: one that is quantised is calibrated afresh, for this architecture alone.

        opened: of batch and tokens what may be of any size (`graphs.shapes.AXES`); only where nothing is quantised
        """
        from instatune_deploy.graphs.carve import carve
        from instatune_deploy.graphs.quantise import quantise_model
        from instatune_deploy.graphs.shapes import with_open

        variant, device, embedding = self._variant(run), self.on(architecture), self.inputs.embedding
        if opened:
            model = self._carved(self._template(variant, architecture, open_shapes=True), architecture, run).model()
            model = with_open(model, opened, {"batch": device.batch_size, "tokens": device.sequence_length})
        elif variant.quantised is None or variant.before is None:
            return self.graph(architecture, run).model()
        else:
            model = carve(self._template(variant.before, architecture), architecture)
            model = quantise_model(model, *variant.quantised, self._calibration(architecture), narrow_weights(device.host))
        return model if embedding is None else embedding.graph(model, device.size)

    def graph_hash(self, architecture: Architecture, run: Run) -> str:
        """Latency does not depend on the values of weights: another training finds these measurements again."""
        structure = self._template(self._variant(run), architecture).structure
        embedding = self.inputs.embedding
        embedded = [] if embedding is None else [embedding.key(self.on(architecture).size)]
        return digest([structure, architecture.to_json(), *(["fp16"] if _halved(run) else []), *embedded])

    def example(self, architecture: Architecture) -> Arrays:
        """One batch of real validation rows as the graph takes them, (batch_size, ...) each; made once."""
        size = self.on(architecture).size
        if size not in self._examples:
            self._examples[size] = self._batch(self.given, size)
        return self._examples[size]

    def _batch(self, given: Rows, size: int) -> Arrays:
        # a batch larger than the validation rows repeats them
        again = np.arange(self.device.batch_size) % given.counts["validation"]
        return given.arrays("validation", size, again.tolist())

    def rows(self, architecture: Architecture, split: Split, count: int | None = None) -> Arrays:
        """The first rows of a split as the network takes them at the device's shape, (count, ...) each; all for None."""
        most = self.task.counts[split]
        return self.task.arrays(split, self.on(architecture).size, range(most if count is None else min(count, most)))

    def logits(self, architecture: Architecture, session: Session, split: Split) -> np.ndarray:
        """(rows, classes) float32 of a finished graph of the device's shape."""
        return in_batches(session, of_one_size(self.given, split, self.on(architecture).size, self.device.batch_size))

    def _found(self, architecture: Architecture, run: Run) -> Measurement | None:
        """What the store knows, on the host's nominal speed of today."""
        deployment = self.on(architecture).deployment(architecture, run)
        key = key_of(deployment, self.device, self.graph_hash(architecture, run))
        if self.laboratory.again and key not in self.laboratory.measured_again:
            return None
        kept = self.store.find(key)
        if self.lacks(kept):
            return None
        return None if kept is None else self.laboratory.on_nominal(kept, self.device)

    @staticmethod
    def _shipped_bytes(carved: Carved, run: Run) -> int:
        """What the files will take; nearly all of a graph is weights."""
        from instatune_deploy.artifact.graph_files import halved

        return carved.size_bytes // 2 if halved(run.runtime, run.precision) else carved.size_bytes

    def lacks(self, measurement: Measurement | None) -> bool:
        """Whether it was measured without one of the figures that every measurement must have."""
        return measurement is not None and any(getattr(measurement, name) is None for name in self.told)

    def _kept(self, architecture: Architecture, run: Run, split: Split) -> float | None:
        return self.store.find_accuracy(
            self.supernet.weights,
            architecture,
            split=split,
            rows=self.task.counts[split],
            how=self._how(architecture, run, split),
        )

    @cached_property
    def _rows_keys(self) -> dict[Split, str]:
        """Of rows and labels: a label that was mended makes another accuracy."""
        return {split: self.task.rows_key(split)[:8] for split in SPLITS[1:]}

    def _how(self, architecture: Architecture, run: Run, split: Split) -> str:
        """What computed an accuracy; threads make no difference to it."""
        how = [f"{run.runtime} {version_for(run)} {run.provider} {run.precision}", self.on(architecture).size_text]
        how.append(f"rows {self._rows_keys[split]}")
        if self.inputs.embedding is not None:
            how.append(f"images {'x'.join(map(str, self.inputs.embedding.source))}")
        if self._variant(run).quantised is not None:
            how += [f"nncf {version('nncf')}", "narrow" if narrow_weights(self.device.host) else "wide"]
        if run.precision == "int8-dynamic":  # activations are quantised over the whole batch
            how.append(f"batch {self.device.batch_size}")
        return ", ".join(how)

    def _evaluate(self, architecture: Architecture, run: Run, split: Split) -> float:
        from instatune_deploy.pipeline.evaluate import opened
        from instatune_deploy.tasks.metrics import accuracy

        variant = self._variant(run)
        # quantised graphs have the shapes they were calibrated at; the others are as accurate with less padding, and quicker
        open_shapes = variant.quantised is None and run.provider == "cpu"
        template = self._template(variant, architecture, open_shapes)
        graph = self._carved(template, architecture, run).model().SerializeToString()
        # the more the quicker, where the runtime takes any number
        threads = self.device.host.cores if run.runtime == "onnxruntime" else run.threads
        embedding, size = self.inputs.embedding, self.on(architecture).size
        if open_shapes and embedding is None:
            batches = self.task.batches(split, size, EVALUATION_BATCH)
        else:
            # embedded: of images as they come before the graph, which need not be those of the data
            given: Rows = self.task if embedding is None else embedding.as_pixels
            batches = of_one_size(given, split, size, EVALUATION_BATCH if open_shapes else self.device.batch_size)
        with opened(graph, run._replace(threads=threads)) as session:
            return accuracy(in_batches(session, batches), self.task.labels[split])

    @staticmethod
    def _carved(template: Template, architecture: Architecture, run: Run) -> Carved:
        from instatune_deploy.graphs.carve import carve_shared
        from instatune_deploy.graphs.carved import Carved
        from instatune_deploy.graphs.half import half_precision

        carved = carve_shared(template, architecture)
        return Carved.of(half_precision(carved.model())) if _halved(run) else carved

    @staticmethod
    def _variant(run: Run) -> Variant:
        from instatune_deploy.graphs.variants import variant_of

        return variant_of(run.runtime, run.precision, run.provider)

    def _template(self, variant: Variant, architecture: Architecture, open_shapes: bool = False) -> Template:
        """The one for inputs of the size that an architecture takes."""
        key = variant, self.on(architecture).size, open_shapes
        if key not in self._templates:
            narrow = narrow_weights(self.device.host)
            example = self._batch(self.task, self.on(architecture).size)
            made = self.supernet.template(variant, example, lambda: self._calibration(architecture), open_shapes, narrow)
            self._templates[key] = made
        return self._templates[key]

    def _calibration(self, architecture: Architecture) -> list[Mapping[str, np.ndarray]]:
        """Real training rows at the device's shape."""
        batch = self.device.batch_size
        rows = self.rows(architecture, "train", CALIBRATION_ROWS)
        count = len(next(iter(rows.values())))
        # batches of the graph's own size; the last one is filled up from the start
        starts = range(0, count, batch)
        return [{name: values[np.arange(start, start + batch) % count] for name, values in rows.items()} for start in starts]


def _halved(run: Run) -> bool:
    """ONNX Runtime computes in what the graph says; OpenVINO is told."""
    return (run.runtime, run.precision) == ("onnxruntime", "fp16")
