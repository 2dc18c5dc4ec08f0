"""ONNX graphs with fixed shapes of every kind of input; ONNX Runtime computes what PyTorch does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from instatune_deploy.graphs.export import export_model
from instatune_deploy.supernet.beit3.heads import (
    Beit3ForImageClassification,
    Beit3ForVisualQuestionAnswering,
    Beit3ForVisualReasoning,
)
from instatune_deploy.supernet.beit3.model import Beit3Model

from .tiny import images, make_model, texts

TEXT = {"input_ids": texts(2, 4), "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])}


class TextModel(Beit3Model):
    """What is known of the first word, as the logits of a text alone."""

    def forward(self, **inputs: Any) -> Any:
        output = super().forward(**inputs)
        output.logits = output.last_hidden_state[:, 0]
        return output


CASES: dict[str, tuple[Any, dict[str, torch.Tensor]]] = {
    "image": (Beit3ForImageClassification, {"pixel_values": images(2)}),
    "text": (TextModel, TEXT),
    "joint": (Beit3ForVisualQuestionAnswering, {"pixel_values": images(2), **TEXT}),
    "two images": (Beit3ForVisualReasoning, {"pixel_values": images(2, 2), **TEXT}),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_graph_computes_the_same(case: str) -> None:
    kind, inputs = CASES[case]
    model = make_model(kind)
    proto = export_model(model, inputs)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    assert {item.name: item.shape for item in session.get_inputs()} == {name: list(value.shape) for name, value in inputs.items()}
    (found,) = session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})
    assert np.abs(found - model(**inputs).logits.numpy()).max() < 1e-4
    assert model.config._attn_implementation == "sdpa"


@torch.no_grad()
def test_ways_part_and_join_once_a_layer() -> None:
    """Beside the heads of the attention, which a graph joins for queries, keys and values and parts again."""
    kind, inputs = CASES["joint"]
    model = make_model(kind)
    joins = [node for node in export_model(model, inputs).graph.node if node.op_type == "Concat"]
    layers = model.config.num_hidden_layers
    assert len(joins) <= 4 * layers + 3  # class token, image and text, their masks
    assert isinstance(model.beit3.layers, nn.ModuleList)
