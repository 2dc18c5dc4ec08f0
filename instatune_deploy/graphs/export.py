"""Export a PyTorch network to ONNX, with static shapes or open ones, every initialiser under its parameter's name."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from instatune_deploy.graphs.edit import drop_unused, rename_tensor
from instatune_deploy.graphs.template import Cut, Remainder, Template
from instatune_deploy.supernet.families.base import Family
from instatune_deploy.supernet.network import SuperNetwork, layers_path

SCOPES = "pkg.torch.onnx.name_scopes"
PREFIX = "network"
ROWS, TOKENS = 2, 3
"""Of an example for open shapes: the exporter takes a size of one for a constant, and one that a buffer has too for that
buffer's."""


def export_model(model: Any, inputs: dict[str, torch.Tensor]) -> onnx.ModelProto:
    """An ordinary Hugging Face model as ONNX: the given inputs (their shapes are fixed) to ``logits``."""
    proto = _export(model, inputs, boundaries=0)
    return _tidy(proto)


def export_template(network: SuperNetwork, inputs: dict[str, torch.Tensor], open_shapes: bool = False) -> Template:
    """Export the full network once; `graphs.carve` makes every architecture's graph from it, without PyTorch.

    inputs:      example inputs, (batch, tokens) int64 each, or (batch, channels, height, width) of images, which may be smaller
                 than the full model's; the graph keeps these shapes
    open_shapes: leave batch and tokens open instead: any batch, as many tokens as the network has positions for; of images
                 the batch alone. To evaluate with; what is timed and handed over has static shapes
    """
    shape, family = network.shape, network.family
    edges = [value.shape[-1] for value in inputs.values() if value.dim() == 4 and shape.image_size is not None]
    model = network.extract(replace(shape.full(), image_size=edges[0] if edges else None))
    boundaries = tuple(f"boundary_{index}" for index in range(shape.layers + 1))
    proto = _export(model, inputs, boundaries=len(boundaries), open_shapes=open_shapes)
    if open_shapes and any(value.dim() > 2 for value in inputs.values()):
        _follow_heads(proto)
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    layers = [f"{layers_path(model, family)}.{layer}." for layer in range(shape.layers)]
    for layer in layers:
        for path in family.linears:
            _free_names(proto, f"{layer}{path}")
    for layer in layers:
        for path in family.linears:
            _name_parameters(proto, f"{layer}{path}", weights)
    cuts = [_cuts(family, layer, set(weights)) for layer in layers]
    remainders = tuple(_remainders(proto, family, layer) for layer in layers)
    return Template(_tidy(proto), shape, boundaries, tuple(cuts), remainders)


class _Logits(nn.Module):
    """The graph's outputs: logits and, for a template, the hidden states between layers."""

    def __init__(self, model: Any, boundaries: int) -> None:
        super().__init__()
        self.network = model
        self.boundaries = boundaries

    def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        output = self.network(**inputs, output_hidden_states=self.boundaries > 0)
        return (output.logits, *(output.hidden_states[: self.boundaries] if self.boundaries else ()))


def _export(model: Any, inputs: dict[str, torch.Tensor], boundaries: int, open_shapes: bool = False) -> onnx.ModelProto:
    model = copy.deepcopy(model).eval()
    # the plain formula: fused attention of PyTorch exports with guards against rows without any token
    model.set_attn_implementation("eager")
    if open_shapes:
        batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
        sizes = {name: {0: batch, 1: tokens} if value.dim() == 2 else {0: batch} for name, value in inputs.items()}
        inputs = {
            name: value.new_ones((ROWS, TOKENS) if value.dim() == 2 else (ROWS, *value.shape[1:]))
            for name, value in inputs.items()
        }
    names = ["logits", *(f"boundary_{index}" for index in range(boundaries))]
    with _quiet():
        program = torch.onnx.export(
            _Logits(model, boundaries),
            (inputs, {}),  # a dictionary that comes last would be taken for keyword arguments
            dynamic_shapes=(sizes,) if open_shapes else None,
            dynamo=True,
            optimize=True,
            verbose=False,
            input_names=list(inputs),
            output_names=names,
        )
    assert program is not None
    proto = program.model_proto
    for initializer in proto.graph.initializer:
        if initializer.name.startswith(f"{PREFIX}."):
            rename_tensor(proto, initializer.name, initializer.name.removeprefix(f"{PREFIX}."))
    return proto


