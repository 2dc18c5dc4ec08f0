"""Image classification as a `Task`: labelled images, and the checkpoint's image processor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL

from instatune_deploy.config import DataSettings
from instatune_deploy.digests import digest
from instatune_deploy.errors import BadInput
from instatune_deploy.image_size import check_image_size
from instatune_deploy.tasks.augmentation import Level, augment
from instatune_deploy.tasks.base import PIXELS, Arrays, OfData
from instatune_deploy.tasks.image_classification import ImageData, load_images
from instatune_deploy.tasks.image_processing import Preprocessing
from instatune_deploy.tasks.images import open_image
from instatune_deploy.tasks.metrics import TOP
from instatune_deploy.tasks.tables import SPLITS, Split
from instatune_deploy.words import counted

INPUT = "pixel_values"
SAMPLES = "samples"
SAMPLE_IMAGES = 8
"""So many of the samples lie in the artifact as images, too."""
KEPT_BYTES = 2**28
"""Pixel values that candidates are judged on are kept between them where they take no more than this."""
STEPS = (
    "open the image: upright (EXIF orientation applied), RGB, 8 bits; 16 bits are divided by 257",
    "'resize' it with the filter 'resample': [height, width], or a number of pixels for the shorter edge, the longer one in "
    "proportion, rounded down; nothing where it is null",
    "cut out the middle, 'crop' [height, width]; nothing where it is null",
    "every value times 'rescale', minus the channel's 'mean', divided by the channel's 'std'",
    "put 'batch_size' images together: the input is float32 of shape (batch_size, 3, height, width)",
    "the output 'logits' is float32 of shape (batch_size, labels); the largest is the answer, their softmax the probabilities",
)


class TrainingImages(Sequence[dict[str, Any]]):
    """Training images, opened and augmented when they are asked for: each anew in every epoch, and always alike in the same."""

    def __init__(self, data: ImageData, processing: Preprocessing, augmentation: Level, seed: int) -> None:
        self.data = data
        self.processing = processing
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the sampler at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.data.images["train"])

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        rng = np.random.default_rng([self.seed, self.epoch, index])
        image = augment(open_image(self.data.images["train"][index]), self.augmentation, rng)
        return {INPUT: self.processing.apply(image), "labels": int(self.data.labels["train"][index])}


class KeptPixels(dict[tuple[Split, int], npt.NDArray[np.float32]]):
    """Pixel values of whole splits in some sizes, kept between candidates up to `KEPT_BYTES` in all."""

    def rows(
        self,
        split: Split,
        size: int,
        rows: Sequence[int] | None,
        count: int,
        compute: Callable[[Sequence[int]], npt.NDArray[np.float32]],
    ) -> npt.NDArray[np.float32]:
        """Rows of a split of ``count`` images, all for None: (rows, 3, size, size), as ``compute`` gives them."""
        indices = range(count) if rows is None else rows
        if (split, size) not in self:
            held = sum(values.nbytes for values in self.values())
            # of the training rows a few are asked for, to calibrate on
            if split == "train" or held + 3 * 4 * size * size * count > KEPT_BYTES:
                return compute(indices)
            self[split, size] = compute(range(count))
        return self[split, size][list(indices)]


@dataclass(frozen=True, eq=False)
class ImageTask(OfData):
    """processing, largest: of images as they are trained on, pixels of the edge; patch: pixels of the edge of what the model
    makes a token of; tokens_of: tokens of an image of so many pixels' edge"""

    data: ImageData
    processing: Preprocessing
    largest: int
    augmentation: Level
    patch: int
    tokens_of: Callable[[int], int]
    _kept: KeptPixels = field(default_factory=KeptPixels, init=False)

    unit = PIXELS
    axes = ("batch",)
    packages = ("pillow",)

    @property
    def counts(self) -> dict[Split, int]:
        """See `Task`."""
        return {split: len(self.data.images[split]) for split in SPLITS}

    @property
    def has_top5(self) -> bool:
        """See `Task`: of five labels one is always right."""
        return len(self.label_names) > TOP

    @property
    def warnings(self) -> Sequence[str]:
        """See `Task`: images that were left out, counted and each by its name."""
        left_out = self.data.left_out
        return [f"{counted(left_out, 'image')} left out, as unreadable:", *self.data.warnings] if left_out else []

    def rows_key(self, split: Split) -> str:
        """See `Task`."""
        return digest([self.data.key, split, self.processing.to_json(), PIL.__version__])

    def trained_on(self) -> dict[str, Any]:
        """See `Task`."""
        return {"image_size": self.largest, "augmentation": self.augmentation, "processing": self.processing.to_json()}

    def size_on(self, sequence_length: int, image_size: int | None = None) -> int:
        """See `Task`: the size that was trained on where a profile says no smaller one, whatever it says of texts."""
        if image_size is None:
            return self.largest
        check_image_size(image_size, (self.patch, self.patch), "image_size")
        return min(image_size, self.largest)

    def tokens(self, size: int) -> int:
        """See `Task`."""
        return self.tokens_of(size)

    def arrays(self, split: Split, size: int, rows: Sequence[int] | None = None) -> Arrays:
        """See `Task`: (rows, 3, size, size) float32."""
        return {INPUT: self._kept.rows(split, size, rows, self.counts[split], partial(self._pixels, split, size))}

    def _pixels(self, split: Split, size: int, rows: Sequence[int]) -> npt.NDArray[np.float32]:
        images, processing = self.data.images[split], self.processing_at(size)
        # one after the other: photographs are larger before than after
        return np.stack([processing.apply(open_image(images[index])) for index in rows])

    def processing_at(self, size: int) -> Preprocessing:
        """The steps to images of so many pixels' edge."""
        return self.processing if size == self.largest else self.processing.scaled(size)

    def batches(self, split: Split, size: int, batch_size: int) -> Iterator[tuple[npt.NDArray[np.int64], Arrays]]:
        """See `Task`: in their order; images need no padding."""
        for start in range(0, self.counts[split], batch_size):
            indices = np.arange(start, min(start + batch_size, self.counts[split]))
            yield indices, self.arrays(split, size, indices.tolist())

    def training_rows(self, seed: int) -> TrainingImages:
        """See `Task`; what is augmented is drawn."""
        return TrainingImages(self.data, self.processing, self.augmentation, seed)

    def collator(self) -> Callable[[list[Any]], Any]:
        """See `Task`."""
        from transformers import default_data_collator

        return default_data_collator

    def save(self, folder: Path, size: int) -> None:
        """See `Task`."""
        self.processing_at(size).save(folder)

    def described(self, folder: Path, inputs: Sequence[str], size: int) -> dict[str, Any] | None:
        """See `Task`."""
        return {"kind": "image", "steps": STEPS, "inputs": list(inputs), **self.processing_at(size).to_json()}

    def samples(self, split: Split, count: int, folder: Path) -> list[dict[str, Any]]:
        """See `Task`: PNG files of the first ones, and every one's label."""
        (folder / SAMPLES).mkdir(exist_ok=True)
        rows: list[dict[str, Any]] = []
        for index, source in enumerate(self.data.images[split][:count]):
            row: dict[str, Any] = {"label": self.label_names[int(self.labels[split][index])]}
            if index < SAMPLE_IMAGES:
                row["image"] = f"{SAMPLES}/{index}.png"
                open_image(source).save(folder / row["image"])
            rows.append(row)
        return rows


