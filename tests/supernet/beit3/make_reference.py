"""Makes ``reference.safetensors``: what torchscale's BEiT3 computes of random inputs with random weights, once, to compare with.

torchscale (MIT licence, Copyright (c) Microsoft) is wanted for this script alone, in a folder of its own:

    pip install --no-deps --target SOMEWHERE torchscale==0.3.0 fairscale==0.4.0
    PYTHONPATH=SOMEWHERE python tests/supernet/beit3/make_reference.py

In the file are tensors that this script made or torchscale computed, nothing of anybody's trained model.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file

FILE = Path(__file__).with_name("reference.safetensors")
ROWS, TOKENS, PADDED = 2, 6, (0, 2)
"""Of the texts; tokens of padding at the end of each row."""
SIZES = {"img_size": 32, "patch_size": 16, "vocab_size": 50, "max_source_positions": 18}
SIZES |= {"encoder_embed_dim": 32, "encoder_attention_heads": 4, "encoder_ffn_embed_dim": 64, "encoder_layers": 2}


def reference_model(**changes: Any) -> Any:
    """A `torchscale.model.BEiT3`, in evaluation mode, as the official BEiT-3 models are configured."""
    layers = ModuleType("timm.models.layers")
    layers.drop_path = None  # type: ignore[attr-defined]  # all that torchscale takes from timm; only training calls it
    for name in ("timm", "timm.models"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules.setdefault("timm.models.layers", layers)
    from torchscale.architecture.config import EncoderConfig
    from torchscale.model.BEiT3 import BEiT3

    settings = {"multiway": True, "layernorm_embedding": False, "normalize_output": True, "no_output_layer": True}
    return BEiT3(EncoderConfig(**{**SIZES, **settings, **changes})).eval()


@torch.no_grad()
def main() -> None:
    """Write `FILE`."""
    generator = torch.Generator().manual_seed(0)
    model = reference_model()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_norm = ("norm" in name or "_ln." in name) and name.endswith("weight")
        parameter.copy_(1 + 0.2 * noise if is_norm else 0.25 * noise)
    image = torch.randn((ROWS, 3, SIZES["img_size"], SIZES["img_size"]), generator=generator)
    text = torch.randint(0, SIZES["vocab_size"], (ROWS, TOKENS), generator=generator)
    padding = torch.tensor([[position >= TOKENS - count for position in range(TOKENS)] for count in PADDED])
    inputs = {
        "image": {"visual_tokens": image},
        "text": {"textual_tokens": text, "text_padding_position": padding},
        "joint": {"visual_tokens": image, "textual_tokens": text, "text_padding_position": padding},
    }
    tensors = {f"state.{name}": value for name, value in model.state_dict().items()}
    tensors |= {"input.image": image, "input.text": text, "input.padding": padding}
    tensors |= {f"output.{kind}": model(**given)["encoder_out"] for kind, given in inputs.items()}
    facts = {
        "made_by": "tests/supernet/beit3/make_reference.py",
        "computed_with": f"torchscale {version('torchscale')} (MIT licence, Copyright (c) Microsoft), torch {torch.__version__}",
        "weights": "random numbers; of no trained model",
        "licence": "that of instatune-deploy, Apache-2.0",
        "heads": str(SIZES["encoder_attention_heads"]),
    }
    save_file(tensors, FILE, facts)
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
