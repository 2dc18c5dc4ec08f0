"""The tables of the measurement store. What is asked for has a column; the rest of a record is its JSON.

A store of an earlier version is brought up to date by adding: no row and no column of it is ever changed or dropped.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from instatune_deploy.devices.database import damaged

METADATA = sql.MetaData()

MEASUREMENTS = sql.Table(
    "measurements",
    METADATA,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("key", sql.String, nullable=False, index=True),
    # the key again, but only of what is believed: one such row a key, any number of others (NULLs are never equal).
    # What was measured again has `#1`, `#2`, ... behind it
    sql.Column("believed_key", sql.String, unique=True),
    sql.Column("device", sql.String, nullable=False),
    sql.Column("runtime", sql.String, nullable=False),
    sql.Column("precision", sql.String, nullable=False),
    sql.Column("threads", sql.Integer, nullable=False),
    sql.Column("architecture", sql.String, nullable=False, index=True),
    sql.Column("graph_hash", sql.String, nullable=False, index=True),
    sql.Column("host", sql.String, nullable=False),
    sql.Column("p50_ms", sql.Float),
    sql.Column("p90_ms", sql.Float),
    sql.Column("p99_ms", sql.Float),
    sql.Column("payload", sql.Text, nullable=False),
    sql.Column("provider", sql.String, nullable=False, server_default="cpu"),
    sql.Column("started", sql.String, index=True),
    # believed_key last: figures of a whole store are counted in this index, without reading its records
    sql.Index("ix_measurements_narrowed", "device", "runtime", "precision", "threads", "provider", "host", "believed_key"),
)
"""``started``: ISO 8601 in UTC with milliseconds, so that the order of texts is the order of times."""

REFERENCES = sql.Table(
    "reference_latencies",
    METADATA,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("key", sql.String, nullable=False),
    # 0 the first of its key, then 1, 2, ...: the highest counts
    sql.Column("generation", sql.Integer, nullable=False),
    sql.Column("device", sql.String, nullable=False),
    sql.Column("runtime", sql.String, nullable=False),
    sql.Column("precision", sql.String, nullable=False),
    sql.Column("threads", sql.Integer, nullable=False),
    sql.Column("provider", sql.String, nullable=False),
    sql.Column("host", sql.String, nullable=False),
    sql.Column("version", sql.String, nullable=False),
    sql.Column("nominal_ms", sql.Float, nullable=False),
    sql.Column("made", sql.String, nullable=False),
    sql.UniqueConstraint("key", "generation"),
)

ACCURACIES = sql.Table(
    "accuracies",
    METADATA,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("network_key", sql.String, nullable=False),
    sql.Column("architecture", sql.String, nullable=False),
    sql.Column("split", sql.String, nullable=False),
    sql.Column("rows", sql.Integer, nullable=False),
    sql.Column("how", sql.String, nullable=False),
    sql.Column("accuracy", sql.Float, nullable=False),
    sql.Column("architecture_json", sql.Text, nullable=False),
    sql.Column("made", sql.String, nullable=False),
    sql.UniqueConstraint("network_key", "architecture", "split", "rows", "how"),
)

LATER = {MEASUREMENTS.c.provider, MEASUREMENTS.c.started}
"""Columns that stores of earlier versions lack."""
# any number that no other program is likely to use
POSTGRESQL_LOCK = 2308_15609
BATCH = 1000


def create_tables(connection: Connection) -> None:
    """Make what is not there yet; nothing is written when all is there. Two processes may do so at once.

    ``DatabaseError`` when what is there belongs to something else.
    """
    if not _missing(connection):
        return
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    elif connection.dialect.name == "postgresql":
        connection.execute(sql.select(sql.func.pg_advisory_xact_lock(POSTGRESQL_LOCK)))
    missing = _missing(connection)  # another process may have been first
    for table in METADATA.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        _add_columns(connection, table, missing)
        for index in sorted(table.indexes, key=lambda item: str(item.name)):
            connection.execute(CreateIndex(index, if_not_exists=True))
    if MEASUREMENTS.c.started in missing:
        _fill_started(connection)


def utc(text: Any) -> str | None:
    """An ISO 8601 time as ``started`` has it; None when ``text`` is none. A time without zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).isoformat(timespec="milliseconds")
    except OverflowError:  # the year 1 or 9999, and a zone that leads out of it
        return None


def _missing(connection: Connection) -> set[Any]:
    """Tables, columns and indexes."""
    inspector = sql.inspect(connection)
    there = set(inspector.get_table_names())
    ours = set(METADATA.tables)
    if connection.dialect.name == "sqlite" and there and not there & ours:
        raise damaged(f"its tables are another program's, such as '{min(there)}'")
    missing: set[sql.Column[Any] | sql.Table | sql.Index] = {
        table for name, table in METADATA.tables.items() if name not in there
    }
    for name in sorted(there & ours):
        table = METADATA.tables[name]
        found = {column["name"] for column in inspector.get_columns(name)}
        lacking = {column for column in table.columns if column.name not in found}
        foreign = sorted(column.name for column in lacking - LATER)
        if foreign:
            raise damaged(f"its table '{name}' is another program's: it has no column '{foreign[0]}'")
        indexes = {index["name"] for index in inspector.get_indexes(name)}
        missing |= lacking | {index for index in table.indexes if index.name not in indexes}
    return missing


def _add_columns(connection: Connection, table: sql.Table, missing: set[Any]) -> None:
    if table in missing:  # made whole a moment ago
        return
    name = connection.dialect.identifier_preparer.format_table(table)
    for column in table.columns:
        if column in missing:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(sql.DDL(f"ALTER TABLE {name} ADD COLUMN {str(definition).replace('%', '%%')}"))


def _fill_started(connection: Connection) -> None:
    """From the records; one that cannot be read keeps no time."""
    table = MEASUREMENTS.c
    update = MEASUREMENTS.update().where(table.id == sql.bindparam("row")).values(started=sql.bindparam("time"))
    last = 0
    while True:
        query = sql.select(table.id, table.payload).where(table.id > last).order_by(table.id).limit(BATCH)
        rows = connection.execute(query).all()
        if not rows:
            return
        last = rows[-1].id
        connection.execute(update, [{"row": row.id, "time": _started(row.payload)} for row in rows])


def _started(payload: str) -> str | None:
    try:
        return utc(json.loads(payload)["circumstances"]["started"])
    except (ValueError, KeyError, TypeError):
        return None
