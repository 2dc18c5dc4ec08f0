"""Torch-Pruning as the peer: a model pruned until its graph has a latency, in an environment of its own.

The peer's graph gets what ours get: one export, the runtime's fused operators, the same protocol of measuring.
"""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from benchmarks.finetune.latency import Latencies
from benchmarks.finetune.rebuild import pruned_network
from benchmarks.finetune.subjects import pipeline
from benchmarks.finetune.trainings import FULL_FIRST, Need, Pruning, Training, Workshop
from benchmarks.results import REPOSITORY
from instatune_deploy.digests import digest, file_sha256
from instatune_deploy.files import read_json, write_json, write_text
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.tasks.packages import cache_folder

REQUIREMENTS = REPOSITORY / "benchmarks" / "environments" / "torch-pruning.txt"
SCRIPT = "benchmarks.finetune.prune"
ROWS = 256
"""Training rows whose gradients the Taylor criterion sees."""
STEPS = 8
MOST = 0.95
"""The largest ratio that is tried."""
NEAR = 0.02
"""A latency this close above the target is near enough."""


def environment() -> Path:
    """The Python of the peer's environment, made once in the cache. It sees this environment's packages, torch among them."""
    folder = cache_folder() / "environments" / f"torch-pruning-{file_sha256(REQUIREMENTS)[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        where = subprocess.run(
            [str(python), "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True
        ).stdout.strip()
        # its own packages come first on the path; no dependencies: those are ours
        install = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--target", where]
        subprocess.run([sys.executable, *install, "--requirement", str(REQUIREMENTS)], check=True)
        write_text(Path(where) / "project.pth", "\n".join([*site.getsitepackages(), ""]))
        (folder / "ready").touch()
    return python


def weights_path(workshop: Workshop, training: Training) -> Path:
    """Where the weights of a pruned model lie that ``training`` begins with."""
    assert training.pruning is not None
    return workshop.work / "pruned" / f"{digest({**_made_by(workshop, training), **vars(training.pruning)})[:16]}.safetensors"


def _made_by(workshop: Workshop, training: Training) -> dict[str, Any]:
    """What a pruned model depends on, whatever its ratio: the network that is pruned, the rows, the peer and how it is called."""
    begun = training.full_first if training.start == FULL_FIRST else replace(training, changes=(), pruning=None)
    script = REPOSITORY / Path(*SCRIPT.split(".")).with_suffix(".py")
    return {"of": workshop.key(begun), "rows": ROWS, "peer": file_sha256(REQUIREMENTS), "script": file_sha256(script)}


def load_pruned(work: Path, subject: str, weights: Path) -> tuple[SuperNetwork, Architecture]:
    """A pruned model as a sub-network (`rebuild.pruned_network`)."""
    from instatune_deploy.pipeline.inputs import load_inputs
    from instatune_deploy.supernet.load import load_pretrained

    inputs = load_inputs(pipeline(subject, {}, work))
    network, architecture = pruned_network(load_pretrained(inputs.model_folder, inputs.task.label_names, seed=0), weights)
    return network.eval(), architecture


@dataclass(frozen=True)
class Pruned:
    """A pruned model whose latency is known; its weights are kept."""

    pruning: Pruning
    architecture: Architecture
    hidden_size: int
    latency_ms: float


