"""Errors a user can cause: one clear line each, and the exit code that goes with it. Standard library only: they are raised on
devices, too, that have nothing else of ours.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """What was wrong, where, and what would be right, in one line and without a traceback."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


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


@contextmanager
def clear_os_errors(what: str) -> Iterator[None]:
    """Turn the file system's refusals into one line that says ``what`` could not be done and why."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{what}: {reason(error)}") from error
    except Exception as error:
        # safetensors and tokenizers say in words what other libraries say with an OSError
        if os.strerror(errno.ENOSPC) not in str(error) or isinstance(error, UserError):
            raise
        raise BadInput(f"{what}: {reason(OSError(errno.ENOSPC, ''))}") from error


def reason(error: BaseException) -> str:
    """The part of an error that helps a person: no numbers, no repetition of the path."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space and run again"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).strip().split("\n")[0]
