"""The ground truth of the search benchmarks: architectures of a pipeline's space, each really measured.

The pipeline's super-network is fine-tuned; of every architecture the latency is measured in both runtimes (fp32, one thread, one
row) and the accuracy on the validation rows. What was measured is kept in a store, so one that was
stopped goes on; the finished pool is one Parquet file, which the other benchmarks read. Let nothing else run until it says so.
``python -m benchmarks.search.pool``
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.families import TEXT, Family, family_option
from benchmarks.results import FOLDER
from instatune_deploy.cli import ClearErrors
from instatune_deploy.config import ProfileSettings, RunSettings, SearchSettings
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.profile import resolve
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.store import open_store
from instatune_deploy.pipeline.bench import Bench, Point
from instatune_deploy.pipeline.inputs import load_inputs
from instatune_deploy.pipeline.supernet import finetune_stage
from instatune_deploy.search.design import spread_over_cost
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.terminal import Terminal

WORK = TEXT.work("search")
SPARE = 0.05
"""So many more are drawn, for those whose latency cannot be believed."""
PROFILE = ProfileSettings(
    name="pool",
    description="both runtimes, one thread",
    runs=[RunSettings(runtime="onnxruntime", precision="fp32"), RunSettings(runtime="openvino", precision="fp32")],
    threads=1,
)
STATISTICS = ("p50", "p90")
ABOUT = b"instatune-deploy"
"""Where the file says what the pool is of."""


@dataclass(frozen=True)
class Pool:
    """Architectures and what they were measured at.

    genotypes: (n, genes), canonical
    latency:   milliseconds by runtime and statistic, (n,) each; ``upper``: what p90 stays below with 95% confidence, by runtime
    accuracy:  (n,), 0 to 1, on the validation rows
    about:     host and commit, a JSON value
    """

    space: SearchSpace
    shape: ModelShape
    tokens: int
    genotypes: np.ndarray
    latency: dict[str, dict[str, np.ndarray]]
    upper: dict[str, np.ndarray]
    accuracy: np.ndarray
    about: dict[str, Any]

    def __len__(self) -> int:
        return len(self.genotypes)

    @property
    def runtimes(self) -> list[str]:
        """Those that latencies are of."""
        return list(self.latency)

    def objectives(self, runtime: str) -> np.ndarray:
        """(n, 2): latency (p90, ms) and error."""
        return np.column_stack([self.latency[runtime]["p90"], 1 - self.accuracy])

    def macs(self, genotypes: np.ndarray) -> np.ndarray:
        """Of one input, (n, genes) -> (n,)."""
        return self.space.macs(genotypes, self.shape, self.tokens)

    def save(self, path: Path) -> None:
        """One row an architecture; space, shape and host in the file's own description."""
        columns: dict[str, Any] = {
            "genotype": [json.dumps(row) for row in self.genotypes.tolist()],
            "architecture": [str(self.space.decode(row)) for row in self.genotypes],
            "macs": self.macs(self.genotypes),
            "accuracy": self.accuracy,
        }
        for runtime, by_statistic in self.latency.items():
            columns |= {f"{runtime}_{statistic}_ms": values for statistic, values in by_statistic.items()}
            columns[f"{runtime}_upper_ms"] = self.upper[runtime]
        about = {"space": self.space.to_json(), "shape": self.shape.to_json(), "tokens": self.tokens, **self.about}
        table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.replace_schema_metadata({ABOUT: json.dumps(about)}), path)

    @classmethod
    def load(cls, path: Path, family: Family = TEXT) -> Pool:
        """The inverse of `save`. family: what it is a pool of. Raises ClickException when there is none."""
        if not path.is_file():
            make = f"python -m benchmarks.search.pool{family.option}"
            raise click.ClickException(f"{path}: no such file; make the pool first: {make}")
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[ABOUT])
        frame = table.to_pandas()
        runtimes = [name.removesuffix("_upper_ms") for name in frame.columns if name.endswith("_upper_ms")]
        return cls(
            space=SearchSpace.from_json(about.pop("space")),
            shape=ModelShape(**about.pop("shape")),
            tokens=about.pop("tokens"),
            genotypes=np.array([json.loads(text) for text in frame["genotype"]], dtype=np.int64),
            latency={
                runtime: {statistic: frame[f"{runtime}_{statistic}_ms"].to_numpy() for statistic in STATISTICS}
                for runtime in runtimes
            },
            upper={runtime: frame[f"{runtime}_upper_ms"].to_numpy() for runtime in runtimes},
            accuracy=frame["accuracy"].to_numpy(),
            about=about,
        )


def chosen(space: SearchSpace, shape: ModelShape, count: int, tokens: int) -> np.ndarray:
    """(count, genes), different: half of them evenly spread over MACs, with those whose layers are alike, half of them any."""
    uniform = np.array([space.encode(item) for item in space.uniform()])
    spread = spread_over_cost(
        space,
        lambda genotypes: space.macs(genotypes, shape, tokens),
        count // 2,
        np.random.default_rng(0),
        include=np.concatenate([np.array([space.encode(space.largest()), space.encode(space.smallest())]), uniform]),
        prefer=uniform,
    )
    rest = space.sample(np.random.default_rng(1), 4 * count)
    return np.array(list(dict.fromkeys(map(tuple, np.concatenate([spread, rest]).tolist())))[:count], dtype=np.int64)


