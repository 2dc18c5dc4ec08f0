"""Accuracy of sub-networks on held-out rows, in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.tasks.text_classification import accuracy
from instatune_deploy.tasks.text_inputs import length_batches, pad

BATCH_SIZE = 64


class Evaluator:
    """Accuracy of any sub-network on the same rows, which are tokenised and padded once.

    Rows are batched by length, so little is computed for padding; the sub-network is run in place, in float32.
    """

    def __init__(
        self, network: SuperNetwork, rows: Mapping[str, Sequence[Sequence[int]]], labels: np.ndarray, tokenizer: Any
    ) -> None:
        """rows: what `tasks.text_inputs.tokenize` gives; labels: (rows,)."""
        self.network = network
        self.labels = labels
        lengths = [len(ids) for ids in rows["input_ids"]]
        self.batches = []
        for indices in length_batches(lengths, BATCH_SIZE):
            part = {name: [values[index] for index in indices] for name, values in rows.items()}
            arrays = pad(part, max(lengths[index] for index in indices), tokenizer)
            self.batches.append((indices, {name: torch.from_numpy(array) for name, array in arrays.items()}))

    def logits(self, architecture: Architecture) -> np.ndarray:
        """(rows, classes) float32, in the order of the rows."""
        device = next(self.network.parameters()).device
        result = np.empty((len(self.labels), self.network.config.num_labels), dtype=np.float32)
        self.network.eval()
        with torch.inference_mode(), self.network.active(architecture):
            for indices, inputs in self.batches:
                on_device = {name: value.to(device) for name, value in inputs.items()}
                result[indices] = self.network(**on_device).logits.float().cpu().numpy()
        return result

    def accuracy(self, architecture: Architecture) -> float:
        """Share of the rows that are classified right."""
        return accuracy(self.logits(architecture), self.labels)
