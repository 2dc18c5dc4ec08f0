"""The families that tables are made of: the pipeline each is measured on, and what its results are called. A line each.

``--family vit`` of a benchmark makes its table for images: ``benchmarks/results/vit-NAME.json``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.results import REPOSITORY
from instatune_deploy.config import PipelineSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.pipeline.inputs import load_pipeline


@dataclass(frozen=True)
class Family:
    """What a table is made of.

    pipeline: name of the shipped one whose model, data and recipe are measured
    subjects: what is fine-tuned on what (`finetune.subjects`); the first one where one is enough
    tiny:     the subject of smoke runs
    prefix:   of its results, where that is not the benchmark's own area
    made_by:  commands that make what the pipeline names by paths
    seeds, pool: how many fine-tunings, and how many networks of the search's pool, when nobody says
    strongest: whether networks are also fine-tuned alone in the strongest way, which takes as long again, when nobody says
    """

    pipeline: str
    subjects: tuple[str, ...]
    tiny: str
    prefix: str | None = None
    made_by: tuple[str, ...] = ()
    seeds: int = 3
    pool: int = 1000
    strongest: bool = True

    @property
    def option(self) -> str:
        """What a command is given for it, with a blank before."""
        return "" if self.prefix is None else f" --family {self.prefix}"

    def settings(self) -> PipelineSettings:
        """Of its pipeline. ``BadInput`` says how to make model and data where they are not there."""
        settings = load_pipeline(self.pipeline)
        for reference in (settings.model.reference, settings.data.reference):
            if self.made_by and not Path(reference).exists():
                raise BadInput(f"{reference} is not there; make model and data first: `{' && '.join(self.made_by)}`")
        return settings

    def result(self, name: str) -> str:
        """What ``<area>-<name>`` is called when it is of this family."""
        return name if self.prefix is None else f"{self.prefix}-{name.partition('-')[2]}"

    def work(self, area: str) -> Path:
        """Where what is made is kept; all benchmarks of a family with a prefix share their super-networks there."""
        return REPOSITORY / "runs" / "benchmarks" / (self.prefix or area)


TEXT = Family("sentiment", ("movies", "tweets"), "tiny")
VIT = Family(
    "fashion",
    ("fashion",),
    "tiny-images",
    "vit",
    (
        "python -m benchmarks.vision.checkpoint --output runs/vision/vit-s14",
        "python -m benchmarks.vision.fashion --output runs/vision/fashion-mnist",
    ),
    seeds=1,
    pool=300,
    strongest=False,
)
FAMILIES = {"text": TEXT, "vit": VIT}


def family_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with ``--family``, which gives it a `Family`."""
    said = ", ".join(f"{name} ({family.pipeline}.yaml)" for name, family in FAMILIES.items())
    return click.option(
        "--family",
        default="text",
        show_default=True,
        type=click.Choice(list(FAMILIES)),
        callback=lambda context, parameter, value: FAMILIES[value],
        help=f"What is measured: {said}.",
    )(command)
