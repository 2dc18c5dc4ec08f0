"""Errors a user can cause: one clear line each, and the exit code that goes with it."""

from __future__ import annotations

import click


class UserError(click.ClickException):
    """What was wrong, where, and what would be right, in one line and without a traceback."""


class BadInput(UserError):
    """A flag, file or setting that cannot be used."""

    exit_code = 2


class NoArchitectureFits(UserError):
    """No architecture of the space keeps the budget on the device."""

    exit_code = 3


class VerificationFailed(UserError):
    """An artifact is not what its manifest says: checksum, parity, accuracy or budget."""

    exit_code = 4


class TooNoisy(UserError):
    """The device is too busy for its timings to be believed."""

    exit_code = 5
