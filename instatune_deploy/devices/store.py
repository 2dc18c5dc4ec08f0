"""The store of measurements, reference latencies and accuracies: a database that is only ever added to.

An SQLite file through SQLAlchemy, so that a team's PostgreSQL is a URL away. Every addition is committed before the call
returns: a process that is killed loses nothing that it had added.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from instatune_deploy.devices.database import clear_errors, connect, locate
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.tables import ACCURACIES, MEASUREMENTS, REFERENCES, create_tables, utc
from instatune_deploy.digests import canonical_json
from instatune_deploy.errors import BadInput, reason
from instatune_deploy.supernet.architecture import Architecture

FILE_NAME = "measurements.sqlite"
"""Of the store in a work folder."""
BATCH = 1000
HEX = set("0123456789abcdef")


class Filters(TypedDict, total=False):
    """What narrows a selection; what is missing or None narrows nothing.

    device:       the profile that asked first: another one with the same settings finds its measurements by key
    architecture: an Architecture, or the first digits of its digest
    host:         `Host.fingerprint`
    since:        ISO 8601; began then or later (UTC where no zone is said)
    """

    device: str | None
    runtime: str | None
    precision: str | None
    threads: int | None
    provider: str | None
    architecture: Architecture | str | None
    graph_hash: str | None
    host: str | None
    since: str | None


class Record(NamedTuple):
    """A measurement as the store has it. ``id`` and ``key`` never change; ids increase in the order of addition."""

    id: int
    key: str
    measurement: Measurement


class Counts(NamedTuple):
    """How many measurements there are, how many of them are believed, and of how many devices and hosts they are."""

    measurements: int
    believed: int
    devices: int
    hosts: int


class MeasurementStore:
    """Measurements, reference latencies and accuracies, safe for several processes at once.

    Every method raises ``BadInput`` when the store cannot be used: locked, corrupt (it is left untouched) or unwritable.
    """

    def __init__(self, where: Path | str, create: bool = True) -> None:
        """``where``: an SQLite file or a database URL such as postgresql://...

        create: make a missing file, its folder too; otherwise that is ``BadInput``
        """
        self._place = locate(where)
        self.name = self._place.name
        with clear_errors(self._place):
            self._engine = connect(self._place, create)
            with self._engine.begin() as connection:
                create_tables(connection)

    def __enter__(self) -> MeasurementStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def add(self, measurement: Measurement, again: bool = False) -> bool:
        """Keep ``measurement``; False when a believed one of the same key is there already (the older one stays).

        again: keep it beside the older one; from then on `find` gives the newer
        """
        key, table = measurement.key, MEASUREMENTS.c
        if not measurement.believed:
            return self._insert(MEASUREMENTS, sql.false(), believed_key=None, **_columns(measurement))
        first = self._count(MEASUREMENTS, table.key == key, table.believed_key.is_not(None)) if again else 0
        for generation in itertools.count(first):
            name = f"{key}#{generation}" if generation else key
            if self._insert(MEASUREMENTS, table.believed_key == name, believed_key=name, **_columns(measurement)):
                return True
            if not again:
                break
        return False

    def find(self, key: str) -> Measurement | None:
        """The believed measurement of that key, the newest if it was measured again."""
        found = self._records([MEASUREMENTS.c.key == key, MEASUREMENTS.c.believed_key.is_not(None)], limit=1)
        return next((record.measurement for record in found), None)

    def get(self, number: int) -> Record | None:
        """The record with that id."""
        return next(self._records([MEASUREMENTS.c.id == number]), None)

    def select(self, *, believed: bool | None = True, limit: int | None = None, **filters: Unpack[Filters]) -> list[Measurement]:
        """Measurements in the order they were added, narrowed by `Filters`; the newest ``limit`` of them.

        ``believed`` None gives all. What was measured again is there as often as it was.
        """
        return [record.measurement for record in self.records(believed=believed, limit=limit, **filters)]

    def records(self, *, believed: bool | None = None, limit: int | None = None, **filters: Unpack[Filters]) -> Iterator[Record]:
        """The same with ids; read bit by bit, so that a large store need not fit into memory."""
        return self._records(_conditions(believed, filters), limit)

    def counts(self, *, believed: bool | None = None, **filters: Unpack[Filters]) -> Counts:
        """Of what `records` would give without a limit."""
        table = MEASUREMENTS.c
        devices, hosts = (sql.func.count(sql.distinct(column)) for column in (table.device, table.host))
        query = sql.select(sql.func.count(), sql.func.count(table.believed_key), devices, hosts).select_from(MEASUREMENTS)
        with clear_errors(self._place), self._engine.connect() as connection:
            return Counts(*connection.execute(query.where(*_conditions(believed, filters))).one())

    def add_reference(
        self, key: str, *, device: str, run: Run, host: str, version: str, nominal_ms: float, again: bool = False
    ) -> float:
        """Keep what the reference model takes on a quiet host, in ms; gives the one that counts, which an earlier one may be.

        key:   `reference_key`
        again: this one counts from now on
        """
        if not (math.isfinite(nominal_ms) and nominal_ms > 0):
            raise ValueError(f"nominal_ms must be more than 0: {nominal_ms}")
        table = REFERENCES.c
        for generation in itertools.count(self._count(REFERENCES, table.key == key) if again else 0):
            added = self._insert(
                REFERENCES,
                sql.and_(table.key == key, table.generation == generation),
                key=key,
                generation=generation,
                device=device,
                **run._asdict(),
                host=host,
                version=version,
                nominal_ms=nominal_ms,
                made=_now(),
            )
            if added or not again:
                break
        counts = self.find_reference(key)
        return nominal_ms if counts is None else counts

    def find_reference(self, key: str) -> float | None:
        """The nominal latency that counts, in ms."""
        table = REFERENCES.c
        query = sql.select(table.nominal_ms).where(table.key == key).order_by(table.generation.desc()).limit(1)
        with clear_errors(self._place), self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def add_accuracy(
        self, network_key: str, architecture: Architecture, *, split: str, rows: int, how: str, accuracy: float
    ) -> bool:
        """Keep the accuracy (0 to 1) of a sub-network on the first ``rows`` rows of a split; False when it is there already.

        network_key: of the super-network's weights
        how:         what computed it, such as ``pytorch-fp32`` or ``openvino int8``
        """
        if not 0 <= accuracy <= 1:
            raise ValueError(f"accuracy must lie between 0 and 1: {accuracy}")
        return self._insert(
            ACCURACIES,
            sql.and_(*_made_so(network_key, split, rows, how), ACCURACIES.c.architecture == architecture.digest),
            network_key=network_key,
            architecture=architecture.digest,
            split=split,
            rows=rows,
            how=how,
            accuracy=accuracy,
            architecture_json=canonical_json(architecture.to_json()),
            made=_now(),
        )

    def find_accuracy(self, network_key: str, architecture: Architecture, *, split: str, rows: int, how: str) -> float | None:
        """The accuracy that `add_accuracy` kept, or None."""
        conditions = [*_made_so(network_key, split, rows, how), ACCURACIES.c.architecture == architecture.digest]
        with clear_errors(self._place), self._engine.connect() as connection:
            return connection.execute(sql.select(ACCURACIES.c.accuracy).where(*conditions)).scalar()

    def accuracies(self, network_key: str, *, split: str, rows: int, how: str) -> dict[Architecture, float]:
        """All accuracies of one super-network that were made the same way, in the order they were added."""
        table = ACCURACIES.c
        query = sql.select(table.id, table.architecture_json, table.accuracy).order_by(table.id)
        with clear_errors(self._place), self._engine.connect() as connection:
            found = connection.execute(query.where(*_made_so(network_key, split, rows, how))).all()
        return {Architecture.from_json(self._read(row.architecture_json, f"accuracy {row.id}")): row.accuracy for row in found}

    def _records(self, conditions: list[sql.ColumnElement[bool]], limit: int | None = None) -> Iterator[Record]:
        table = MEASUREMENTS.c
        query = sql.select(table.id, table.key, table.payload)
        if limit is None:
            query = query.where(*conditions)
        else:
            newest = sql.select(table.id).where(*conditions).order_by(table.id.desc()).limit(limit)
            query = query.where(table.id.in_(newest.scalar_subquery()))
        query = query.order_by(table.id).execution_options(yield_per=BATCH)
        with clear_errors(self._place), self._engine.connect() as connection:
            for row in connection.execute(query):
                where = f"measurement {row.id}"
                value = self._read(row.payload, where)
                yield Record(row.id, row.key, Measurement.from_json(value, f"measurement store {self.name}: {where}"))

    def _count(self, table: sql.Table, *conditions: sql.ColumnElement[bool]) -> int:
        with clear_errors(self._place), self._engine.connect() as connection:
            return connection.execute(sql.select(sql.func.count()).select_from(table).where(*conditions)).scalar_one()

    def _read(self, payload: str, what: str) -> Any:
        try:
            return json.loads(payload)
        except ValueError as error:
            raise BadInput(f"measurement store {self.name}: {what} is a row that is no JSON ({reason(error)})") from error

    def _insert(self, table: sql.Table, taken: sql.ColumnElement[bool], **values: Any) -> bool:
        """False when there is a row for which ``taken`` holds: another process may have been first, the unique key decides."""
        with clear_errors(self._place):
            try:
                with self._engine.begin() as connection:
                    connection.execute(table.insert().values(**values))
            except IntegrityError:
                with self._engine.connect() as connection:
                    if connection.execute(sql.select(sql.exists().where(taken))).scalar():
                        return False
                raise
        return True


def open_store(work: Path, store: str | None, create: bool = False) -> MeasurementStore:
    """The store in the folder ``work``, or the SQLite file or database URL ``store`` where one is given."""
    return MeasurementStore(work / FILE_NAME if store is None else store, create)


def _columns(measurement: Measurement) -> dict[str, Any]:
    deployment, timing = measurement.deployment, measurement.timing
    return {
        "key": measurement.key,
        "device": measurement.device,
        **deployment.run._asdict(),
        "architecture": deployment.architecture.digest,
        "graph_hash": measurement.graph_hash,
        "host": measurement.host,
        "p50_ms": timing and timing.p50_ms,
        "p90_ms": timing and timing.p90_ms,
        "p99_ms": timing and timing.p99_ms,
        "payload": canonical_json(measurement.to_json()),
        "started": utc(measurement.circumstances.get("started")),
    }


def _conditions(believed: bool | None, filters: Filters) -> list[sql.ColumnElement[bool]]:
    table = MEASUREMENTS.c
    conditions: list[sql.ColumnElement[bool]] = []
    if believed is not None:
        conditions.append(table.believed_key.is_not(None) if believed else table.believed_key.is_(None))
    for name, value in filters.items():
        if value is None:
            continue
        if name == "architecture":
            conditions.append(_architecture(value))
        elif name == "since":
            moment = utc(value)
            if moment is None:
                raise BadInput(f"since '{value}': not a time; right would be 2026-01-31 or 2026-01-31T12:00")
            conditions.append(table.started >= moment)
        else:
            conditions.append(table[name] == value)
    return conditions


def _architecture(value: Any) -> sql.ColumnElement[bool]:
    column = MEASUREMENTS.c.architecture
    if isinstance(value, Architecture):
        return column == value.digest
    if not value or not set(value.lower()) <= HEX:
        raise BadInput(f"architecture '{value}': right would be the first digits of one as listed, such as 3f9a01")
    # no LIKE: a range finds them in the index
    return column.between(value.lower(), f"{value.lower()}g")


def _made_so(network_key: str, split: str, rows: int, how: str) -> list[sql.ColumnElement[bool]]:
    table = ACCURACIES.c
    return [table.network_key == network_key, table.split == split, table.rows == rows, table.how == how]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