def load_image_task(settings: DataSettings, folder: Path, config: Any, positions: Callable[[Any], int]) -> ImageTask:
    """See `registry.load_task`."""
    own, patch = _edge(config.image_size, "image_size", folder), _edge(config.patch_size, "patch_size", folder)
    if own % patch:
        raise BadInput(f"{folder}: config.json: image_size {own} is no multiple of patch_size {patch}")
    # where nothing is said, what the checkpoint's processor makes: a model may have positions for larger images
    processing = Preprocessing.of(folder, settings.image_size, own)
    size = processing.size[0]
    if processing.size != (size, size):
        found = " x ".join(map(str, processing.size))
        raise BadInput(
            f"{folder}: preprocessor_config.json makes images of {found} px, which are no squares; set data.image_size"
        )
    check_image_size(size, (patch, patch), "data.image_size")

    def tokens_of(edge: int) -> int:
        sized = copy.copy(config)
        sized.image_size = edge
        return positions(sized)

    return ImageTask(load_images(settings), processing, size, settings.augmentation, patch, tokens_of)


def _edge(value: Any, name: str, folder: Path) -> int:
    """The one number of a square."""
    sizes = {int(item) for item in value} if isinstance(value, (list, tuple)) else {int(value)}
    if len(sizes) != 1:
        raise BadInput(f"{folder}: config.json: {name} {list(value)} is no square, which is what is supported")
    return sizes.pop()
