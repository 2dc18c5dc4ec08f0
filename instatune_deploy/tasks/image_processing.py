"""From an image to what an image model takes in: size, crop and scale of the checkpoint, with Pillow and NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from instatune_deploy.files import write_json
from instatune_deploy.tasks.image_processor_config import FILE_NAME, RESAMPLES, Steps, read_steps

HALF = (0.5, 0.5, 0.5)
BILINEAR = 2


@dataclass(frozen=True)
class Preprocessing:
    """The steps in their order; all images come out in one size.

    resize: the shorter edge, or (height, width), in pixels; None leaves the image as it is
    resample: Pillow's number of the filter
    crop: (height, width) in pixels of the middle; what is smaller gets a black border
    rescale: factor of the values 0 .. 255; mean, std: per channel (red, green, blue) of what comes of that
    """

    resize: int | tuple[int, int] | None
    resample: int
    crop: tuple[int, int] | None
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.crop is None and not isinstance(self.resize, tuple):
            raise ValueError("images would come out in different sizes: neither a crop nor a height and width")

    @classmethod
    def of(cls, folder: Path, image_size: int | None, fallback_size: int) -> Preprocessing:
        """That of a checkpoint's preprocessor_config.json; of one without, the usual one of ViT at ``fallback_size``.

        image_size: the edge in pixels that images are to have instead. ``BadInput`` names the key that is not understood.
        """
        path = folder / FILE_NAME
        usual = Steps((fallback_size, fallback_size), BILINEAR, None, 1 / 255, HALF, HALF)
        made = cls(*(read_steps(path) if path.is_file() else usual))
        return made if image_size is None else made.scaled(image_size)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of what comes out."""
        if self.crop is not None:
            return self.crop
        assert isinstance(self.resize, tuple)
        return self.resize

    def scaled(self, image_size: int) -> Preprocessing:
        """The same with square images of that edge in pixels as output: they show as much of the picture as before."""
        square = (image_size, image_size)
        if self.crop is None:
            return replace(self, resize=square)
        resize = self.resize
        if isinstance(resize, int):
            resize = round(resize * image_size / min(self.crop))
        elif resize is not None:
            resize = (round(resize[0] * image_size / self.crop[0]), round(resize[1] * image_size / self.crop[1]))
        return replace(self, resize=resize, crop=square)

    def apply(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """The model's input: ``(3, height, width)`` of `size`, channels red, green, blue."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        if self.resize is not None:
            height, width = self.resized(image.height, image.width)
            image = image.resize((width, height), Image.Resampling(self.resample))
        if self.crop is not None:
            height, width = self.crop
            top, left = (image.height - height) // 2, (image.width - width) // 2
            image = image.crop((left, top, left + width, top + height))
        values = np.asarray(image, dtype=np.float32) * np.float32(self.rescale)
        values -= np.asarray(self.mean, dtype=np.float32)
        values /= np.asarray(self.std, dtype=np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that `resize` makes of an image."""
        if isinstance(self.resize, tuple):
            return self.resize
        assert self.resize is not None
        longer = int(self.resize * max(height, width) / min(height, width))
        return (self.resize, longer) if height <= width else (longer, self.resize)

    def batch(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """The model's input of several images: ``(images, 3, height, width)``."""
        made = np.empty((len(images), 3, *self.size), dtype=np.float32)
        for index, image in enumerate(images):
            made[index] = self.apply(image)
        return made

    def to_json(self) -> dict[str, Any]:
        """The steps as a JSON value, for programs that know nothing of transformers."""
        return {
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "resample": RESAMPLES[self.resample],
            "crop": None if self.crop is None else list(self.crop),
            "rescale": self.rescale,
            "mean": list(self.mean),
            "std": list(self.std),
            "channels": "RGB",
            "layout": "NCHW",
        }

    def to_config(self, image_size: int | None = None) -> dict[str, Any]:
        """A preprocessor_config.json with which transformers does the same. image_size: as in `scaled`"""
        if image_size is not None:
            return self.scaled(image_size).to_config()
        config: dict[str, Any] = {
            # BiT's has nothing of its own: it is the one that all versions of transformers crop with
            "image_processor_type": "ViTImageProcessor" if self.crop is None else "BitImageProcessor",
            "do_convert_rgb": True,
            "do_resize": self.resize is not None,
        }
        if self.resize is not None:
            config["size"] = {"shortest_edge": self.resize} if isinstance(self.resize, int) else _sides(self.resize)
            config["resample"] = self.resample
        if self.crop is not None:
            config |= {"do_center_crop": True, "crop_size": _sides(self.crop)}
        return config | {
            "do_rescale": True,
            "rescale_factor": self.rescale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    def save(self, folder: Path) -> None:
        """Write `to_config` beside a checkpoint."""
        write_json(folder / FILE_NAME, self.to_config())


def _sides(size: tuple[int, int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}
