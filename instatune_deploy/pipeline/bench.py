"""The bench of one device: latency and accuracy of deployments, each measured once and kept for ever."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.measure import key_of, measure_graph
from instatune_deploy.devices.profile import Device, Run
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.files import digest
from instatune_deploy.pipeline.inputs import PipelineInputs
from instatune_deploy.pipeline.supernet import Supernet
from instatune_deploy.supernet.architecture import Architecture

HOW = "pytorch-fp32"


@dataclass(frozen=True)
class Point:
    """One measured deployment: what predictors learn from, and what may be chosen.

    accuracy: on the validation rows, 0 to 1
    """

    architecture: Architecture
    run: Run
    measurement: Measurement
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """A JSON value; the measurement itself stays in the store, under its key."""
        return {
            "architecture": self.architecture.to_json(),
            "runtime": self.run.runtime,
            "precision": self.run.precision,
            "measurement": self.measurement.key,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True)
class Bench:
    """Measures what the store does not know yet."""

    inputs: PipelineInputs
    supernet: Supernet
    device: Device
    store: MeasurementStore

    def point(self, architecture: Architecture, run: Run) -> Point | None:
        """Latency and accuracy of a deployment; None when its latency cannot be believed (the store says why)."""
        measurement = self.latency(architecture, run)
        if not measurement.believed:
            return None
        return Point(architecture, run, measurement, self.accuracy(architecture, "validation"))

    def known(self, architecture: Architecture, run: Run) -> bool:
        """Whether `point` would find everything in the store."""
        return self.store.find(self._key(architecture, run)) is not None and self._kept(architecture, "validation") is not None

    def latency(self, architecture: Architecture, run: Run) -> Measurement:
        """Measured on the graph that would ship, carved from the one export of the full network."""
        kept = self.store.find(self._key(architecture, run))
        if kept is not None:
            return kept
        graph = self.graph(architecture, run.runtime).SerializeToString()
        measurement = measure_graph(
            graph,
            self.device.deployment(architecture, run),
            self.device,
            self._graph_hash(architecture, run.runtime),
            len(graph),
            self.example,
        )
        self.store.add(measurement)
        return measurement

    def accuracy(self, architecture: Architecture, split: str) -> float:
        """Share of a split's rows that the sub-network, in PyTorch, classifies right."""
        kept = self._kept(architecture, split)
        if kept is None:
            evaluator = self._evaluators[split]
            kept = evaluator.accuracy(architecture)
            where = {"split": split, "rows": len(evaluator.labels), "how": self._how}
            self.store.add_accuracy(self.supernet.weights, architecture, accuracy=kept, **where)  # type: ignore[arg-type]
        return kept

    def graph(self, architecture: Architecture, runtime: str) -> Any:
        """The ONNX graph of an architecture, as ``runtime`` is given it."""
        from instatune_deploy.graphs.carve import carve

        return carve(self._template(runtime), architecture)

    @cached_property
    def example(self) -> dict[str, np.ndarray]:
        """One batch of real validation rows at the device's shape: (batch_size, sequence_length) int64 each."""
        rows = self.rows("validation", self.device.batch_size)
        # a batch larger than the validation rows repeats them
        again = np.arange(self.device.batch_size) % len(rows["input_ids"])
        return {name: values[again] for name, values in rows.items()}

    def rows(self, split: str, count: int | None = None) -> dict[str, np.ndarray]:
        """The first rows of a split, padded to the device's shape, (count, sequence_length) each; all for None."""
        from instatune_deploy.tasks.text_inputs import pad

        tokens, _ = self.inputs.tokens(split, self.device.sequence_length)
        return pad({name: values[:count] for name, values in tokens.items()}, self.device.sequence_length, self.inputs.tokenizer)

    def _kept(self, architecture: Architecture, split: str) -> float | None:
        rows = len(self.inputs.data.labels[split])  # type: ignore[index]
        return self.store.find_accuracy(self.supernet.weights, architecture, split=split, rows=rows, how=self._how)

    @property
    def _how(self) -> str:
        return f"{HOW}, {self.device.sequence_length} tokens"

    def _key(self, architecture: Architecture, run: Run) -> str:
        return key_of(self.device.deployment(architecture, run), self.device, self._graph_hash(architecture, run.runtime))

    def _graph_hash(self, architecture: Architecture, runtime: str) -> str:
        """Latency does not depend on the values of weights: another training finds these measurements again."""
        return digest([self._structures[runtime], architecture.to_json()])

    @cached_property
    def _structures(self) -> dict[str, str]:
        return {run.runtime: self._template(run.runtime).structure for run in self.device.runs}

    def _template(self, runtime: str) -> Any:
        if runtime not in self._templates:
            self._templates[runtime] = self.supernet.template(runtime, self.example)
        return self._templates[runtime]

    @cached_property
    def _templates(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _evaluators(self) -> dict[str, Any]:
        from instatune_deploy.finetune.evaluate import Evaluator

        return {
            split: Evaluator(
                self.supernet.network, *self.inputs.tokens(split, self.device.sequence_length), self.inputs.tokenizer
            )
            for split in ("validation", "test")
        }
