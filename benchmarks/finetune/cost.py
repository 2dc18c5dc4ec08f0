"""How long a step of super-network fine-tuning takes, beside an ordinary step. ``python -m benchmarks.finetune.cost``

Ordinary, low-cost (the full network teaches) and high-cost (a teacher does) fine-tuning take turns step by step in one
process, each in the loop of the Trainer that ships, on the same batches in the same order, with the same attention and
precision and on all cores. Sub-networks are drawn as the default recipe draws them. Let nothing else run meanwhile.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.finetune.harness import Bench, command
from benchmarks.finetune.subjects import pipeline
from benchmarks.finetune.turns import StepTimes, in_turns
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs

WAYS = ("ordinary", "low-cost", "high-cost")
WARM_UP = 5
BLOCK = 10
BLOCKS = 6


def cost(bench: Bench) -> None:
    """Step times of ordinary, low-cost and high-cost fine-tuning, in turns."""
    import torch

    subject = bench.subjects[0]
    blocks = 1 if bench.quick else BLOCKS
    inputs = load_inputs(pipeline(subject, {}, bench.work))
    seconds: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for seed in range(bench.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            found = _timed(inputs, seed, WARM_UP + blocks * BLOCK, Path(scratch))
        for way, steps in zip(WAYS, found, strict=True):
            seconds[way] += [steps[start : start + BLOCK] for start in range(WARM_UP, len(steps), BLOCK)]
        click.echo(
            f"seed {seed}: {', '.join(f'{way} {sum(steps):.1f} s' for way, steps in zip(WAYS, found, strict=True))}", err=True
        )
    ratios = {way: block_ratios(seconds[way], seconds["ordinary"]) for way in WAYS}
    rows = [
        {
            "step": way,
            "ms a step (median)": round(1e3 * statistics.median(step for block in seconds[way] for step in block)),
            "ratio to ordinary": round(total_ratio(seconds[way], seconds["ordinary"]), 3),
            "ratio by block of steps": f"{min(ratios[way]):.2f} - {max(ratios[way]):.2f}",
        }
        for way in WAYS
    ]
    summary = {
        "step_time_ratio_low_cost": rows[1]["ratio to ordinary"],
        "step_time_ratio_high_cost": rows[2]["ratio to ordinary"],
        "spread_over_blocks": {way: [round(min(found), 3), round(max(found), 3)] for way, found in ratios.items()},
    }
    bench.report("cost", rows, summary, timed_on=subject, threads=torch.get_num_threads(), steps=bench.seeds * blocks * BLOCK)


def _timed(inputs: PipelineInputs, seed: int, steps: int, scratch: Path) -> list[list[float]]:
    """Seconds of every step, by way."""
    from instatune_deploy.finetune.ordinary import _Trainer as OrdinaryTrainer
    from instatune_deploy.finetune.trainer import _Trainer as SuperNetworkTrainer
    from instatune_deploy.finetune.training import Training
    from instatune_deploy.pipeline.training import computes_in_bf16, training_rows
    from instatune_deploy.supernet.load import load_pretrained

    rows = training_rows(inputs)
    # checkpoints are no part of a step
    always = {"max_steps": steps, "checkpoint_steps": steps + 1, "full_epochs": 0.0, "teacher": None}
    settings = inputs.settings.finetune.model_copy(update=always)
    high = settings.model_copy(update={"gamma": 1.0, "teacher_epochs": None})
    pretrained = load_pretrained(inputs.model_folder, inputs.data.label_names, seed)

    def train(way: str, watch: StepTimes) -> None:
        training = Training(settings, rows, inputs.tokenizer, scratch / way, seed, computes_in_bf16(), lambda *done: None)
        arguments = training.arguments()
        arguments["callbacks"].append(watch)
        model = copy.deepcopy(pretrained)
        if way == "ordinary":
            trainer: Any = OrdinaryTrainer(model, **arguments)
        elif way == "low-cost":
            trainer = SuperNetworkTrainer(model, space=inputs.settings.space, settings=settings, **arguments)
        else:
            teacher = copy.deepcopy(pretrained)  # what it says makes no difference to the time it takes
            trainer = SuperNetworkTrainer(model, space=inputs.settings.space, settings=high, teacher=teacher, **arguments)
        training.run(trainer)

    return in_turns([lambda watch, way=way: train(way, watch) for way in WAYS])  # type: ignore[misc]


def block_ratios(blocks: Sequence[Sequence[float]], ordinary: Sequence[Sequence[float]]) -> list[float]:
    """Of each block, its seconds to those of the ordinary steps on the same batches."""
    return [sum(own) / sum(other) for own, other in zip(blocks, ordinary, strict=True)]


def total_ratio(blocks: Sequence[Sequence[float]], ordinary: Sequence[Sequence[float]]) -> float:
    """All seconds to all those of the ordinary steps: a mean step to a mean step, for sub-networks differ in size."""
    return sum(map(sum, blocks)) / sum(map(sum, ordinary))


if __name__ == "__main__":
    command(cost)()
