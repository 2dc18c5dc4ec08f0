"""What does a latency budget buy at base size? A ViT-B/16 and sub-networks of it in every way of running that a profile has.

All graphs are carved from one export of a network with random weights at 224 px (197 tokens): latency does not depend on what
weights say. Let nothing else run meanwhile. ``python -m benchmarks.vision.latency``
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.results import FOLDER, markdown, write_result
from benchmarks.vision.base_size import clip_vit_b16
from instatune_deploy.config import PipelineSettings, SpaceSettings
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.profile import Device, load_profile, resolve
from instatune_deploy.devices.store import open_store
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.inputs import PipelineInputs
from instatune_deploy.pipeline.supernet import Supernet
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.families import family_of
from instatune_deploy.supernet.load import load_config, load_pretrained
from instatune_deploy.supernet.network import model_shape
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.tasks.image_classification import ImageData
from instatune_deploy.tasks.image_processing import Preprocessing
from instatune_deploy.tasks.image_task import ImageTask

LABELS = ["one", "other"]
ROWS = 32
"""Made-up images of each split: latency does not depend on what they show; int8 is calibrated on them."""
BUDGET_MS = 20.0
SHARES = (
    ("full", 1.0, 1.0, 1.0),
    ("3/4 of the layers", 0.75, 1.0, 1.0),
    ("1/2 of the layers", 0.5, 1.0, 1.0),
    ("3/4 of the layers, 1/2 of heads and MLP", 0.75, 0.5, 0.5),
    ("1/2 of the layers, heads and MLP", 0.5, 0.5, 0.5),
    ("1/4 of the layers, 1/2 of heads and MLP", 0.25, 0.5, 0.5),
)
"""Of each network: its name, and what it keeps of layers, heads and MLP widths."""


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A smoke run: a tiny network, two of its sub-networks; its figures mean nothing.")
@click.option("--device", default="xeon-cpu", show_default=True, help="Hardware profile.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, device: str, results: Path) -> None:
    """Carve and measure."""
    profile = load_profile("generic-cpu" if quick else device)
    with tempfile.TemporaryDirectory() as scratch, open_store(Path(scratch), None, create=True) as store:
        inputs, supernet = made_up(Path(scratch), 32 if quick else 224, quick)
        here = inputs.on(resolve(profile, this_host()))
        with closing(Laboratory(store, scratch=Path(scratch))) as laboratory:
            bench = Bench(inputs, supernet, here, laboratory)
            rows = [row(bench, here, *share) for share in (SHARES[:2] if quick else SHARES)]
    click.echo(markdown(rows))
    settings = {"quick": quick, "device": here.name, "statistic": here.statistic, "image_size": here.image_size}
    write_result("vit-latency", settings, rows, summarised(rows, [str(run) for run in here.runs]), results)


def made_up(folder: Path, image_size: int, tiny: bool) -> tuple[PipelineInputs, Supernet]:
    """A super-network with random weights that was never trained, and images of noise."""
    clip_vit_b16(folder / "model", tiny)
    config = load_config(folder / "model")
    family = family_of(config.model_type, "model")
    rng = np.random.default_rng(0)
    splits = ("train", "validation", "test")
    images = {split: [rng.integers(0, 256, (image_size, image_size, 3), dtype=np.uint8) for _ in range(ROWS)] for split in splits}
    labels = {split: np.arange(ROWS) % 2 for split in splits}
    data = ImageData(images, labels, LABELS, "noise")  # type: ignore[arg-type]
    processing = Preprocessing((image_size, image_size), 2, None, 1 / 255, (0.5,) * 3, (0.5,) * 3)
    task = ImageTask(data, processing, image_size, "none", config.patch_size, lambda size: family.positions(config))
    settings = PipelineSettings.model_validate(
        {"task": "image-classification", "model": {"reference": "made up"}, "data": {"reference": "noise"}}
    )
    shape = model_shape(load_pretrained(folder / "model", LABELS, 0), family)
    facts = {"labels": LABELS, "weights": "random"}
    supernet = Supernet(folder, "random", SearchSpace.of(shape, SpaceSettings()), shape, facts)
    return PipelineInputs(settings, folder / "model", task), supernet


def row(bench: Bench, device: Device, name: str, layers: float, heads: float, width: float) -> dict[str, Any]:
    """One network in every way of running, ms; None where a latency could not be believed."""
    shape = bench.supernet.shape
    depth = max(1, round(layers * shape.layers))
    kept = tuple(np.linspace(0, shape.layers - 1, depth).round().astype(int).tolist())
    architecture = Architecture(kept, (round(heads * shape.heads),) * depth, (round(width * shape.mlp_width),) * depth)
    found: dict[str, Any] = {"network": name, "G MACs": round(bench.macs(architecture) / 1e9, 2)}
    for run in device.runs:
        measurement = bench.latency(architecture, run)
        believed = measurement.timing is not None and measurement.believed
        found[str(run)] = round(measurement.timing.statistic_ms(device.statistic), 2) if believed and measurement.timing else None
    return found


def summarised(rows: list[dict[str, Any]], runs: list[str]) -> dict[str, Any]:
    """The full network, and the largest one of those tried that keeps the budget."""

    def fastest(row: dict[str, Any]) -> float | None:
        return min((row[run] for run in runs if row[run] is not None), default=None)

    within = [row for row in rows if (took := fastest(row)) is not None and took <= BUDGET_MS]
    largest = max(within, key=lambda row: row["G MACs"], default=None)
    return {
        "full_ms": {run: rows[0][run] for run in runs},
        "full_fastest_ms": fastest(rows[0]),
        "budget_ms": BUDGET_MS,
        "largest_within_budget": None if largest is None else largest["network"],
        "its_macs_g": None if largest is None else largest["G MACs"],
        "its_ms": None if largest is None else fastest(largest),
        **({} if largest is not None else {"why": "none of the networks tried is as fast"}),
    }


if __name__ == "__main__":
    main()
