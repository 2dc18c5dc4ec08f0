"""The measuring script of a kit: `python measure.pyz`, on the device. Needs NumPy and the plan's runtimes, and nothing else."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instatune_deploy.devices.host_facts import host_facts
from instatune_deploy.devices.plan import REFERENCE, Item, Plan, Unusable, check_files, inputs_name, package_of, read_plan
from instatune_deploy.devices.results import DIED, RESULTS, Results, believed
from instatune_deploy.devices.runs import Run

if TYPE_CHECKING:
    from instatune_deploy.devices.probe import Probe
    from instatune_deploy.devices.runtimes.base import Inputs

BAD_INPUT, TOO_NOISY, INTERRUPTED = 2, 5, 130
UNSTEADY = "the device's own speed cannot be said"


def main(arguments: Sequence[str] | None = None) -> int:
    """What was asked for on the command line; the exit code.

    0: measured; 2: something cannot be used; 5: more than half of what ran could not be believed; 130: stopped by Ctrl-C
    """
    options = _options(arguments)
    try:
        return _main(Path(sys.argv[0]).resolve().parent if options.folder is None else options.folder, options)
    except Unusable as error:
        print(f"Error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped. What was measured is kept: the same command goes on from there.", file=sys.stderr)
        return INTERRUPTED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="measure.pyz", description="Measure the graphs of this kit on this device.")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"write the results there (default: {RESULTS} beside the plan)"
    )
    parser.add_argument("--only", type=int, metavar="N", help="measure the first N of the plan")
    parser.add_argument("--runtime", metavar="NAME", help="measure only what this runtime runs")
    parser.add_argument("--list", action="store_true", help="list what is measured, and measure nothing")
    parser.add_argument("--again", action="store_true", help="measure again what the results have already")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="folder of the unpacked kit (default: that of this script)")
    options = parser.parse_args(arguments)
    if options.only is not None and options.only < 1:
        parser.error(f"--only must be at least 1 (found {options.only})")
    return options


def _main(folder: Path, options: argparse.Namespace) -> int:
    plan, facts = read_plan(folder), host_facts()
    items = [item for item in plan.on(facts["cores"]) if options.runtime in (None, item.run.runtime)][: options.only]
    if not items:
        raise Unusable(f"--runtime {options.runtime}: nothing of the plan is run by it")
    path = (options.output or folder / RESULTS).absolute()
    results = Results.open(path, plan, facts)
    known = {} if options.again else results.items
    if options.list:
        for number, item in enumerate(items, 1):
            print(f"{number:4}  {item.graph}  {item.run}: {_said(known[item.key]) if item.key in known else 'to be measured'}")
        return 0
    # first what was never measured, then what was not believed: an interrupted run goes on before it tries anything again
    missing = [item for item in items if item.key not in known]
    doubted = [item for item in items if item.key in known and not believed(known[item.key]) and known[item.key]["why"] != DIED]
    todo = [*missing, *doubted]
    print(f"{plan.device}: {len(items)} to measure, {len(items) - len(todo)} of them done before")
    if todo:
        _check_packages(todo)
        check_files(folder, [*plan.files.items(), *{item.graph: item.sha256 for item in todo}.items()])
        _Session(folder, plan, results, facts["cores"], options.again).measure(todo)
    return _summary(items, results)


def _check_packages(items: list[Item]) -> None:
    for module, package in {"numpy": "numpy", **{item.run.runtime: package_of(item.run) for item in items}}.items():
        if importlib.util.find_spec(module) is None:
            otherwise = "" if module == "numpy" else "; --runtime NAME measures only what another runtime runs"
            raise Unusable(f"{package} is not installed: pip install {package}{otherwise}")


class _Session:
    """One start of the script: reference models loaded, inputs read when they are needed."""

    def __init__(self, folder: Path, plan: Plan, results: Results, cores: int, again: bool) -> None:
        from instatune_deploy.devices.probe import Probe

        self.folder, self.plan, self.results, self.cores, self.again = folder, plan, results, cores, again
        # all of the plan, not only what is asked for now: a later start is to measure as this one does
        one_number = len({(item.run.threads, item.run.provider) for item in plan.items if item.run.runtime == "onnxruntime"}) <= 1
        self.probe: Probe = Probe(folder / REFERENCE, share=one_number)
        self.inputs: dict[str, Inputs] = {}
        self.nominal: dict[Run, tuple[float | None, str | None]] = {}

    def measure(self, items: list[Item]) -> None:
        start = time.monotonic()
        try:
            for number, item in enumerate(items, 1):
                outcome = self._outcome(item) if self.results.begin(item) else self._nothing(item.run, DIED)
                self.results.add(item, outcome)
                left = (time.monotonic() - start) / number * (len(items) - number)
                said = f", about {_duration(left)} left" if number < len(items) else ""
                print(f"{number} of {len(items)}{said}: {item.graph}, {item.run}: {_said(outcome)}", flush=True)
        except BaseException:
            # whoever stops it did not die of the item
            self.results.end()
            raise

    def _outcome(self, item: Item) -> dict[str, Any]:
        run = item.run
        nominal_ms, why = self._nominal_ms(run)
        if nominal_ms is None:
            return self._nothing(run, why)
        try:
            inputs = self._inputs(inputs_name(item.deployment))
            outcome = self.probe.measure(self.folder / item.graph, inputs, run, self.plan.protocol, nominal_ms)
        except Unusable:
            raise
        except Exception as error:  # the runtimes' own errors share no class: one graph must not cost the others their turn
            return self._nothing(run, f"it could not be run: {_reason(error)}")
        return outcome.to_json()

    def _inputs(self, name: str) -> Inputs:
        """What a file of inputs holds; read once."""
        import numpy as np

        if name not in self.inputs:
            with np.load(self.folder / name, allow_pickle=False) as arrays:
                self.inputs[name] = {key: arrays[key] for key in arrays.files}
        return self.inputs[name]

    def _nominal_ms(self, run: Run) -> tuple[float | None, str | None]:
        """Of the reference model beside ``run``: as the results have it, else said now, once for each way of running."""
        if run not in self.nominal:
            version = self._version(run)
            known = None if self.again else self.results.nominal_ms(run, version)
            self.nominal[run] = known, None
            alike = known or self._alike(run)
            if known is None and alike is not None:
                self.nominal[run] = alike, None
                self.results.add_reference(run, version, alike, None)
            elif known is None:
                print(f"how fast this device is: the reference model, {run}", flush=True)
                self.nominal[run] = self._calibrated(run)
                self.results.add_reference(run, version, *self.nominal[run])
        found, why = self.nominal[run]
        if why is not None and why.startswith(UNSTEADY):
            del self.nominal[run]  # it may be quiet when the next one comes
        return found, why

    def _alike(self, run: Run) -> float | None:
        """What was said of another way of running beside which the reference model is run alike: fp32 for int8."""
        from instatune_deploy.devices.probe import reference_run

        said = (found for other, (found, _) in self.nominal.items() if reference_run(other) == reference_run(run))
        return next((found for found in said if found is not None), None)

    def _calibrated(self, run: Run) -> tuple[float | None, str | None]:
        if run.threads > self.cores:
            return None, f"it runs {run.threads} threads, and there are {self.cores} cores"
        try:
            found, why = self.probe.nominal_ms(run, self.plan.protocol)
        except Exception as error:  # as above
            return None, f"this device cannot run it so: {_reason(error)}"
        return found, None if why is None else f"{UNSTEADY}: {why}"

    def _nothing(self, run: Run, why: str | None) -> dict[str, Any]:
        return {"timing": None, "why": why, "version": self._version(run), "circumstances": {}}

    @staticmethod
    def _version(run: Run) -> str:
        from instatune_deploy.devices.runtimes.modules import version_for

        return version_for(run)


def _summary(items: list[Item], results: Results) -> int:
    known = results.items
    found = [known[item.key] for item in items if item.key in known]
    good = sum(map(believed, found))
    noisy = sum(not believed(item) and (item["timing"] is not None or item["why"].startswith(UNSTEADY)) for item in found)
    print(f"{good} of {len(items)} measured and believed; send back {results.path}")
    if not good and not noisy:
        raise Unusable(f"nothing could be measured: {found[-1]['why']}")
    if noisy > good:
        print("Error: more than half could not be believed: stop what else runs here, and run it again", file=sys.stderr)
        return TOO_NOISY
    return 0


def _said(outcome: dict[str, Any]) -> str:
    timing, why = outcome["timing"], outcome["why"]
    figures = "" if timing is None else f"p50 {timing['p50_ms']:.2f} ms, p90 {timing['p90_ms']:.2f} ms"
    doubt = "" if why is None else f"not believed: {why}" if figures else f"not measured: {why}"
    return "; ".join(part for part in (figures, doubt) if part)


def _reason(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)


def _duration(seconds: float) -> str:
    """``45 s``, ``3 min``."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    sys.exit(main())
