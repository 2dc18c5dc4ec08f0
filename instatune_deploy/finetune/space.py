"""From what a user says of a space to the SearchSpace of his model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

from instatune_deploy.config import SpaceSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace


def space_for(network: SuperNetwork, space: SearchSpace | SpaceSettings | str, order: Callable[[], list[int]]) -> SearchSpace:
    """The space of ``network``; ``BadInput`` for one that does not fit it.

    space: itself, its settings, or the name of a preset; order: gives the layers, most important first, when they are needed
    """
    if isinstance(space, str):
        presets = get_args(SpaceSettings.model_fields["preset"].annotation)
        if space not in presets:
            raise BadInput(f"space '{space}' is not known; known are: {', '.join(presets)}")
        space = SpaceSettings(preset=space)  # type: ignore[arg-type]
    if isinstance(space, SpaceSettings):
        return SearchSpace.of(network.shape, space, order() if space.keep_layers == "importance" else None)
    if not isinstance(space, SearchSpace):
        raise BadInput(f"space: a SearchSpace, the settings of one or the name of a preset, not {space!r}")
    largest, full = space.largest(), network.shape.full()
    # a space with sizes of images names the largest one, which is the model's own
    if largest not in (full, replace(full, image_size=network.shape.image_size)):
        raise BadInput(f"the space's largest member ({largest}) is not the model ({full})")
    return space
