"""The registry of tasks: a new one is a file here, its name in `config.PipelineSettings.task`, and one line below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from instatune_deploy.config import DataSettings, PipelineSettings
from instatune_deploy.tasks.base import Task
from instatune_deploy.tasks.image_task import load_image_task
from instatune_deploy.tasks.text_task import load_text_task

Positions = Callable[[Any], int]
"""The longest input, in tokens, that a configuration has positions for (`Family.positions`)."""
TASKS: dict[str, Callable[[DataSettings, Path, Any, Positions], Task]] = {
    "text-classification": load_text_task,
    "image-classification": load_image_task,
}


def load_task(settings: PipelineSettings, folder: Path, config: Any, positions: Positions) -> Task:
    """Rows and preprocessing of a pipeline's task, checked. ``BadInput`` says what is wrong, or what does not fit together.

    folder: of the checkpoint, with ``config``
    """
    return TASKS[settings.task](settings.data, folder, config, positions)