@dataclass(frozen=True)
class Peer:
    """Prunes to a latency. What was found is kept in ``pruned/``."""

    workshop: Workshop
    latencies: Latencies

    def at(self, training: Training, importance: str, hidden: bool, targets_ms: list[float]) -> list[Pruned]:
        """For every target the model pruned most that is not faster than it (`from_above`).

        training: an ordinary fine-tuning whose subject, seed, start and changes say what is pruned
        """
        asked = {"importance": importance, "hidden": hidden, "steps": STEPS, "latencies": self.latencies.path.name}
        asked |= _made_by(self.workshop, training)
        name = digest({**asked, "targets": [round(target, 2) for target in targets_ms]})[:16]
        path = self.workshop.work / "pruned" / f"{name}.json"
        if not path.is_file():
            with self._pruner(training, importance, hidden) as prune:
                tried: dict[float, Pruned] = {}

                def latency_ms(ratio: float) -> float:
                    if ratio not in tried:
                        tried[ratio] = self._measured(replace(training, pruning=Pruning(importance, hidden, ratio)), prune)
                    return tried[ratio].latency_ms

                full_ms = self.latencies.of([full := self.latencies.made.network.shape.full()])[full]
                ratios = [from_above(latency_ms, target, full_ms) for target in targets_ms]
                for ratio in ratios:
                    latency_ms(ratio)  # the unpruned model is not tried on the way
            found = [
                {"ratio": ratio, "latency_ms": tried[ratio].latency_ms, "architecture": tried[ratio].architecture.to_json()}
                | {"hidden_size": tried[ratio].hidden_size}
                for ratio in ratios
            ]
            write_json(path, {**asked, "targets_ms": targets_ms, "found": found})
            for pruned in tried.values():
                if pruned.pruning.ratio not in ratios:
                    weights_path(self.workshop, replace(training, pruning=pruned.pruning)).unlink()
        return [
            Pruned(
                Pruning(importance, hidden, item["ratio"]),
                Architecture.from_json(item["architecture"]),
                item["hidden_size"],
                item["latency_ms"],
            )
            for item in read_json(path)["found"]
        ]

    def _measured(self, training: Training, prune: Callable[[float, Path], None]) -> Pruned:
        pruning, path = training.pruning, weights_path(self.workshop, training)
        assert pruning is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            prune(pruning.ratio, path)
        network, architecture = load_pruned(self.workshop.work, training.subject, path)
        own = network if pruning.hidden else None  # with the stream uncut it is a sub-network of the full model
        latency_ms = self.latencies.of([architecture], own)[architecture]
        click.echo(f"Torch-Pruning, ratio {pruning.ratio:.4f}: {latency_ms:.2f} ms, {architecture}", err=True)
        return Pruned(pruning, architecture, network.shape.hidden_size, latency_ms)

    @contextmanager
    def _pruner(self, training: Training, importance: str, hidden: bool) -> Iterator[Callable[[float, Path], None]]:
        """A process of the peer's that prunes by any ratio to a file."""
        work = self.workshop.work
        settings = work / "pruned" / f"{training.subject}.json"
        write_text(settings, pipeline(training.subject, {}, work).model_dump_json())
        command = [environment(), "-m", SCRIPT, settings.absolute(), training.seed, importance]
        command += ["hidden" if hidden else "fixed", ROWS]
        if training.start == FULL_FIRST:
            self.workshop.make([Need(training.full_first)])
            command.append(Path(self.workshop.made(training.full_first).result["model"]).absolute())
        with subprocess.Popen(
            [str(part) for part in command], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            requests, answers = process.stdin, process.stdout

            def prune(ratio: float, path: Path) -> None:
                requests.write(json.dumps({"ratio": ratio, "out": str(path.absolute())}) + "\n")
                requests.flush()
                if not answers.readline():
                    raise click.ClickException("Torch-Pruning's process ended; what it said stands above")

            yield prune
            requests.close()


def from_above(latency_ms: Callable[[float], float], target_ms: float, full_ms: float, steps: int = STEPS) -> float:
    """A pruning ratio whose latency is not below ``target_ms``, and as near to it as ``steps`` measurements bring it.

    The peer is never given less latency than was asked for. Between the ratios that were tried, latency is taken to be a
    straight line, which ends near 0 where everything goes. Raises ValueError when the unpruned model takes no more than that.
    """
    if full_ms <= target_ms:
        raise ValueError(f"unpruned it takes {full_ms:.2f} ms, not more than {target_ms:.2f} ms")
    low, low_ms, high, high_ms = 0.0, full_ms, MOST, 0.0
    aim_ms = target_ms * (1 + NEAR / 2)
    for step in range(steps):
        # now and then the middle: a line through two points that are far apart comes nearer from one side only
        share = 0.5 if step % 3 == 2 else (low_ms - aim_ms) / (low_ms - high_ms)
        ratio = low + min(max(share, 0.02), 0.98) * (high - low)
        found_ms = latency_ms(ratio)
        if found_ms >= target_ms:
            low, low_ms = ratio, found_ms
        else:
            high, high_ms = ratio, found_ms
        if target_ms <= low_ms <= target_ms * (1 + NEAR):
            break
    return low
