"""The database behind a measurement store: found, checked and opened, and what goes wrong with it said in one line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import sqlalchemy as sql
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError

from instatune_deploy.errors import BadInput, clear_os_errors, reason

LOCK_WAIT_S = 30.0
CONNECT_TIMEOUT_S = 10
RIGHT_URL = "right would be postgresql://USER:PASSWORD@HOST/DATABASE"


class Place(NamedTuple):
    """Where a store is.

    name: for messages; passwords are masked
    path: of the SQLite file; None for a server
    """

    name: str
    url: sql.URL
    path: Path | None


def locate(where: Path | str) -> Place:
    """``where``: an SQLite file or a database URL. ``BadInput`` when the installed packages cannot speak to such a database."""
    if isinstance(where, str) and "://" in where:
        url = _url(where)
        if url.get_backend_name() != "sqlite":
            return Place(url.render_as_string(), url, None)
        if not url.database or url.database == ":memory:":
            raise BadInput(f"measurement store {url.render_as_string()}: it names no file; right would be sqlite:///FILE")
        where = url.database
    path = Path(where)
    return Place(str(path), sql.URL.create("sqlite", database=str(path)), path)


def connect(place: Place, create: bool) -> Engine:
    """Open the database. An SQLite file is checked before anything is written: a damaged one stays as it is, byte for byte.

    create: make the file, and its folder, when it is missing; otherwise that is ``BadInput``
    """
    if place.path is None:
        timeout = {"connect_timeout": CONNECT_TIMEOUT_S} if place.url.get_backend_name() == "postgresql" else {}
        # a search measures for hours; servers drop connections that idle so long
        return sql.create_engine(place.url, pool_pre_ping=True, connect_args=timeout)
    _check_file(place.path, create)
    engine = sql.create_engine(place.url, connect_args={"timeout": LOCK_WAIT_S})
    _write_ahead(engine)
    return engine


@contextmanager
def clear_errors(place: Place) -> Iterator[None]:
    """Turn the database's refusals into ``BadInput``: which store, and why."""
    try:
        yield
    except DBAPIError as error:
        raise BadInput(f"measurement store {place.name}: {_why(error, place)}") from error


def damaged(why: str) -> DatabaseError:
    """What to raise when the content, not the database, shows that this is no store."""
    return DatabaseError(None, None, ValueError(why))


def _why(error: DBAPIError, place: Place) -> str:
    said = reason(error.orig or error)
    if place.path is None:
        return f"it cannot be used ({said})"
    if "locked" in said:
        return f"another process has locked it for more than {LOCK_WAIT_S:.0f} seconds; run again when it is done"
    if "disk is full" in said:
        return "the disk is full; free some space and run again (what was added before is kept)"
    if "unable to open" in said or "readonly" in said:
        return f"it cannot be used ({said}); the file and its folder must be writable"
    if isinstance(error, sql.exc.OperationalError):
        return f"it cannot be used ({said})"
    return f"it is damaged or no measurement store ({said}); it was left untouched: move it away to start a new one"


def _url(text: str) -> sql.URL:
    try:
        url = sql.make_url(text)
    except (ArgumentError, ValueError) as error:
        raise BadInput(f"measurement store: not a database URL; {RIGHT_URL}") from error
    if url.drivername in ("postgres", "postgresql"):
        # SQLAlchemy's own choice is the older psycopg2, and it does not know PostgreSQL's short name
        older = find_spec("psycopg") is None and find_spec("psycopg2") is not None
        url = url.set(drivername="postgresql+psycopg2" if older else "postgresql+psycopg")
    shown = url.render_as_string()
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except NoSuchModuleError as error:
        raise BadInput(f"measurement store {shown}: no kind of database is called '{url.drivername}'; {RIGHT_URL}") from error
    except ImportError as error:
        advice = "; pip install 'psycopg[binary]'" if url.drivername == "postgresql+psycopg" else ""
        raise BadInput(f"measurement store {shown}: its driver is not installed ({reason(error)}){advice}") from error
    if dialect.is_async:
        raise BadInput(f"measurement store {shown}: '{url.drivername}' is an asynchronous driver; {RIGHT_URL}")
    return url


def _check_file(path: Path, create: bool) -> None:
    """``DatabaseError`` for what is no database or whose pages contradict each other. Nothing is written to the file."""
    with clear_os_errors(f"measurement store {path}: it cannot be used"):
        if path.is_dir():
            raise BadInput(f"measurement store {path}: it is a folder; a store is a file, such as {path / 'measurements.sqlite'}")
        if not path.exists():
            if not create:
                raise BadInput(f"measurement store {path}: no such file")
            if path.parent.is_file():
                raise BadInput(f"measurement store {path}: it cannot be used: {path.parent} is no folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            return
    # read-only: even closing an ordinary connection would write the file's log back into it
    query = {"mode": "ro", "uri": "true"}
    url = sql.URL.create("sqlite", database=f"file:{quote(str(path.absolute()))}", query=query)
    engine = sql.create_engine(url, connect_args={"timeout": LOCK_WAIT_S})
    try:
        with engine.connect() as connection:
            if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
                raise damaged("its pages contradict each other")
    finally:
        engine.dispose()


def _write_ahead(engine: Engine) -> None:
    """Readers and a writer at once. The mode stays in the file; changing it does not wait for locks by itself."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except sql.exc.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
