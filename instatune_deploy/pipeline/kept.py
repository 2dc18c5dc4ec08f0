"""A finished search on disk: found again by its key, instead of being searched again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from instatune_deploy.devices.runs import Run
from instatune_deploy.files import read_json, whole_folder, write_json
from instatune_deploy.pipeline.bench import Point
from instatune_deploy.pipeline.objectives import latency_ms
from instatune_deploy.pipeline.results import Promise, SearchResult, honesty_lines, quality_lines
from instatune_deploy.pipeline.search import Searcher
from instatune_deploy.predict.quality import Quality
from instatune_deploy.supernet.architecture import Architecture

FILE_NAME = "search.json"


def searched(searcher: Searcher, work: Path) -> SearchResult:
    """The result of the search: that of an earlier run with the same key, else (or to measure again) searched now and kept."""
    folder = work / "searches" / f"{searcher.device.name}-{searcher.key()}"
    result = None if searcher.bench.laboratory.again else _load(folder, searcher)
    if result is not None:
        searcher.terminal.stage(f"profile and search: done before ({folder}), reused")
        for text in (*quality_lines(result), *honesty_lines(result, searcher.statistic)):
            searcher.terminal.result(text)
        return result
    result = searcher.search()
    _save(searcher, result, folder)
    return result


def _save(searcher: Searcher, result: SearchResult, folder: Path) -> None:
    on_front = {id(point) for point in result.front(searcher.statistic)}
    with whole_folder(folder) as scratch:
        searcher.save_predictors(result.points, scratch / "predictors")
        write_json(
            scratch / FILE_NAME,
            {
                "device": searcher.device.name,
                "budget": str(searcher.budget) if searcher.budget else None,
                "statistic": searcher.statistic,
                "seed": searcher.seed,
                "supernet": searcher.bench.supernet.key,
                "objectives": list(result.names),
                "volumes": result.volumes,
                "noise": result.noise,
                "latency_quality": {run: item.to_json() for run, item in result.latency_quality.items()},
                "accuracy_quality": result.accuracy_quality and result.accuracy_quality.to_json(),
                "points": [
                    {
                        **point.to_json(),
                        "latency_ms": latency_ms(point, searcher.statistic),
                        "predicted": _promised(result, point),
                        "front": id(point) in on_front,
                    }
                    for point in result.points
                ],
            },
        )


def _promised(result: SearchResult, point: Point) -> dict[str, Any] | None:
    promise = result.predicted.get((point.architecture, point.run))
    return None if promise is None else promise.to_json()


def _load(folder: Path, searcher: Searcher) -> SearchResult | None:
    if not (folder / FILE_NAME).is_file():
        return None
    value = read_json(folder / FILE_NAME)
    result = SearchResult([], volumes=value["volumes"], noise=value["noise"], names=searcher.objectives)
    for item in value["points"]:
        point = _point(item, searcher)
        if point is None:  # another store than the one it was made with
            return None
        result.points.append(point)
        if item["predicted"] is not None:
            result.predicted[point.architecture, point.run] = Promise.from_json(item["predicted"])
    result.latency_quality = {run: _quality(item) for run, item in value["latency_quality"].items()}
    result.accuracy_quality = value["accuracy_quality"] and _quality(value["accuracy_quality"])
    return result


def _point(item: dict[str, Any], searcher: Searcher) -> Point | None:
    measurement = searcher.bench.store.find(item["measurement"])
    if measurement is None or searcher.bench.lacks(measurement):
        return None
    measurement = searcher.bench.laboratory.on_nominal(measurement, searcher.device)
    architecture = Architecture.from_json(item["architecture"])
    return Point(architecture, Run(*item["run"]), measurement, item["accuracy"], searcher.bench.macs(architecture))


def _quality(item: dict[str, Any]) -> Quality:
    return Quality(**{name.name: item[name.name] for name in fields(Quality)})
