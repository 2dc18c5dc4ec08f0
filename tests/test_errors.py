from __future__ import annotations

import errno
import os

import pytest

from instatune_deploy.errors import BadInput, NoArchitectureFits, TooNoisy, UserError, VerificationFailed, clear_os_errors, reason


def test_every_error_has_its_exit_code() -> None:
    kinds = (UserError, BadInput, NoArchitectureFits, VerificationFailed, TooNoisy)
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4, 5]
    assert str(BadInput("wrong")) == BadInput("wrong").message == "wrong"


def test_what_the_file_system_refuses_is_said_in_one_line() -> None:
    with (
        pytest.raises(BadInput, match="cannot write x: the disk is full; free some space and run again"),
        clear_os_errors("cannot write x"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # as libraries say it that have errors of their own
    with pytest.raises(BadInput, match="cannot write x: the disk is full"), clear_os_errors("cannot write x"):
        raise ValueError(f"io: {os.strerror(errno.ENOSPC)} (os error 28)")
    with pytest.raises(ValueError, match="another"), clear_os_errors("cannot write x"):
        raise ValueError("another")


def test_reason_is_short() -> None:
    assert reason(PermissionError(errno.EACCES, "Permission denied", "/a/b")) == "permission denied"
    assert reason(ValueError("first\nsecond")) == "first"
