"""Read a checkpoint's preprocessor_config.json: what the image processors of transformers would do, in plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from instatune_deploy.errors import BadInput
from instatune_deploy.files import read_json

FILE_NAME = "preprocessor_config.json"
RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Words for Pillow's filters, by its numbers."""
Size = tuple[int, int]
"""(height, width) in pixels."""


class Steps(NamedTuple):
    """As in `image_processing.Preprocessing`."""

    resize: int | Size | None
    resample: int
    crop: Size | None
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class _Processor:
    """What a class of transformers does where the file says nothing. square: whether one number as size is both edges."""

    size: int | Size
    resample: int
    crop: Size | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    square: bool


_HALF = (0.5, 0.5, 0.5)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_PROCESSORS = {
    "ViT": _Processor((224, 224), 2, None, _HALF, _HALF, square=True),
    "DeiT": _Processor((256, 256), 3, (224, 224), _HALF, _HALF, square=True),
    "Bit": _Processor(224, 3, (224, 224), _CLIP_MEAN, _CLIP_STD, square=False),
    "CLIP": _Processor(224, 3, (224, 224), _CLIP_MEAN, _CLIP_STD, square=False),
}
_OF_MODELS = {"vit": "ViT", "deit": "DeiT", "dinov2": "Bit", "dinov2_with_registers": "Bit"}
"""By the model type of config.json, for files that name no class."""
_ENDINGS = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
_TYPES = ("image_processor_type", "feature_extractor_type")
_WITHOUT_EFFECT = {
    *_TYPES,
    "processor_class",
    "_processor_class",
    "_valid_processor_keys",
    "do_convert_rgb",
    "return_tensors",
    "device",
    "disable_grouping",
    "pad_size",
    "name_or_path",
    "transformers_version",
}
_UNDERSTOOD = {
    "do_resize",
    "size",
    "default_to_square",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
    "data_format",
}


def read_steps(path: Path) -> Steps:
    """The steps of an image processor of ViT, DeiT, BiT (Dinov2) or CLIP. ``BadInput`` names the key that is not understood."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: expected a JSON object with the settings of an image processor")
    # transformers takes null for "not said", and what is false is not done
    content = {key: value for key, value in content.items() if value is not None}
    for key, value in content.items():
        if key not in _UNDERSTOOD | _WITHOUT_EFFECT and value is not False:
            raise _bad(path, key, "is not known; images are resized, cropped, rescaled and normalised, nothing else")
    if content.get("data_format", "channels_first") != "channels_first":
        raise _bad(path, "data_format", f"is {content['data_format']!r:.40}; the models take 'channels_first'")
    defaults = _processor(path, content)
    resize, crop = _geometry(path, content, defaults)
    rescales, normalises = _flag(path, content, "do_rescale", True), _flag(path, content, "do_normalize", True)
    return Steps(
        resize,
        _resample(path, content, defaults.resample),
        crop,
        _number(path, "rescale_factor", content.get("rescale_factor", 1 / 255)) if rescales else 1.0,
        _channels(path, "image_mean", content.get("image_mean", defaults.mean)) if normalises else (0.0, 0.0, 0.0),
        _channels(path, "image_std", content.get("image_std", defaults.std), above_0=True) if normalises else (1.0, 1.0, 1.0),
    )


def _bad(path: Path, key: str, problem: str) -> BadInput:
    return BadInput(f"{path}: '{key}' {problem}")


def _processor(path: Path, content: dict[str, Any]) -> _Processor:
    key = next((key for key in _TYPES if key in content), None)
    if key is not None:
        for name, processor in _PROCESSORS.items():
            if content[key] in [name + ending for ending in _ENDINGS]:
                return processor
        known = ", ".join(f"{name}ImageProcessor" for name in _PROCESSORS)
        raise _bad(path, key, f"is {content[key]!r:.60}; known are {known}")
    beside = path.parent / "config.json"
    config = read_json(beside) if beside.is_file() else None
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in _OF_MODELS:
        raise BadInput(f"{path}: no 'image_processor_type' that says which image processor this is of, as ViTImageProcessor")
    return _PROCESSORS[_OF_MODELS[model_type]]


def _geometry(path: Path, content: dict[str, Any], defaults: _Processor) -> tuple[int | Size | None, Size | None]:
    """Resize and crop."""
    resize, crop = None, None
    if _flag(path, content, "do_resize", True):
        square = _flag(path, content, "default_to_square", defaults.square)
        resize = _size(path, "size", content["size"], square) if "size" in content else defaults.size
    if _flag(path, content, "do_center_crop", defaults.crop is not None):
        if "crop_size" not in content and defaults.crop is None:
            raise BadInput(f"{path}: 'do_center_crop' without a 'crop_size'")
        found = _size(path, "crop_size", content["crop_size"], True) if "crop_size" in content else defaults.crop
        if not isinstance(found, tuple):
            raise _bad(path, "crop_size", "is a shortest edge; expected height and width")
        crop = found
    if crop is None and not isinstance(resize, tuple):
        key = "do_resize" if resize is None else "size"
        raise _bad(path, key, "leaves images in different sizes; expected a height and width, or a 'crop_size'")
    return resize, crop


def _size(path: Path, key: str, value: Any, square: bool) -> int | Size:
    if isinstance(value, dict) and value.keys() == {"height", "width"}:
        value = (value["height"], value["width"])
    elif isinstance(value, dict) and value.keys() == {"shortest_edge"}:
        value, square = value["shortest_edge"], False
    edges = list(value) if isinstance(value, list | tuple) else [value]
    if len(edges) > 2 or not all(type(edge) is int and edge > 0 for edge in edges):
        raise _bad(
            path, key, f"is {value!r:.60}; expected pixels, as {{'height': 224, 'width': 224}} or {{'shortest_edge': 224}}"
        )
    if isinstance(value, int):
        return (value, value) if square else value
    if len(edges) != 2:
        raise _bad(path, key, f"is {value!r:.60}; expected height and width")
    return edges[0], edges[1]


def _resample(path: Path, content: dict[str, Any], default: int) -> int:
    value = content.get("resample", default)
    if type(value) is not int or value not in RESAMPLES:
        raise _bad(path, "resample", f"is {value!r:.40}; expected Pillow's number of a filter, 0 to {max(RESAMPLES)}")
    return value


def _flag(path: Path, content: dict[str, Any], key: str, default: bool) -> bool:
    value = content.get(key, default)
    if not isinstance(value, bool):
        raise _bad(path, key, f"is {value!r:.40}; expected true or false")
    return value


def _number(path: Path, key: str, value: Any, *, above_0: bool = True) -> float:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not right or (above_0 and value <= 0):
        raise _bad(path, key, f"is {value!r:.40}; expected a number{' above 0' if above_0 else ''}")
    return float(value)


def _channels(path: Path, key: str, value: Any, *, above_0: bool = False) -> tuple[float, ...]:
    """One number for each of three channels, or one for all."""
    values = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3:
        raise _bad(path, key, f"has {len(values)} numbers; expected 3, of red, green and blue")
    return tuple(_number(path, key, number, above_0=above_0) for number in values)