def file_of(family: Family) -> Path:
    """Where its pool lies."""
    return FOLDER / f"{family.result('search-pool')}.parquet"


def bench_of(work: Path, laboratory: Laboratory, terminal: Terminal, family: Family = TEXT) -> Bench:
    """The pipeline's super-network, trained when it is not there, on this host."""
    inputs = load_inputs(family.settings().model_copy(update={"search": SearchSettings()}))
    device = inputs.on(resolve(PROFILE, this_host()))
    return Bench(inputs, finetune_stage(inputs, work, 0, terminal), device, laboratory)


def measured(bench: Bench, genotypes: np.ndarray, count: int) -> dict[tuple[int, ...], dict[str, Point]]:
    """The first ``count`` that are to be believed, by genotype and runtime.

    All latencies first: only these need a quiet machine. Accuracy is that of ONNX Runtime's graph: it runs rows of like length
    together on all cores, and in fp32 both runtimes decide alike.
    """
    space, found = bench.supernet.space, dict[tuple[int, ...], dict[str, Point]]()
    believed: dict[tuple[int, ...], dict[Run, Measurement]] = {}
    with click.progressbar(length=count, label="latencies", show_pos=True) as bar:
        for row in genotypes:
            latencies = {run: bench.latency(space.decode(row), run) for run in bench.device.runs}
            if all(item.believed for item in latencies.values()):
                believed[tuple(row.tolist())] = latencies
                bar.update(1)
            if len(believed) == count:
                break
    click.echo("every latency is measured: other work no longer disturbs")
    with click.progressbar(believed.items(), label="accuracies", length=len(believed), show_pos=True) as rest:
        for row, items in rest:
            architecture = space.decode(np.array(row))
            accuracy, macs = bench.accuracy(architecture, bench.device.runs[0], "validation"), bench.macs(architecture)
            found[row] = {run.runtime: Point(architecture, run, item, accuracy, macs) for run, item in items.items()}
    return found


def made_of(bench: Bench, found: Mapping[tuple[int, ...], Mapping[str, Point]]) -> Pool:
    """The pool of what was measured."""

    def timings(runtime: str) -> list[Any]:
        return [points[runtime].measurement.timing for points in found.values()]

    runtimes = [run.runtime for run in bench.device.runs]
    return Pool(
        space=bench.supernet.space,
        shape=bench.supernet.shape,
        tokens=bench.device.sequence_length,
        genotypes=np.array(list(found), dtype=np.int64),
        latency={
            runtime: {
                statistic: np.array([each.statistic_ms(statistic) for each in timings(runtime)]) for statistic in STATISTICS
            }
            for runtime in runtimes
        },
        upper={runtime: np.array([each.upper_ms("p90") for each in timings(runtime)]) for runtime in runtimes},
        accuracy=np.array([points[runtimes[0]].accuracy for points in found.values()]),
        about={"host": bench.device.host.describe(), "supernet": bench.supernet.key, "rows": "validation"},
    )


def made_up(count: int = 160) -> Pool:
    """A pool of the same form in a small space, its figures computed: for smoke runs."""
    shape = ModelShape(layers=4, heads=4, mlp_width=64, hidden_size=32, head_size=8, fixed_parameters=0, layer_parameters=0)
    space = SearchSpace(4, (2, 3, 4), (1, 2, 4), (16, 32, 64))
    genotypes = chosen(space, shape, count, 16)
    rng, (heads, widths) = np.random.default_rng(0), space.sizes(genotypes)
    took = 1 + 0.4 * (heads > 0).sum(axis=1) + 0.1 * heads.sum(axis=1) + 0.01 * widths.sum(axis=1)
    accuracy = 0.5 + 0.3 * (heads.sum(axis=1) / 16) ** 0.5 + 0.1 * (widths.sum(axis=1) / 256) ** 0.5
    latency = {
        runtime: {statistic: took * times * (1 + 0.01 * rng.random(len(took))) for statistic in STATISTICS}
        for runtime, times in (("onnxruntime", 1.0), ("openvino", 0.8))
    }
    upper = {runtime: 1.02 * values["p90"] for runtime, values in latency.items()}
    return Pool(space, shape, 16, genotypes, latency, upper, accuracy + 0.005 * rng.random(len(accuracy)), {})


def architecture_of(pool: Pool, index: int) -> Architecture:
    """The network at ``index``."""
    return pool.space.decode(pool.genotypes[index])


@click.command(cls=ClearErrors, help=__doc__)
@click.option("--count", type=int, help="Architectures; 1000 of texts, 300 of images when not given.")
@click.option("--work", type=click.Path(path_type=Path), help="Super-network and measurements; below runs/ when not given.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="What is written; among the results when not given.")
@family_option
def main(count: int | None, work: Path | None, path: Path | None, family: Family) -> None:
    """Make the pool."""
    count, work, path = count or family.pool, work or family.work("search"), path or file_of(family)
    work.mkdir(parents=True, exist_ok=True)
    with open_store(work, None, create=True) as store, closing(Laboratory(store, scratch=work)) as laboratory:
        bench = bench_of(work, laboratory, Terminal(), family)
        drawn = chosen(bench.supernet.space, bench.supernet.shape, round(count * (1 + SPARE)), bench.device.sequence_length)
        made = made_of(bench, measured(bench, drawn, count))
    made.save(path)
    click.echo(f"{path}: {len(made)} architectures")


if __name__ == "__main__":
    main()
