"""Accuracy of sub-networks on held-out rows, in PyTorch, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np
import torch

from instatune_deploy.finetune.precision import own_precision
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.tasks.metrics import accuracy

BATCH_SIZE = 16
"""The fastest of 8 to 128 on a CPU: the less is padded, the better."""

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """What a function gives for each architecture of a network, computed once as long as the weights are the same."""

    def __init__(self, network: SuperNetwork, compute: Callable[[Architecture], Value]) -> None:
        self.network = network
        self.compute = compute
        self._known: dict[Architecture, Value] = {}
        self._weights: list[tuple[int, int, float]] = []

    def __call__(self, architecture: Architecture) -> Value:
        """Computed now, or before."""
        # fused optimizers change weights without counting versions up; permutations leave the norm as it is, and are counted
        with torch.no_grad():
            weights = [
                (parameter.data_ptr(), parameter._version, float(torch.linalg.vector_norm(parameter)))
                for parameter in self.network.parameters()
            ]
        if weights != self._weights:
            self.forget()
            self._weights = weights
        if architecture not in self._known:
            self._known[architecture] = self.compute(architecture)
        return self._known[architecture]

    def forget(self) -> None:
        """Needed only after weights were permuted where autograd does not see it, through ``.data``."""
        self._known.clear()


@contextmanager
def evaluating(network: SuperNetwork, architecture: Architecture) -> Iterator[None]:
    """Inside, ``network`` runs one sub-network for its outputs alone: no gradients, no dropout, in its weights' precision."""
    training = network.model.training
    network.eval()
    try:
        with torch.inference_mode(), own_precision(network.model), network.active(architecture):
            yield
    finally:
        network.train(training)


class Evaluator:
    """Accuracy of any sub-network on the same rows, which are made ready once.

    The sub-network is run in place, in float32. What was computed is remembered as long as the weights are the same.
    """

    def __init__(
        self, network: SuperNetwork, batches: Iterable[tuple[np.ndarray, Mapping[str, np.ndarray]]], labels: np.ndarray
    ) -> None:
        """batches: row numbers and inputs, as `Task.batches` gives them, in batches of `BATCH_SIZE` best; labels: (rows,)."""
        self.network = network
        self.labels = labels
        self.batches = [
            (indices, {name: torch.from_numpy(array) for name, array in arrays.items()}) for indices, arrays in batches
        ]
        self._logits = Remembered(network, lambda architecture: self._compute(architecture))

    def evaluate(self, architectures: Iterable[Architecture]) -> dict[Architecture, float]:
        """Accuracy of each; one pass over the rows for each that is new."""
        return {architecture: self.accuracy(architecture) for architecture in architectures}

    def accuracy(self, architecture: Architecture) -> float:
        """Share of the rows that are classified right."""
        return accuracy(self.logits(architecture), self.labels)

    def logits(self, architecture: Architecture) -> np.ndarray:
        """(rows, classes) float32, in the order of the rows; not to be changed."""
        return self._logits(architecture)

    def forget(self) -> None:
        """As `Remembered.forget`."""
        self._logits.forget()

    def _compute(self, architecture: Architecture) -> np.ndarray:
        device = next(self.network.parameters()).device
        result = np.empty((len(self.labels), self.network.config.num_labels), dtype=np.float32)
        with evaluating(self.network, architecture):
            for indices, inputs in self.batches:
                on_device = {name: value.to(device) for name, value in inputs.items()}
                result[indices] = self.network(**on_device).logits.float().cpu().numpy()
        result.flags.writeable = False
        return result
