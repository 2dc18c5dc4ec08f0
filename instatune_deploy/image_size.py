"""Which sizes an image may have: its edge is made of whole patches."""

from __future__ import annotations

import math

from instatune_deploy.errors import BadInput


def check_image_size(image_size: int, patch: tuple[int, int], where: str = "image size") -> None:
    """``BadInput`` unless an edge of ``image_size`` pixels is made of whole patches; the message names sizes near it that are.

    patch: height and width in pixels; where: begins the message
    """
    step = math.lcm(*patch)
    if image_size < 1 or image_size % step:
        below = image_size // step * step
        near = f"{below} or {below + step} are" if below > 0 else f"{step} is the smallest"
        named = f"{patch[0]}" if patch[0] == patch[1] else f"{patch[0]} x {patch[1]}"
        raise BadInput(f"{where}: {image_size} px are no multiple of the model's patch of {named} px; {near}")
