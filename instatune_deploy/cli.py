"""The command line: what can be asked for. Everything else is in the rooms below, imported when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from instatune_deploy import __version__

if TYPE_CHECKING:
    from instatune_deploy.pipeline.job import Job

Command = Callable[..., None]


def _work_options(command: Command) -> Command:
    for option in (
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
    ):
        command = option(command)
    return command


def _device_options(required: bool) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in (
            click.option(
                "--output",
                default="artifacts",
                show_default=True,
                type=click.Path(path_type=Path),
                help="Folder of artifacts, one a device.",
            ),
            click.option("--budget", help="Latency that may not be exceeded: 20ms, p90:20ms. Default: none."),
            click.option(
                "--device", "devices", multiple=True, required=required, help="Hardware profile; repeat it for several devices."
            ),
        ):
            command = option(command)
        return command

    return decorate


class _Interruptible(click.Group):
    """Ctrl-C says what is kept instead of a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("\nInterrupted. Checkpoints and measurements are kept: the same command goes on from there.", err=True)
            context.exit(130)


@click.group(cls=_Interruptible, invoke_without_command=True, context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name="instatune-deploy")
@_work_options
@_device_options(required=False)
@click.pass_context
def main(context: click.Context, /, **options: Any) -> None:
    """Fine-tune a transformer once as a super-network, and deploy to every device the best sub-network under its budget.

    \b
        instatune-deploy --device xeon-cpu --budget 20ms

    Without a command all stages run. With one, its stage and whatever must come before it; what was done before is reused.
    """
    if context.invoked_subcommand is not None:
        given = [name for name in options if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
        if given:
            flag = "--device" if given[0] == "devices" else f"--{given[0]}"
            raise click.UsageError(f"{flag} stands before the command '{context.invoked_subcommand}'; options belong behind it")
        return
    if not options["devices"]:
        raise click.UsageError("which device? instatune-deploy --device NAME; `instatune-deploy devices` lists them")
    _job(**options).run()


@main.command()
@_work_options
def finetune(**options: Any) -> None:
    """Make the model a super-network and fine-tune it."""
    _job(**options).finetune()


@main.command()
@_work_options
@_device_options(required=True)
def profile(**options: Any) -> None:
    """Measure latency and accuracy of a first set of sub-networks on a device."""
    _job(**options).profile()


@main.command()
@_work_options
@_device_options(required=True)
def search(**options: Any) -> None:
    """Find the front of latency and accuracy on a device."""
    _job(**options).search()


@main.command()
@_work_options
@_device_options(required=True)
def export(**options: Any) -> None:
    """Export the most accurate sub-network within the budget as an artifact, and prove it."""
    _job(**options).run()


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Check an artifact: checksums, parity on its samples, and its budget measured again on this host.

    Exit code 0: all is well; 4: it is not what its manifest says; 5: this host is too noisy to say.
    """
    from instatune_deploy.artifact.verify import verify as verify_artifact

    report = verify_artifact(folder)
    for check in report.checks:
        word = {True: "ok", False: "FAILED", None: "unclear"}[check.ok]
        click.echo(f"{word:8}{check.name}: {check.detail}")
    report.raise_if_failed()
    click.echo(f"{folder} is what its manifest says.")


@main.command()
def devices() -> None:
    """List the hardware profiles, and which of them this host can serve."""
    from instatune_deploy.devices.host import this_host
    from instatune_deploy.devices.profile import all_profiles
    from instatune_deploy.report.devices import device_lines

    for line in device_lines(all_profiles(), this_host()):
        click.echo(line)


def _job(
    pipeline: str,
    work: Path,
    seed: int,
    devices: tuple[str, ...] = (),
    budget: str | None = None,
    output: Path = Path("artifacts"),
) -> Job:
    from instatune_deploy.budget import parse_budget

    limit = parse_budget(budget) if budget is not None else None
    # said before the heavy libraries load: a fork of the tokenizers is never wanted, and no hub is asked for what is local
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from instatune_deploy.pipeline.job import Job
    from instatune_deploy.terminal import Terminal

    return Job.of(pipeline, devices, limit, output, work, seed, Terminal())


if __name__ == "__main__":
    sys.exit(main())
