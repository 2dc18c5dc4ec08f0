"""How long a step of super-network fine-tuning takes, beside an ordinary step. ``python -m benchmarks.finetune.cost``

Ordinary, low-cost (the full network teaches) and high-cost (a teacher does) fine-tuning, each without dropout, as the default
recipe trains, and with the model's, take turns step by step in one process: each in the loop of the Trainer that ships, on the
same batches in the same order, with the same attention and precision and on all cores. Sub-networks are drawn as the default
recipe draws them. A ratio is to the ordinary step with the same dropout, where the model has any. Of texts, movies only: rows of
others are of other lengths, which all six share. Let nothing else run meanwhile.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.finetune.harness import Bench, command
from benchmarks.finetune.turns import StepTimes, in_turns
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs

KINDS = ("ordinary", "low-cost", "high-cost")
DROPOUTS = ("none", "model")
WARM_UP = 5
BLOCK = 10
BLOCKS = 4
Way = tuple[str, str]
"""What is trained, and with which dropout."""


def cost(bench: Bench) -> None:
    """Step times of ordinary, low-cost and high-cost fine-tuning, in turns."""
    import torch

    blocks = 1 if bench.quick else BLOCKS
    inputs = load_inputs(bench.settings)
    ways = [(kind, dropout) for dropout in DROPOUTS[: 1 + bench.has_dropout] for kind in KINDS]
    seconds: dict[Way, list[list[float]]] = {way: [] for way in ways}
    for seed in range(bench.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            found = _timed(inputs, ways, seed, WARM_UP + blocks * BLOCK, Path(scratch))
        for way, steps in zip(ways, found, strict=True):
            seconds[way] += [steps[start : start + BLOCK] for start in range(WARM_UP, len(steps), BLOCK)]
        said = (f"{kind}, dropout {dropout}, {sum(steps):.1f} s" for (kind, dropout), steps in zip(ways, found, strict=True))
        click.echo(f"seed {seed}: {'; '.join(said)}", err=True)
    rows = _rows(seconds)
    ratios = {way: row["ratio to ordinary, same dropout"] for way, row in zip(ways, rows, strict=True)}
    spread = {way: block_ratios(seconds[way], seconds["ordinary", way[1]]) for way in ways}
    default = bench.settings.finetune.dropout if bench.has_dropout else "none"
    summary = {
        **{f"step_time_ratio_{kind.replace('-', '_')}": ratios[kind, default] for kind in KINDS[1:]},
        "spread_over_blocks": {
            f"{kind}, dropout {dropout}": [round(min(found), 3), round(max(found), 3)]
            for (kind, dropout), found in spread.items()
        },
    }
    said_too = {"timed_on": bench.first, "threads": torch.get_num_threads(), "steps": bench.seeds * blocks * BLOCK}
    bench.report("cost", rows, summary, dropout_on_both_sides=default, **said_too)


def _rows(seconds: Mapping[Way, Sequence[Sequence[float]]]) -> list[dict[str, Any]]:
    """A row for every way."""
    ratios = {way: block_ratios(seconds[way], seconds["ordinary", way[1]]) for way in seconds}
    return [
        {
            "step": kind,
            "dropout": dropout,
            "ms a step (median)": round(1e3 * statistics.median(step for block in seconds[kind, dropout] for step in block)),
            "ratio to ordinary, same dropout": round(total_ratio(seconds[kind, dropout], seconds["ordinary", dropout]), 3),
            "ratio by block of steps": f"{min(ratios[kind, dropout]):.2f} - {max(ratios[kind, dropout]):.2f}",
        }
        for kind, dropout in seconds
    ]


def _timed(inputs: PipelineInputs, ways: Sequence[Way], seed: int, steps: int, scratch: Path) -> list[list[float]]:
    """Seconds of every step, in the order of ``ways``."""
    from instatune_deploy.finetune.dropout import Dropout
    from instatune_deploy.finetune.ordinary import OrdinaryTrainer
    from instatune_deploy.finetune.trainer import PipelineTrainer
    from instatune_deploy.finetune.training import Training
    from instatune_deploy.pipeline.training import computes_in_bf16, load_model

    rows = inputs.task.training_rows(seed)
    # checkpoints are no part of a step
    always = {"max_steps": steps, "checkpoint_steps": steps + 1, "full_epochs": 0.0, "teacher": None}
    settings = inputs.settings.finetune.model_copy(update=always)
    pretrained = load_model(inputs, seed)

    def train(way: Way, watch: StepTimes) -> None:
        kind, dropout = way
        own = settings.model_copy(update={"dropout": dropout})
        folder = scratch / f"{kind}-{dropout}"
        training = Training(own, rows, inputs.task.collator(), folder, seed, computes_in_bf16(), lambda *done: None)
        arguments = training.arguments()
        arguments["callbacks"].append(watch)
        model = copy.deepcopy(pretrained)
        if kind == "ordinary":
            Dropout(model).switch(dropout == "model")
            trainer: Any = OrdinaryTrainer(model, **arguments)
        elif kind == "low-cost":
            trainer = PipelineTrainer(model, space=inputs.settings.space, settings=own, **arguments)
        else:
            high = own.model_copy(update={"gamma": 1.0, "teacher_epochs": None})
            teacher = copy.deepcopy(pretrained)  # what it says makes no difference to the time it takes
            trainer = PipelineTrainer(model, space=inputs.settings.space, settings=high, teacher=teacher, **arguments)
        training.run(trainer)

    return in_turns([lambda watch, way=way: train(way, watch) for way in ways])  # type: ignore[misc]


def block_ratios(blocks: Sequence[Sequence[float]], ordinary: Sequence[Sequence[float]]) -> list[float]:
    """Of each block, its seconds to those of the ordinary steps on the same batches."""
    return [sum(own) / sum(other) for own, other in zip(blocks, ordinary, strict=True)]


def total_ratio(blocks: Sequence[Sequence[float]], ordinary: Sequence[Sequence[float]]) -> float:
    """All seconds to all those of the ordinary steps: a mean step to a mean step, for sub-networks differ in size."""
    return sum(map(sum, blocks)) / sum(map(sum, ordinary))


if __name__ == "__main__":
    command(cost)()
