"""Put the tables of `benchmarks/results/` into the README, between markers: ``<!-- main-job -->`` ... ``<!-- /main-job -->``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, REPOSITORY, markdown
from instatune_deploy.files import read_json, write_text
from instatune_deploy.words import counted

README = REPOSITORY / "README.md"
MARKER = r"(<!-- {name} -->\n).*?(<!-- /{name} -->)"


def main_job(result: dict[str, Any]) -> str:
    """Stage times and promises of the main job."""
    host, summary = result["host"], result["summary"]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary["stage_seconds"].items())
    predictors = [{**row, "budget": row["budget"] or ""} for row in summary["predictors"]]
    return (
        f"Measured on {host['cpu_model']}, {host['cores']} cores, at commit {result['commit']}: "
        f"the first job took {summary['total_seconds']:.0f} s ({stages}).\n\n"
        f"{markdown(result['rows'])}\n\n"
        f"How well the predictors say what they have not seen, beside the noise of the measurements they learn from:\n\n"
        f"{markdown(predictors)}\n"
    )


def demo(result: dict[str, Any]) -> str:
    """What a person sees at the end."""
    return f"```\n{result['summary']['table']}\n```\n"


def profile_carve(result: dict[str, Any]) -> str:
    """Seconds of carving and exporting, and the ratios."""
    summary = result["summary"]
    ratios = "; ".join(
        f"{runtime}: {summary['speedup_over_export'][runtime]:g} times faster than the default exporter, "
        f"{summary['speedup_over_fastest_export'][runtime]:g} times than its fastest setting"
        for runtime in summary["speedup_over_export"]
    )
    return f"\n{markdown(result['rows'])}\n\n{ratios}. Logits differ from PyTorch's by at most {summary['max_abs_diff']:.1e}.\n\n"


def rows(result: dict[str, Any]) -> str:
    """The table as it is."""
    return f"\n{markdown(result['rows'])}\n\n"


def profile_throughput(result: dict[str, Any]) -> str:
    """Measurements a minute, and the share of timing in it."""
    summary = result["summary"]
    said = f"{summary['measurements_per_minute']:g} measurements a minute in all, {summary['timing_share']:.0%} of it timing"
    return f"\n{markdown(result['rows'])}\n\n{said}.\n\n"


def finetune_cost(result: dict[str, Any]) -> str:
    """Step times, and how often they were taken."""
    settings = result["settings"]
    over = counted(settings["seeds"], "seed")
    said = f"{settings['steps']} steps of each, in turns, {settings['threads']} threads, {over}"
    return f"\n{markdown(result['rows'])}\n\n{said}.\n\n"


def finetune_sharing(result: dict[str, Any]) -> str:
    """Medians over the seeds, and how the networks were fine-tuned alone."""
    shown = [{name: cell for name, cell in row.items() if not name.endswith("by seed")} for row in result["rows"]]
    alone = result["settings"]["alone"]
    ways = "; ".join(
        f"{name}: from {way['start']}, learning rate {way['learning_rate']:g}, dropout {way['dropout']}"
        for name, way in alone.items()
    )
    over = counted(result["settings"]["seeds"], "seed")
    return f"\n{markdown(shown)}\n\nMedians over {over}. {ways[0].upper()}{ways[1:]}.\n\n"


def finetune_peers(result: dict[str, Any]) -> str:
    """The pairs, and the medians of all of them."""
    said = [
        f"{points:+.2f} points beside {peer} at {target} of the latency"
        for peer, key in (("Torch-Pruning", "minus_torch_pruning_points"), ("the first layers", "minus_first_layers_points"))
        for target, points in result["summary"][key].items()
    ]
    return f"{rows(result)}Ours, in the median of all data sets and seeds: {', '.join(said)}.\n\n"


def finetune_macs(result: dict[str, Any]) -> str:
    """Medians over the seeds, and the paper's own rows."""
    shown = [row for row in result["rows"] if row["seed"] in {"median", ""}]
    kept = ("subject", "what", "validation %", "test %", "test points lost", "MACs saved %", "latency saved %")
    return f"\n{markdown([{name: row[name] for name in kept} for row in shown])}\n\n"


