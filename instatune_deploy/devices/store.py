"""The store of measurements and accuracies: a database that is only ever added to.

An SQLite file through SQLAlchemy, so that a team's PostgreSQL is a URL away. Every addition is committed before the call
returns: a process that is killed loses nothing that it had added.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, OperationalError

from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.tables import ACCURACIES, MEASUREMENTS, create_tables
from instatune_deploy.errors import BadInput
from instatune_deploy.files import canonical_json, clear_os_errors, reason
from instatune_deploy.supernet.architecture import Architecture

LOCK_WAIT_S = 30.0


class MeasurementStore:
    """Measurements and accuracies, safe for several processes at once.

    Every method raises ``BadInput`` when the store cannot be used: locked, corrupt (it is left untouched) or unwritable.
    """

    def __init__(self, where: Path | str) -> None:
        """``where``: an SQLite file (made when missing, its folder too) or a database URL such as postgresql://..."""
        self.name = str(where)
        if isinstance(where, str) and "://" in where:
            url = _server_url(where)
            self.name = url.render_as_string(hide_password=True)
        else:
            path = Path(where)
            with clear_os_errors(f"cannot write {path}"):
                path.parent.mkdir(parents=True, exist_ok=True)
            url = sql.URL.create("sqlite", database=str(path))
        with self._clear_errors():
            self._engine = _engine(url)
            with self._engine.begin() as connection:
                create_tables(connection)

    def __enter__(self) -> MeasurementStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def add(self, measurement: Measurement) -> bool:
        """Keep ``measurement``; False when a believed one of the same key is there already (the older one stays)."""
        deployment, timing = measurement.deployment, measurement.timing
        return self._insert(
            MEASUREMENTS,
            key=measurement.key,
            believed_key=measurement.key if measurement.believed else None,
            device=measurement.device,
            runtime=deployment.runtime,
            precision=deployment.precision,
            threads=deployment.threads,
            architecture=deployment.architecture.digest,
            graph_hash=measurement.graph_hash,
            host=measurement.host,
            p50_ms=timing and timing.p50_ms,
            p90_ms=timing and timing.p90_ms,
            p99_ms=timing and timing.p99_ms,
            payload=canonical_json(measurement.to_json()),
        )

    def find(self, key: str) -> Measurement | None:
        """The believed measurement of that key."""
        found = self._measurements(MEASUREMENTS.c.believed_key == key)
        return found[0] if found else None

    def select(
        self,
        *,
        device: str | None = None,
        runtime: str | None = None,
        precision: str | None = None,
        architecture: Architecture | None = None,
        graph_hash: str | None = None,
        host: str | None = None,
        believed: bool | None = True,
    ) -> list[Measurement]:
        """Measurements in the order they were added, narrowed to what is given. ``believed`` None gives all.

        ``device`` is the profile that asked first: another one with the same settings finds its measurements by key.
        """
        given = {
            "device": device,
            "runtime": runtime,
            "precision": precision,
            "architecture": architecture and architecture.digest,
            "graph_hash": graph_hash,
            "host": host,
        }
        conditions = [MEASUREMENTS.c[column] == value for column, value in given.items() if value is not None]
        if believed is not None:
            key = MEASUREMENTS.c.believed_key
            conditions.append(key.is_not(None) if believed else key.is_(None))
        return self._measurements(*conditions)

    def add_accuracy(
        self, network_key: str, architecture: Architecture, *, split: str, rows: int, how: str, accuracy: float
    ) -> bool:
        """Keep the accuracy (0 to 1) of a sub-network on the first ``rows`` rows of a split; False when it is there already.

        network_key: of the super-network's weights
        how:         what computed it, such as ``pytorch-fp32``
        """
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy must lie between 0 and 1: {accuracy}")
        return self._insert(
            ACCURACIES,
            network_key=network_key,
            architecture=architecture.digest,
            split=split,
            rows=rows,
            how=how,
            accuracy=accuracy,
            architecture_json=canonical_json(architecture.to_json()),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def find_accuracy(self, network_key: str, architecture: Architecture, *, split: str, rows: int, how: str) -> float | None:
        """The accuracy that `add_accuracy` kept, or None."""
        return self.accuracies(network_key, split=split, rows=rows, how=how).get(architecture)

    def accuracies(self, network_key: str, *, split: str, rows: int, how: str) -> dict[Architecture, float]:
        """All accuracies of one super-network that were made the same way, in the order they were added."""
        table = ACCURACIES.c
        query = (
            sql.select(table.architecture_json, table.accuracy)
            .where(table.network_key == network_key, table.split == split, table.rows == rows, table.how == how)
            .order_by(table.id)
        )
        with self._clear_errors(), self._engine.connect() as connection:
            found = connection.execute(query).all()
        return {Architecture.from_json(json.loads(text)): accuracy for text, accuracy in found}

    def _measurements(self, *conditions: sql.ColumnElement[bool]) -> list[Measurement]:
        query = sql.select(MEASUREMENTS.c.payload).where(*conditions).order_by(MEASUREMENTS.c.id)
        with self._clear_errors(), self._engine.connect() as connection:
            payloads = connection.execute(query).scalars().all()
        return [Measurement.from_json(self._read(payload), f"measurement store {self.name}") for payload in payloads]

    def _read(self, payload: str) -> Any:
        try:
            return json.loads(payload)
        except ValueError as error:
            raise BadInput(f"measurement store {self.name}: it holds a row that is no JSON ({reason(error)})") from error

    def _insert(self, table: sql.Table, **values: Any) -> bool:
        with self._clear_errors():
            try:
                with self._engine.begin() as connection:
                    connection.execute(table.insert().values(**values))
            except IntegrityError:  # another process may have been first: the unique key decides, not a look beforehand
                return False
        return True

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            said = reason(error.orig or error)
            if isinstance(error, OperationalError) and "locked" in said:
                why = f"another process has locked it for more than {LOCK_WAIT_S:.0f} seconds; run again when it is done"
            elif isinstance(error, OperationalError):
                why = f"it cannot be used ({said})"
            else:
                why = f"it is damaged or no database ({said}); it was left untouched: move it away to start a new one"
            raise BadInput(f"measurement store {self.name}: {why}") from error


def _server_url(text: str) -> sql.URL:
    """``BadInput`` unless SQLAlchemy and the installed packages can speak to such a database."""
    try:
        url = sql.make_url(text)
        url.get_dialect().import_dbapi()
    except ArgumentError as error:
        raise BadInput(
            "measurement store: not a database URL; right would be postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from error
    except ImportError as error:
        raise BadInput(f"measurement store {url.render_as_string()}: its driver is not installed ({reason(error)})") from error
    return url


def _engine(url: sql.URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return sql.create_engine(url)
    engine = sql.create_engine(url, connect_args={"timeout": LOCK_WAIT_S})
    with engine.connect() as connection:
        # before anything is written: a damaged file stays as it is
        if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
            raise DatabaseError(None, None, ValueError("its pages contradict each other"))
    _write_ahead(engine)
    return engine


def _write_ahead(engine: Engine) -> None:
    """Readers and a writer at once. The mode stays in the file; changing it does not wait for locks by itself."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
