"""The command line: what can be asked for. Everything else is in the rooms below, imported when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from instatune_deploy import __version__
from instatune_deploy.errors import UserError

if TYPE_CHECKING:
    from instatune_deploy.pipeline.job import Job

Command = Callable[..., None]


def _all_of(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator of several; the last option is listed first."""

    def decorate(command: Command) -> Command:
        for option in options:
            command = option(command)
        return command

    return decorate


_work_options = _all_of(
    click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Of everything random."),
    click.option(
        "--work",
        default="runs",
        show_default=True,
        type=click.Path(path_type=Path),
        help="Folder of super-networks and measurements; what is there is reused.",
    ),
    click.option(
        "--pipeline", default="pipelines/sentiment.yaml", show_default=True, help="What to fine-tune on what: a YAML file."
    ),
)


_store_options = _all_of(
    click.option(
        "--store", metavar="FILE|URL", help="SQLite file or database URL (postgresql://...), instead of the one in --work."
    ),
    click.option(
        "--work",
        default="runs",
        show_default=True,
        type=click.Path(path_type=Path),
        help="Folder whose measurements are meant.",
    ),
)


_filter_options = _all_of(
    click.option("--believed/--not-believed", default=None, help="Only these. Default: both."),
    click.option("--since", metavar="TIME", help="Only what began then or later: 2026-01-31, 2026-01-31T12:00 (UTC)."),
    click.option("--architecture", metavar="DIGITS", help="Only this one: the first digits of its name, as listed."),
    click.option("--host", help="Only of the host with this fingerprint."),
    click.option("--provider", help="Only on this provider: cpu, cuda, tensorrt, gpu, npu."),
    click.option("--threads", type=click.IntRange(1, 2**31 - 1), help="Only with so many threads."),
    click.option("--precision", help="Only in this precision: fp32, bf16, fp16, int8, int8-dynamic."),
    click.option("--runtime", help="Only in this runtime: onnxruntime, openvino."),
    click.option("--device", help="Only what this hardware profile asked for first."),
)


_embed_option = click.option(
    "--embed-preprocessing",
    metavar="[HEIGHTxWIDTH]",
    is_flag=False,
    flag_value="data",
    help="Resizing and normalising are part of the graph, which takes images of this size, 8 bits a value (480x640); "
    "without a value of that of the validation images, where they have one. It is part of what is measured.",
)

_device_options = _all_of(
    click.option(
        "--output",
        default="artifacts",
        show_default=True,
        type=click.Path(path_type=Path),
        help="Folder of artifacts, one a device.",
    ),
    click.option(
        "--layout",
        default="plain",
        show_default=True,
        type=click.Choice(["plain", "ovms", "triton"]),
        help="Also write a model repository for OpenVINO Model Server or Triton; only what that can run is searched.",
    ),
    click.option(
        "--compare",
        type=click.Path(path_type=Path),
        help="Folder of earlier artifacts: exit code 4 when a new one is worse by more than the next two allow.",
    ),
    click.option("--max-latency-increase", default="5%", show_default=True, help="Allowed by --compare."),
    click.option("--max-accuracy-drop", default="0.5", show_default=True, help="Points, allowed by --compare."),
    click.option("--model-name", help="What it is called in the repository. Default: the device's name."),
    click.option("--dynamic-length", is_flag=True, help="The graph also takes other numbers of tokens (not promised for them)."),
    click.option("--dynamic-batch", is_flag=True, help="The graph also takes other numbers of rows (not promised for them)."),
    _embed_option,
    click.option("--archive", is_flag=True, help="Also write what was made as one zip file; the same files, the same bytes."),
    click.option("--store", metavar="FILE|URL", help="Where measurements are kept, instead of a file in --work."),
    click.option(
        "--measure-again",
        is_flag=True,
        help="Measure anew what was measured before; the older measurements are kept, the newer count.",
    ),
    click.option(
        "--budget",
        "budgets",
        multiple=True,
        help="What may not be exceeded: 20ms, p90:20ms, size:30MB, memory:200MB, macs:2G; accuracy:0.85 must be reached, "
        "as fast as can be. Repeat it for several. Default: none.",
    ),
    click.option(
        "--device",
        "devices",
        multiple=True,
        help="Hardware profile; repeat it for several devices. With a matrix file: only its targets for these.",
    ),
)


class ClearErrors(click.Command):
    """A command, or a group of them, in which what a user did wrong is one line and an exit code, not a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"Error: {error.message}", err=True)
            context.exit(error.exit_code)


class _Main(ClearErrors, click.Group):
    """The commands. Ctrl-C in any of them says what is kept."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. Checkpoints and measurements are kept: the same command goes on from there.", err=True)
            context.exit(130)


@click.group(cls=_Main, invoke_without_command=True, context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name="instatune-deploy")
@_work_options
@_device_options
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Fine-tune a transformer once as a super-network, and deploy to every device the best sub-network under its budget.

    \b
        instatune-deploy --device xeon-cpu --budget 20ms

    Without a command all stages run. With one, its stage and whatever must come before it; what was done before is reused.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context, options)
        return
    _with_targets(**options).run()


