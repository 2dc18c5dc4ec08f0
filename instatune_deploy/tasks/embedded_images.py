"""Images for a graph that does the preprocessing itself: whole, in one size, 8 bits a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from instatune_deploy.tasks.image_processing import Preprocessing
from instatune_deploy.tasks.image_processor_config import RESAMPLES

IMAGES = "images"
"""The input's name."""
STEPS = (
    "open the image: upright (EXIF orientation applied), RGB, 8 bits; 16 bits are divided by 257",
    "'resize' it to [height, width] with the filter 'resample', where it has another size",
    "put 'batch_size' images together: the input is uint8 of shape (batch_size, height, width, 3), channels red, green, blue; "
    "all else is in the graph",
    "the output 'logits' is float32 of shape (batch_size, labels); the largest is the answer, their softmax the probabilities",
)


@dataclass(frozen=True)
class EmbeddedImages:
    """processing: what the graph does; source: (height, width) in pixels of the images that it takes."""

    processing: Preprocessing
    source: tuple[int, int]

    def apply(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """The graph's input: ``(height, width, 3)`` of `source`, red, green, blue. An image of another size is resized first."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        height, width = self.source
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling(self.processing.resample))
        return np.asarray(image)

    def described(self, inputs: Sequence[str]) -> dict[str, Any]:
        """As `Task.described`: what is left to do for programs in any language, and ``embedded``, what the graph does."""
        return {
            "kind": "image",
            "steps": STEPS,
            "inputs": list(inputs),
            "resize": list(self.source),
            "resample": RESAMPLES[self.processing.resample],
            "channels": "RGB",
            "layout": "NHWC",
            "embedded": self.processing.to_json(),
        }
