"""Fuse a template for ONNX Runtime: one Attention node a layer, and the runtime's own transformer fusions.

Done once on the template, so every carved graph is fused already.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from instatune_deploy.graphs.edit import drop_unused
from instatune_deploy.graphs.template import Cut, Template
from instatune_deploy.supernet.families.base import Family

DOMAIN = "com.microsoft"
MASK = "attention_mask"


def fuse_template(template: Template, family: Family) -> Template:
    """The same network with ONNX Runtime's fused operators. The template it is made from stays as it is.

    Every attention layer is fused by construction: between the projections and the output matrix of a layer stands
    scaled dot-product attention and nothing else, which the family's paths name. Raises RuntimeError when a layer has not
    one Attention and, after it and after its MLP, one residual sum with its LayerNormalization each.
    """
    model = onnx.ModelProto()
    model.CopyFrom(template.model)
    cuts, names = [], []
    mask = _add_mask(model)
    for layer in range(template.shape.layers):
        names.append(_fuse_attention(model, template, family, layer, mask))
        cuts.append(_packed_cuts(template.cuts[layer], family, names[-1]))
    if not any(item.domain == DOMAIN for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    drop_unused(model)
    return replace(template, graph=_fuse_norms(model, template), cuts=tuple(cuts), attention=tuple(names))


def _add_mask(model: onnx.ModelProto) -> str:
    """The operator takes the mask as it comes, (batch, tokens), in 32 bits; empty where the network has none."""
    if MASK not in {item.name for item in model.graph.input}:
        return ""
    cast = helper.make_node("Cast", [MASK], ["attention_mask_int32"], to=onnx.TensorProto.INT32)
    model.graph.node.insert(0, cast)
    return "attention_mask_int32"


def _fuse_attention(model: onnx.ModelProto, template: Template, family: Family, layer: int, mask: str) -> str:
    """Put one Attention node in place of everything from the query, key and value projections to the output matrix."""
    graph = model.graph
    values = {item.name: item for item in graph.initializer}
    weights = [_named(template.cuts[layer], path, ".weight") for path in family.heads_out]
    biases = [_named(template.cuts[layer], path, ".bias") for path in family.heads_out]
    output_weight = _named(template.cuts[layer], family.heads_in[0], ".weight")
    query = next(node for node in graph.node if weights[0] in node.input)
    output_matrix = next(node for node in graph.node if output_weight in node.input)
    name = f"attention_{layer}"
    packed = {
        f"{name}.weight": np.concatenate([numpy_helper.to_array(values[item]) for item in weights], axis=1),
        f"{name}.bias": np.concatenate([numpy_helper.to_array(values[item]) for item in biases]),
    }
    graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in packed.items())
    inner = template.shape.heads * template.shape.head_size
    node = helper.make_node(
        "Attention",
        [query.input[0], *packed, *([mask] if mask else [])],
        [f"{name}.output"],
        name=name,
        domain=DOMAIN,
        num_heads=template.shape.heads,
        qkv_hidden_sizes=[inner] * 3,
    )
    output_matrix.input[0] = f"{name}.output"
    graph.node.insert(list(graph.node).index(query), node)
    return name


def _packed_cuts(cuts: tuple[Cut, ...], family: Family, name: str) -> tuple[Cut, ...]:
    projections = {_named(cuts, path, end) for path in family.heads_out for end in (".weight", ".bias")}
    rest = tuple(cut for cut in cuts if cut.initializer not in projections)
    return (Cut(f"{name}.weight", 1, "heads", groups=3), Cut(f"{name}.bias", 0, "heads", groups=3), *rest)


def _named(cuts: tuple[Cut, ...], path: str, end: str) -> str:
    return next(cut.initializer for cut in cuts if cut.initializer.endswith(f".{path}{end}"))


def _fuse_norms(model: onnx.ModelProto, template: Template) -> onnx.ModelProto:
    """ONNX Runtime's own fusions of LayerNorm and of biases with GELU.

    Not that of residual sums with LayerNorm: on the CPU its SkipLayerNormalization makes MiniLM 12% to 18% slower than the
    two operators one after the other (onnxruntime 1.32). The runtime would fuse them when it loads the graph, too; it looks
    for Add, so the residual sums are written as Sum, which computes the same.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_by_fusion

    options = FusionOptions("bert")
    options.enable_attention = False  # done above, for any number of heads
    options.enable_embed_layer_norm = False
    options.enable_skip_layer_norm = False
    options.enable_bias_skip_layer_norm = False
    logging.disable(logging.WARNING)
    try:
        fused = optimize_by_fusion(
            model, "bert", num_heads=template.shape.heads, hidden_size=template.shape.hidden_size, optimization_options=options
        )
    finally:
        logging.disable(logging.NOTSET)
    result: onnx.ModelProto = fused.model
    names = {item.name for item in result.graph.output}
    if not set(template.boundaries) <= names:
        raise RuntimeError("the runtime's fusions lost a boundary between layers")
    counts = Counter(node.op_type for node in result.graph.node)
    counts["normalised Sum"] = _write_residuals_as_sums(result)
    for what, wanted in (("Attention", template.shape.layers), ("normalised Sum", 2 * template.shape.layers)):
        if counts[what] < wanted:
            raise RuntimeError(f"the fused graph has {counts[what]} {what} nodes where {wanted} were expected")
    return result


def _write_residuals_as_sums(model: onnx.ModelProto) -> int:
    """Every Add whose sum goes to a LayerNormalization; how many there are (the embeddings may have one too)."""
    normalised = {node.input[0] for node in model.graph.node if node.op_type == "LayerNormalization"}
    residuals = [node for node in model.graph.node if node.op_type == "Add" and node.output[0] in normalised]
    for node in residuals:
        node.op_type = "Sum"
    return len(residuals)
