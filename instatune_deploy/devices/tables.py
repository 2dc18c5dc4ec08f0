"""The tables of the measurement store. What is asked for has a column; the rest of a record is its JSON."""

from __future__ import annotations

import sqlalchemy as sql
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateIndex, CreateTable

METADATA = sql.MetaData()

MEASUREMENTS = sql.Table(
    "measurements",
    METADATA,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("key", sql.String, nullable=False, index=True),
    # the key again, but only of what is believed: one such row a key, any number of others (NULLs are never equal)
    sql.Column("believed_key", sql.String, unique=True),
    sql.Column("device", sql.String, nullable=False),
    sql.Column("runtime", sql.String, nullable=False),
    sql.Column("precision", sql.String, nullable=False),
    sql.Column("threads", sql.Integer, nullable=False),
    sql.Column("architecture", sql.String, nullable=False),
    sql.Column("graph_hash", sql.String, nullable=False),
    sql.Column("host", sql.String, nullable=False),
    sql.Column("p50_ms", sql.Float),
    sql.Column("p90_ms", sql.Float),
    sql.Column("p99_ms", sql.Float),
    sql.Column("payload", sql.Text, nullable=False),
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


def create_tables(connection: Connection) -> None:
    """Make what is not there yet; two processes may do so at once."""
    for table in METADATA.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))
