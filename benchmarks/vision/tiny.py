"""A tiny ViT with random weights and a hundred small pictures, light or dark: what smoke runs are made of."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from benchmarks.vision.base_size import clip_vit_b16
from instatune_deploy.files import write_bytes

COUNTS = {"train": 96, "t10k": 24}
PIXELS = 16
GREY = (60, 190)
"""Around which the pixels of the two labels lie."""


def tiny_images(folder: Path) -> tuple[Path, Path]:
    """Model and data below ``folder``, made when they are not there: 4 layers at 32 px; grey pictures of 16 px as IDX files."""
    model, data = folder / "tiny-vit", folder / "tiny-pictures"
    if not model.is_dir():
        clip_vit_b16(model, tiny=True)
    if not data.is_dir():
        rng = np.random.default_rng(0)
        for split, count in COUNTS.items():
            labels = (np.arange(count) % len(GREY)).astype(np.uint8)
            noise = rng.normal(np.array(GREY)[labels][:, None, None], 40, (count, PIXELS, PIXELS))
            write_idx(data / f"{split}-labels-idx1-ubyte", labels)
            write_idx(data / f"{split}-images-idx3-ubyte", np.clip(noise, 0, 255).astype(np.uint8))
    return model, data


def write_idx(path: Path, values: np.ndarray) -> None:
    """uint8 of any shape, as MNIST's files have them."""
    write_bytes(path, struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes())