def _follow_heads(proto: onnx.ModelProto) -> None:
    """Where only the batch is open, the exporter leaves it to a Reshape's ``-1``, and the heads are a number there, which no
    carved network has: the batch is the input's own (``0``), and ``-1`` are the heads, or their width."""
    shapes = {item.name: item for item in proto.graph.initializer if item.data_type == onnx.TensorProto.INT64}
    for node in proto.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in shapes:
            continue
        shape = numpy_helper.to_array(shapes[node.input[1]]).tolist()
        if len(shape) < 3 or shape[0] != -1:
            continue
        node.input[1] = f"{node.output[0]}.shape"
        proto.graph.initializer.append(numpy_helper.from_array(np.array([0, shape[1], -1, *shape[3:]]), node.input[1]))
        # 0 is the input's own size only where this is not said
        for attribute in [item for item in node.attribute if item.name == "allowzero"]:
            node.attribute.remove(attribute)


def _free_names(proto: onnx.ModelProto, module: str) -> None:
    """The exporter merges equal initialisers, so one that bears a Linear's name may serve others too."""
    for end in (".weight", ".bias"):
        rename_tensor(proto, f"{module}{end}", f"{module}{end}.merged")


def _name_parameters(proto: onnx.ModelProto, module: str, parameters: dict[str, np.ndarray]) -> None:
    """Give a Linear initialisers of its own, under its parameters' names; the weight lies in the graph as (in, out)."""
    values = {item.name: item for item in proto.graph.initializer}
    for end, operator in ((".weight", "MatMul"), (".bias", "Add")):
        if (expected := parameters.get(f"{module}{end}")) is None:
            continue
        for node in proto.graph.node:
            if node.op_type != operator or _scope(node) != f"{PREFIX}.{module}":
                continue
            place = next((index for index, name in enumerate(node.input) if name in values), None)
            if place is not None and np.array_equal(stored := numpy_helper.to_array(values[node.input[place]]), expected.T):
                node.input[place] = f"{module}{end}"
                proto.graph.initializer.append(numpy_helper.from_array(stored, node.input[place]))
                break
        else:
            raise RuntimeError(f"the exported graph has no {operator} with the {end[1:]} of {module}")


def _scope(node: onnx.NodeProto) -> str:
    """The module a node was traced in, as the exporter recorded it."""
    for item in node.metadata_props:
        if item.key == SCOPES:
            # a list literal such as ['', 'network', 'network.bert', ..., 'linear']: modules, then the operation
            return str(json.loads(item.value.replace("'", '"'))[-2])
    return ""


def _cuts(family: Family, layer: str, parameters: set[str]) -> tuple[Cut, ...]:
    """A Linear's weight lies in the graph as (in, out)."""
    cuts = []
    for outputs, inputs, by in (
        (family.heads_out, family.heads_in, "heads"),
        (family.mlp_out, family.mlp_in, "mlp"),
    ):
        for path in outputs:
            cuts.append(Cut(f"{layer}{path}.weight", 1, by))  # type: ignore[arg-type]
            if f"{layer}{path}.bias" in parameters:
                cuts.append(Cut(f"{layer}{path}.bias", 0, by))  # type: ignore[arg-type]
        cuts += [Cut(f"{layer}{path}.weight", 0, by) for path in inputs]  # type: ignore[arg-type]
    return tuple(cuts)


def _remainders(proto: onnx.ModelProto, family: Family, layer: str) -> tuple[Remainder, ...]:
    """The biases of a layer's output matrices, each with the sum that it is added in."""
    readers = {name: node for node in proto.graph.node if node.op_type == "Add" for name in node.input}
    found = []
    for inputs, by in ((family.heads_in, "heads"), (family.mlp_in, "mlp")):
        for path in inputs:
            bias = f"{layer}{path}.bias"
            found.append(Remainder(readers[bias].output[0], bias, by))  # type: ignore[arg-type]
    return tuple(found)


def _tidy(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what the exporter noted for debugging (stack traces name files of the machine that exported)."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
        value.ClearField("doc_string")
    del proto.metadata_props[:], proto.functions[:], proto.graph.value_info[:], proto.graph.metadata_props[:]
    proto.graph.name = "network"
    proto.producer_name, proto.producer_version, proto.doc_string = "instatune-deploy", "", ""
    drop_unused(proto)
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks of packages we do not use."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
