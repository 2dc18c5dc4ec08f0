"""What does preprocessing inside the graph cost, and is it Pillow's? Ours, and what the runtimes have for it, before no model.

All run in one process, in turns, in fp32 on images of noise; before each turn the threads of the one before come to rest, and
the first run of a turn is not timed. Let nothing else run meanwhile. ``python -m benchmarks.vision.embedding``
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.results import FOLDER, markdown, write_result
from benchmarks.vision.resizes import BICUBIC, BILINEAR, onnx_resize, openvino_pillow, plain
from instatune_deploy.devices.probe import SPINNING_MS
from instatune_deploy.devices.runtimes.base import Graph
from instatune_deploy.devices.runtimes.registry import open_session
from instatune_deploy.graphs.embed import embedded
from instatune_deploy.tasks.image_processing import HALF, Preprocessing

OURS, RESIZE, PILLOW = "ours", "ONNX's Resize", "OpenVINO's RESIZE_*_PILLOW"
WAYS = (
    (OURS, "onnxruntime"),
    (OURS, "openvino"),
    (f"{RESIZE}, fp32", "onnxruntime"),
    (f"{RESIZE}, fp32", "openvino"),
    (f"{RESIZE}, uint8", "onnxruntime"),
    (f"{PILLOW}, uint8", "openvino"),
    (f"{PILLOW}, fp32", "openvino"),
)
"""What does it, and what runs that. Behind a comma: what kind of values is resized, where there is a choice."""
FILTERS = {"bilinear": BILINEAR, "bicubic": BICUBIC}
SIZES = (((28, 28), 56), ((480, 640), 56), ((480, 640), 224))
"""Pixels: (height, width) of the images, and the edge of what comes out."""
PRECISION = "fp32"
LEVEL = 0.5 * 255
"""What a grey level is multiplied by where `HALF` normalises."""
SAME = 0.01
"""Grey levels: what an fp32 has to lose in normalising lies far below."""


@dataclass
class Found:
    """Of one way, filter and size. differences: in grey levels, of all values of all images; took_ms: of each turn"""

    differences: npt.NDArray[np.floating[Any]]
    took_ms: list[float] = field(default_factory=list)

    @property
    def differing(self) -> int:
        """Values that are not what Pillow says."""
        return int((self.differences > SAME).sum())

    @property
    def share(self) -> float:
        """Of those among all, 0 to 1."""
        return self.differing / self.differences.size


Case = tuple[str, str, str, str]
"""Who, runtime, filter, size."""


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="A smoke run: the smallest size, two turns; its figures mean nothing.")
@click.option("--turns", default=100, show_default=True, help="How often each is timed.")
@click.option("--images", default=4, show_default=True, help="How many are compared with Pillow's.")
@click.option("--threads", default=2, show_default=True, help="Of either runtime.")
@click.option("--results", default=FOLDER, type=click.Path(path_type=Path), help="Where the JSON is written.")
def main(quick: bool, turns: int, images: int, threads: int, results: Path) -> None:
    """Compare and measure."""
    sizes = SIZES[:1] if quick else SIZES
    turns, images = (2, 1) if quick else (turns, images)
    found: dict[Case, Found] = {}
    for source, edge in sizes:
        for name, resample in FILTERS.items():
            processing = Preprocessing((edge, edge), resample, None, 1 / 255, HALF, HALF)
            for way, figures in zip(WAYS, measured(processing, source, turns, images, threads), strict=True):
                found[(*way, name, said(source, edge))] = figures
            click.echo(f"{said(source, edge)}, {name}: measured", err=True)
    rows = rows_of(found)
    click.echo(markdown(rows))
    settings = {"quick": quick, "turns": turns, "images": images, "threads": threads, "precision": PRECISION, "statistic": "p50"}
    write_result("vit-embedding", settings, rows, summarised(found), results)


def said(source: tuple[int, int], edge: int) -> str:
    """As in 480x640 -> 56."""
    return f"{source[0]}x{source[1]} -> {edge}"


def measured(processing: Preprocessing, source: tuple[int, int], turns: int, images: int, threads: int) -> list[Found]:
    """Of each of `WAYS`. source: (height, width) of the images"""
    shown = noise(images, *source)
    expected = processing.batch([Image.fromarray(image) for image in shown])
    found, runs = [], []
    with tempfile.TemporaryDirectory() as scratch:
        sessions = [open_session(graph(*way, processing, source, Path(scratch)), way[1], PRECISION, threads) for way in WAYS]
    for session in sessions:
        (taken,) = session.input_names
        made = np.concatenate([next(iter(session.run({taken: image[None]}).values())) for image in shown])
        found.append(Found(np.abs(made - expected) * LEVEL))
        runs.append(session.bind({taken: shown[:1]}))
    for _ in range(turns):
        for figures, run in zip(found, runs, strict=True):
            time.sleep(SPINNING_MS / 1e3)
            run()
            start = time.perf_counter()
            run()
            figures.took_ms.append((time.perf_counter() - start) * 1e3)
    runs.clear()
    for session in sessions:
        session.close()
    return found


def noise(images: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """(images, height, width, 3). Of the values a third is black and another white, where filters overshoot."""
    values = np.random.default_rng(0).integers(-255, 511, (images, height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def graph(who: str, runtime: str, processing: Preprocessing, source: tuple[int, int], folder: Path) -> Graph:
    """That of one of `WAYS`; a file is written to ``folder``."""
    if who == OURS:
        return embedded(plain(processing.size), processing, source).SerializeToString()
    operator, _, kind = who.rpartition(", ")
    if operator == RESIZE:
        return onnx_resize(processing, source, kind).SerializeToString()
    path = folder / f"{kind}.xml"
    openvino_pillow(processing, source, path, kind)
    return path


def rows_of(found: dict[Case, Found]) -> list[dict[str, Any]]:
    """A row for each way and filter: medians in ms, and where it is farthest from Pillow of all sizes."""
    rows = []
    for who, runtime in WAYS:
        for name in FILTERS:
            sizes = {case[3]: figures for case, figures in found.items() if case[:3] == (who, runtime, name)}
            share = max(figures.share for figures in sizes.values())
            rows.append(
                {
                    "made by": who,
                    "run": f"{runtime} {PRECISION}",
                    "filter": name,
                    **{f"{size}, ms": round(statistics.median(figures.took_ms), 3) for size, figures in sizes.items()},
                    "values that differ": percent(share),
                    "grey levels, at most": largest(list(sizes.values())),
                }
            )
    return rows


def percent(share: float) -> str:
    """Three digits that count: few values that differ are another thing than none."""
    return f"{100 * share:.3g}%"


def largest(figures: Sequence[Found]) -> float:
    """Difference of any value, in grey levels."""
    return round(float(max(item.differences.max() for item in figures)), 2)


def summarised(found: dict[Case, Found]) -> dict[str, Any]:
    """By who and what runs it; of ours, how many values of all differ."""
    largest_difference, differing, took = {}, {}, {}
    for who, runtime in WAYS:
        cases = {" ".join(case[2:]): figures for case, figures in found.items() if case[:2] == (who, runtime)}
        key = f"{who}, {runtime}"
        largest_difference[key] = largest(list(cases.values()))
        differing[key] = {case: round(figures.share, 6) for case, figures in cases.items()}
        took[key] = {case: round(statistics.median(figures.took_ms), 4) for case, figures in cases.items()}
    return {
        "ours_values_differing": sum(figures.differing for case, figures in found.items() if case[0] == OURS),
        "ours_values": sum(figures.differences.size for case, figures in found.items() if case[0] == OURS),
        "largest_difference": largest_difference,
        "share_differing": differing,
        "ms": took,
    }


if __name__ == "__main__":
    main()
