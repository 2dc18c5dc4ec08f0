"""Preprocessing in the graph (`--embed-preprocessing`): the images that it takes in, and what becomes of graphs and rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.base import Arrays, Task
from instatune_deploy.tasks.embedded_images import IMAGES, EmbeddedImages
from instatune_deploy.tasks.image_task import INPUT, ImageTask, KeptPixels
from instatune_deploy.tasks.images import open_image
from instatune_deploy.tasks.tables import Split

if TYPE_CHECKING:
    import onnx

OPTION = "--embed-preprocessing"
OF_DATA = "data"
"""The one size that all validation images have."""
MOST_PIXELS = 8192
"""Of an edge: matrices have so many rows."""
REVISION = 1
"""Raised when a graph does it in another way, as fast or not."""
Source = tuple[int, int]
"""(height, width) in pixels."""


def parse_source(text: str) -> Source | None:
    """What follows the option: ``480x640`` (height and width), or `OF_DATA`, which is None. ``BadInput`` for anything else."""
    if text == OF_DATA:
        return None
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    source = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= min(source) <= max(source) <= MOST_PIXELS:
        raise BadInput(f"{OPTION} {text}: expected height and width in pixels, 1 to {MOST_PIXELS}, as 480x640")
    return source


@dataclass(frozen=True, eq=False)
class Embedding:
    """source: (height, width) in pixels of the images that graphs take in."""

    task: ImageTask
    source: Source

    @classmethod
    def of(cls, asked: Source | None, task: Task) -> Embedding:
        """For images of the size asked for; of None, for that of the validation images.

        ``BadInput`` for a task without images, or where these have several sizes.
        """
        if not isinstance(task, ImageTask):
            raise BadInput(f"{OPTION} is for image-classification; of texts nothing can be done in the graph")
        return cls(task, _one_size(task) if asked is None else asked)

    def key(self, size: int) -> list[Any]:
        """What makes the graph of a network for images of ``size`` pixels' edge another one: Pillow's version among it, which is
        asked what it does."""
        return [REVISION, PIL.__version__, self.source, self._images(size).processing.to_json()]

    def graph(self, model: onnx.ModelProto, size: int) -> onnx.ModelProto:
        """The graph of such a network with its preprocessing before it; ``model`` stays as it is."""
        from instatune_deploy.graphs.embed import embedded

        return embedded(model, self._images(size).processing, self.source)

    @property
    def counts(self) -> dict[Split, int]:
        """See `Task`."""
        return self.task.counts

    def arrays(self, split: Split, size: int, rows: Sequence[int] | None = None) -> Arrays:
        """As `Task.arrays`: (rows, height, width, 3) uint8 of the source's size, whatever size the network has."""
        images, whole = self.task.data.images[split], self._images(size)
        indices = range(self.counts[split]) if rows is None else rows
        return {IMAGES: np.stack([whole.apply(open_image(images[index])) for index in indices])}

    def pixels(self, arrays: Arrays, size: int) -> Arrays:
        """What the processor makes of such rows: what the network itself takes in."""
        pictures = [Image.fromarray(image) for image in arrays[IMAGES]]
        return {INPUT: self._images(size).processing.batch(pictures)}

    @cached_property
    def as_pixels(self) -> AsPixels:
        """The same rows as the network itself takes them in: what its accuracy is the accuracy on."""
        return AsPixels(self)

    def other_sizes(self) -> int:
        """How many of the validation images are not of the source's size, and are resized to it before the graph."""
        images = (open_image(item) for item in self.task.data.images["validation"])
        return sum((image.height, image.width) != self.source for image in images)

    def described(self, size: int) -> dict[str, Any]:
        """As `Task.described`."""
        return self._images(size).described([IMAGES])

    def _images(self, size: int) -> EmbeddedImages:
        return EmbeddedImages(self.task.processing_at(size), self.source)


@dataclass(frozen=True, eq=False)
class AsPixels:
    """Rows of images that went through the source's size, for graphs without the preprocessing."""

    embedding: Embedding
    _kept: KeptPixels = field(default_factory=KeptPixels, init=False)

    @property
    def counts(self) -> dict[Split, int]:
        """See `Task`."""
        return self.embedding.counts

    def arrays(self, split: Split, size: int, rows: Sequence[int] | None = None) -> Arrays:
        """As `Task.arrays`: (rows, 3, size, size) float32."""

        def compute(indices: Sequence[int]) -> npt.NDArray[np.float32]:
            return self.embedding.pixels(self.embedding.arrays(split, size, indices), size)[INPUT]

        return {INPUT: self._kept.rows(split, size, rows, self.counts[split], compute)}


def _one_size(task: ImageTask) -> Source:
    first: Source | None = None
    for item in task.data.images["validation"]:
        image = open_image(item)
        found = image.height, image.width
        if first is not None and found != first:
            one, other = (f"{height}x{width}" for height, width in (first, found))
            raise BadInput(f"{OPTION}: the validation images have several sizes, as {one} and {other}; give one: {OPTION} {one}")
        first = found
    assert first is not None
    return first
