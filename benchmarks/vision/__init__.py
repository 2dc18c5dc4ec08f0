"""What the image pipeline starts from: model and data, fetched from where they are published."""

from __future__ import annotations

from typing import Any

import click

from instatune_deploy.errors import UserError


class Command(click.Command):
    """One whose `UserError` is one line and an exit code, as in the command line of the package."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except UserError as error:
            click.echo(f"Error: {error.message}", err=True)
            context.exit(error.exit_code)
