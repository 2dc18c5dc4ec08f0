"""A kit for a device that is elsewhere: one zip with graphs to measure, and a script that measures them without this package."""

from __future__ import annotations

import hashlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instatune_deploy import __version__
from instatune_deploy.config import ProfileSettings
from instatune_deploy.devices.host import Host
from instatune_deploy.devices.measure import Laboratory
from instatune_deploy.devices.plan import ALL_CORES, GRAPHS, PLAN, REFERENCE, Item, Plan, inputs_name, plan_path
from instatune_deploy.devices.profile import Device
from instatune_deploy.devices.pyz import build_pyz
from instatune_deploy.devices.reference import reference_graph
from instatune_deploy.devices.results import RESULTS
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.runtimes.modules import MODULES
from instatune_deploy.devices.store import open_store
from instatune_deploy.digests import file_sha256
from instatune_deploy.errors import clear_os_errors
from instatune_deploy.files import write_text
from instatune_deploy.pipeline.bench import Bench
from instatune_deploy.pipeline.job import Job
from instatune_deploy.pipeline.search import Searcher
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.tasks.base import Arrays
from instatune_deploy.zips import write_zip

SCRIPT, README = "measure.pyz", "README.txt"
MAIN_MODULE = "instatune_deploy.devices.script"
UNKNOWN_HOST = Host("", "", frozenset(), cores=ALL_CORES, memory_bytes=0, os="")
README_TEXT = """\
Measure {graphs} graphs as the hardware profile '{device}' says. Made by instatune-deploy {version}.

1. Unpack all of this on the device; leave the files together.
2. Install Python 3.10 or newer, and:  pip install {packages}
3. Stop what else runs there, and:     python {script}
   It shows how long it will take. Ctrl-C stops it; the same command goes on from there.
   python {script} --help lists what else it can do.
4. Send back {results}. Where this kit was made, this takes it in:
                                       instatune-deploy measurements import {results}
"""


@dataclass(frozen=True)
class Kit:
    """A finished kit: where it is, how large, and what it measures."""

    path: Path
    plan: Plan


def make_kit(job: Job, profile: ProfileSettings, output: Path, architectures: int | None = None) -> Kit:
    """Write ``output``/NAME.zip for the device of ``profile``, which this host need not be.

    The super-network is fine-tuned first unless it was before. Measured are those sub-networks that a search would begin
    with, in every way of running that the profile has; which of them the device can serve turns out there.

    architectures: how many of them (at least 2: the full and the smallest network); the pipeline's setting for None

    The plan is kept in the work folder: that is how `devices.imports` knows what it asked for.
    """
    there = elsewhere(profile)
    inputs, supernet = job.prepare((there,))
    device = inputs.on(there)
    with (
        tempfile.TemporaryDirectory(dir=job.work, prefix=".kit.") as scratch,
        # nothing is measured here: a bench only wants to have one
        open_store(Path(scratch), None, create=True) as store,
    ):
        bench = Bench(inputs, supernet, device, Laboratory(store))
        search = job.settings.search
        if architectures is not None:
            search = search.model_copy(update={"initial": architectures})
        searcher = Searcher(bench, search, None, job.seed, job.terminal)
        design, space = searcher.design(), searcher.space
        job.terminal.stage(f"kit for {device.name}: {len(design)} deployments")
        path = output / f"{device.name}.zip"
        with clear_os_errors(f"cannot write {path}"):
            files = Path(scratch) / "kit"
            files.mkdir()
            plan = _write_files(bench, [space.decode(row) for row in design], files, job)
            write_text(plan_path(job.work, plan.digest), plan.to_text())
            write_zip(files, path)
    return Kit(path, plan)


def elsewhere(profile: ProfileSettings) -> Device:
    """The device of a profile with everything the profile would try; "all" threads are `ALL_CORES` until it is known there."""
    given = profile.threads if isinstance(profile.threads, list) else [profile.threads]
    threads = list(dict.fromkeys(ALL_CORES if count == "all" else count for count in given))
    return Device(
        name=profile.name,
        runs=tuple(Run(item.runtime, item.precision, count, item.provider) for item in profile.runs for count in threads),
        skipped=(),
        batch_size=profile.batch_size,
        sequence_length=profile.sequence_length,
        statistic=profile.statistic,
        timing=profile.timing,
        settings=profile,
        host=UNKNOWN_HOST,
    )


def _write_files(bench: Bench, wanted: list[tuple[Architecture, Run]], folder: Path, job: Job) -> Plan:
    """Everything that is zipped; the plan among it."""
    from instatune_deploy.graphs.packed import WEIGHTS, PackedGraphs

    items = []
    examples: dict[str, bytes] = {}
    written: dict[str, tuple[str, str, int]] = {}
    (folder / GRAPHS).mkdir()
    with PackedGraphs(folder / GRAPHS) as packed, job.terminal.progress(len(wanted), "carved") as advance:
        for number, (architecture, run) in enumerate(wanted, 1):
            graph_hash = bench.graph_hash(architecture, run)
            # the same graph in another number of threads or a precision of the runtime's own is written once
            if graph_hash not in written:
                carved = bench.graph(architecture, run)
                name = f"{len(written) + 1:04}.onnx"
                written[graph_hash] = f"{GRAPHS}/{name}", packed.add(name, carved), carved.size_bytes
            name, sha256, size_bytes = written[graph_hash]
            deployment = bench.on(architecture).deployment(architecture, run).to_json()
            if (name_of_inputs := inputs_name(deployment)) not in examples:
                examples[name_of_inputs] = _packed(bench.example(architecture))
            items.append(Item(name, graph_hash, sha256, size_bytes, deployment))
            advance(number, "")
    shared = {**examples, REFERENCE: reference_graph()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in shared.items()}
    sums[f"{GRAPHS}/{WEIGHTS}"] = file_sha256(folder / GRAPHS / WEIGHTS)
    plan = Plan(__version__, bench.device.name, bench.device.timing.model_dump(), sums, tuple(items))
    texts = {PLAN: plan.to_text().encode(), README: _readme(plan).encode()}
    for name, content in {**shared, **texts, SCRIPT: build_pyz(MAIN_MODULE, [*MODULES.values()])}.items():
        (folder / name).write_bytes(content)
    return plan


def _packed(arrays: Arrays) -> bytes:
    """As an npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _readme(plan: Plan) -> str:
    return README_TEXT.format(
        graphs=len({item.graph for item in plan.items}),
        device=plan.device,
        version=plan.made_by,
        packages=" ".join(plan.packages),
        script=SCRIPT,
        results=RESULTS,
    )