@main.command()
@_work_options
def finetune(**options: Any) -> None:
    """Make the model a super-network and fine-tune it."""
    _job(**options).finetune()


@main.command()
@_work_options
@_device_options
def profile(**options: Any) -> None:
    """Measure latency and accuracy of a first set of sub-networks on a device."""
    _with_targets(**options).profile()


@main.command()
@_work_options
@_device_options
def search(**options: Any) -> None:
    """Find the front of latency and accuracy on a device."""
    _with_targets(**options).search()


@main.command()
@_work_options
@_device_options
def export(**options: Any) -> None:
    """Export the best sub-network within the budget as an artifact, and prove it."""
    _with_targets(**options).run()


@main.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--device", metavar="NAME", help="Hardware profile (or a YAML file) that this host must be, and that must run it so."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def verify(artifact: Path, device: str | None, as_json: bool) -> None:
    """Check an artifact: checksums, parity on its samples, and its budget measured again on this host.

    ARTIFACT: its folder, or the zip file of it. Exit code 0: all is well; 4: it is not what its manifest says; 5: this host is
    too noisy to say.
    """
    from instatune_deploy.artifact.verify import verify_path
    from instatune_deploy.artifact.words import refused, said
    from instatune_deploy.devices.host import this_host
    from instatune_deploy.devices.profile import load_profile, resolve

    try:
        report = verify_path(artifact, None if device is None else resolve(load_profile(device), this_host()))
    except UserError as error:
        if as_json:
            click.echo(refused(artifact, error))
        raise
    for text in said(report, artifact, as_json):
        click.echo(text)
    report.raise_if_failed()


@main.command()
@click.argument("profiles", nargs=-1)
def devices(profiles: tuple[str, ...]) -> None:
    """List the hardware profiles, and which of them this host can serve; or only PROFILES (names or YAML files)."""
    from instatune_deploy.devices.host import this_host
    from instatune_deploy.devices.profile import all_profiles, load_profile
    from instatune_deploy.report.devices import device_lines

    for line in device_lines([load_profile(name) for name in profiles] or all_profiles(), this_host()):
        click.echo(line)


@main.command()
@click.option(
    "--work", default="runs", show_default=True, type=click.Path(path_type=Path), help="Folder that will be written to."
)
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
def doctor(work: Path, as_json: bool) -> None:
    """Check the installation and this host, and say what would make timings steadier. Takes some seconds.

    Exit code 0: usable, whatever the notes say; 2: not usable.
    """
    try:
        from instatune_deploy.devices.doctor import Findings, diagnose, raise_if_unusable
        from instatune_deploy.report.doctor import as_json_text, print_checks
    except ImportError as error:
        from instatune_deploy.errors import BadInput

        raise BadInput(f"the package {error.name} is not installed; `pip install instatune-deploy` installs all") from error
    findings = Findings.of_this_host(work)
    checks = diagnose(findings)
    if as_json:
        click.echo(as_json_text(findings, checks))
    else:
        print_checks(checks)
    raise_if_unusable(checks)


@main.command()
@_work_options
@_embed_option
@click.option("--device", required=True, help="Hardware profile of the device, which this host need not be.")
@click.option(
    "--output", default="kits", show_default=True, type=click.Path(path_type=Path), help="Folder of kits, one a device."
)
@click.option(
    "--architectures",
    type=click.IntRange(min=2),
    help="How many sub-networks to measure. Default: the pipeline's search.initial.",
)
def kit(device: str, output: Path, architectures: int | None, **options: Any) -> None:
    """Write a zip with graphs and a script that measures them on a device that is elsewhere.

    What the script finds there, `instatune-deploy measurements import` takes in here.
    """
    from instatune_deploy.devices.profile import load_profile
    from instatune_deploy.files import check_writable

    profile = load_profile(device)
    check_writable(output)
    job = _job(**options)
    from instatune_deploy.pipeline.kit import make_kit
    from instatune_deploy.report.kit import kit_lines

    made = make_kit(job, profile, output, architectures)
    for line in kit_lines(made.path, made.plan, options["work"]):
        click.echo(line)


@main.command("convert-beit3")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write, which is not there yet.")
@click.option(
    "--head",
    type=click.Choice(["none", "image-classification", "vqa", "nlvr2"]),
    help="What the checkpoint must be for. Default: what it is for.",
)
@click.option("--attention-heads", type=click.IntRange(min=1), help="Default: one for 64 of its hidden size, as official ones.")
def convert_beit3(checkpoint: Path, output: Path, head: str | None, attention_heads: int | None) -> None:
    """Make a model folder (config.json, model.safetensors) of an official BEiT-3 checkpoint. CHECKPOINT: its .pth file.

    Only tensors and plain values are loaded, no code.
    """
    from instatune_deploy.supernet.beit3.convert import convert, converted_lines

    for line in converted_lines(convert(checkpoint, output, head, attention_heads), output):
        click.echo(line)