def vit_embedding(result: dict[str, Any]) -> str:
    """Medians, how they were taken, and how many values of ours were compared."""
    settings, summary = result["settings"], result["summary"]
    said = (
        f"Medians of {settings['turns']} runs of each, in turns, {settings['threads']} threads. Of the "
        f"{summary['ours_values']:,} values that ours made of noise ({counted(settings['images'], 'image')} of every size and "
        f"filter, in both runtimes) {summary['ours_values_differing']} differ from Pillow's; the other rows say how many of "
        f"theirs do at the size where most do, and by how much at most."
    )
    return f"{rows(result)}{said}\n\n"


def artifact_peers(result: dict[str, Any]) -> str:
    """In each way of running the file of ours, and of the others' the fastest."""
    time, shown = "p90 ms (median)", []
    for ours in (row for row in result["rows"] if row["made by"] == "instatune-deploy"):
        others = [
            row
            for row in result["rows"]
            if (row["network"], row["run"]) == (ours["network"], ours["run"]) and row is not ours and row[time] is not None
        ]
        best = min(others, key=lambda row: row[time], default=dict.fromkeys(ours))
        here = {"network": ours["network"], "run": ours["run"], "ms": ours[time], "MB": ours["MB"], "accuracy": ours["accuracy"]}
        theirs = {"ms ": best[time], "MB ": best["MB"], "accuracy ": best["accuracy"]}
        shown.append({**here, "fastest other": best["made by"] or "", **theirs})
    summary = result["summary"]
    worst, typical, size = (
        summary[name] for name in ("latency_ratio_to_best_peer", "median_latency_ratio", "size_ratio_to_best_peer")
    )
    said = (
        f"The fastest files of all: {worst} of the best other's latency where we do worst, {typical} in the median. "
        f"The smallest: {size} of the size."
    )
    return f"\n{markdown(shown)}\n\n{said}\n\n"


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "main-job": ("main-job", main_job),
    "demo": ("main-job", demo),
    "profile-carve": ("profile-carve", profile_carve),
    "profile-repeat": ("profile-repeat", rows),
    "profile-neighbour": ("profile-neighbour", rows),
    "profile-throughput": ("profile-throughput", profile_throughput),
    "profile-runtimes": ("profile-runtimes", rows),
    "finetune-cost": ("finetune-cost", finetune_cost),
    "finetune-sharing": ("finetune-sharing", finetune_sharing),
    "finetune-peers": ("finetune-peers", finetune_peers),
    "finetune-macs": ("finetune-macs", finetune_macs),
    "finetune-ablation": ("finetune-ablation", rows),
    "search-hat": ("search-hat", rows),
    "search-predictors": ("search-predictors", rows),
    "search-effort": ("search-effort", rows),
    "search-budgets": ("search-budgets", rows),
    "vit-embedding": ("vit-embedding", vit_embedding),
    "vit-latency": ("vit-latency", rows),
    "vit-cost": ("vit-cost", finetune_cost),
    "vit-sharing": ("vit-sharing", finetune_sharing),
    "vit-macs": ("vit-macs", finetune_macs),
    "vit-carve": ("vit-carve", profile_carve),
    "vit-predictors": ("vit-predictors", rows),
    "vit-promise": ("vit-promise", rows),
    "artifact-promise": ("artifact-promise", rows),
    "artifact-speedup": ("artifact-speedup", rows),
    "artifact-peers": ("artifact-peers", artifact_peers),
    "artifact-startup": ("artifact-startup", rows),
}
"""By marker: the result it is made from, and how."""


def fill(text: str, folder: Path = FOLDER) -> str:
    """``text`` with the block of every table replaced by what its result says now; one without a result stays as it is."""
    for name, (result, table) in TABLES.items():
        path = folder / f"{result}.json"
        if not path.is_file():
            continue
        block = table(read_json(path))
        pattern = re.compile(MARKER.format(name=name), re.DOTALL)
        text = pattern.sub(lambda match, block=block: f"{match[1]}{block}{match[2]}", text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    write_text(README, fill(README.read_text(encoding="utf-8")))