@main.group(invoke_without_command=True)
@_store_options
@_filter_options
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 2**31 - 1), help="Show the newest so many.")
@click.pass_context
def measurements(context: click.Context, /, work: Path, store: str | None, limit: int, **filters: Any) -> None:
    """List what was measured, the newest last. With a command: show, export or import measurements."""
    if context.invoked_subcommand is not None:
        _refuse_options_before(context, context.params)
        return
    from instatune_deploy.devices.store import FILE_NAME, open_store
    from instatune_deploy.report.measurements import nothing_yet, print_list

    if store is None and not (work / FILE_NAME).exists():
        click.echo(nothing_yet(str(work / FILE_NAME)))
        return
    with open_store(work, store) as opened:
        print_list(opened, limit, filters)


@measurements.command()
@click.argument("number", metavar="ID", type=click.IntRange(1, 2**31 - 1))
@_store_options
def show(number: int, work: Path, store: str | None) -> None:
    """Print everything of one measurement as JSON. ID: as listed."""
    from instatune_deploy.devices.store import open_store
    from instatune_deploy.report.measurements import record_json

    with open_store(work, store) as opened:
        click.echo(record_json(opened, number))


@measurements.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@_store_options
@_filter_options
@click.option("--limit", type=click.IntRange(1, 2**31 - 1), help="Only the newest so many. Default: all.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def export_measurements(file: Path, work: Path, store: str | None, limit: int | None, force: bool, **filters: Any) -> None:
    """Write measurements to FILE.csv or FILE.parquet, one flat row each."""
    from instatune_deploy.devices.store import open_store
    from instatune_deploy.report.flat import check_file, write_flat
    from instatune_deploy.words import counted

    check_file(file, force)
    with open_store(work, store) as opened:
        written = write_flat(opened.records(limit=limit, **filters), file)
    click.echo(f"{counted(written, 'measurement')} written to {file}", err=True)


@measurements.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@_store_options
@click.option("--again", is_flag=True, help="What was measured anew counts from now on; the older rows are kept.")
def import_measurements(file: Path, work: Path, store: str | None, again: bool) -> None:
    """Take in what a kit measured on another device. FILE: its results.json, or a zip file with it."""
    from instatune_deploy.devices.imports import add_results, read_results
    from instatune_deploy.devices.store import open_store
    from instatune_deploy.report.imported import imported_lines

    checked = read_results(file, work)
    with open_store(work, store, create=True) as opened:
        imported = add_results(checked, opened, again)
    for line in imported_lines(imported):
        click.echo(line)


def _refuse_options_before(context: click.Context, options: dict[str, Any]) -> None:
    given = [name for name in options if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if given:
        named = {"devices": "--device", "budgets": "--budget", "believed": "--believed or --not-believed"}
        flag = named.get(given[0], "--" + given[0].replace("_", "-"))
        raise click.UsageError(f"{flag} stands before the command '{context.invoked_subcommand}'; options belong behind it")


def _with_targets(**options: Any) -> Job:
    job = _job(**options)
    if not job.targets:
        raise click.UsageError("which device? instatune-deploy --device NAME; `instatune-deploy devices` lists them")
    return job


def _job(
    pipeline: str,
    work: Path,
    seed: int,
    devices: tuple[str, ...] = (),
    budgets: tuple[str, ...] = (),
    output: Path = Path("artifacts"),
    measure_again: bool = False,
    store: str | None = None,
    layout: str = "plain",
    model_name: str | None = None,
    archive: bool = False,
    dynamic_batch: bool = False,
    dynamic_length: bool = False,
    embed_preprocessing: str | None = None,
    compare: Path | None = None,
    max_latency_increase: str = "5%",
    max_accuracy_drop: str = "0.5",
) -> Job:
    from instatune_deploy.budget import parse_budgets

    budget = parse_budgets(budgets)
    # said before the heavy libraries load: a fork of the tokenizers is never wanted, and no hub is asked for what is local
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from instatune_deploy.pipeline.embedding import parse_source
    from instatune_deploy.pipeline.handover import Handover
    from instatune_deploy.pipeline.job import Job
    from instatune_deploy.terminal import Terminal

    gate = None
    if compare is not None:
        from instatune_deploy.artifact.compare import Gate

        gate = Gate.of(compare, max_latency_increase, max_accuracy_drop)
    opened = tuple(axis for axis, wanted in (("batch", dynamic_batch), ("tokens", dynamic_length)) if wanted)
    embeds = embed_preprocessing is not None
    source = None if embed_preprocessing is None else parse_source(embed_preprocessing)
    handover = Handover(output, layout, model_name, archive, gate, opened, embeds, source)
    return Job.of(pipeline, devices, budget, handover, work, seed, Terminal(), measure_again, store)


if __name__ == "__main__":
    sys.exit(main())
