"""Measurements as a flat table in a CSV or Parquet file: one row each, one column a figure, the unit in its name.

`COLUMNS` says what each column means; a Parquet file carries the same words with its columns.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from instatune_deploy.devices.store import Record
from instatune_deploy.devices.tables import utc
from instatune_deploy.digests import canonical_json
from instatune_deploy.errors import BadInput, clear_os_errors
from instatune_deploy.files import write_bytes
from instatune_deploy.report.measurements import why_not

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 5000
ENDINGS = (".csv", ".parquet")


class Column(NamedTuple):
    """kind: of its values, as pyarrow calls it; ``json`` is a text that holds a JSON value"""

    name: str
    kind: str
    about: str
    value: Callable[[Record], Any]


def _timing(name: str) -> Callable[[Record], Any]:
    """A figure of the timing; None where there is no timing."""
    return lambda record: getattr(record.measurement.timing, name, None)


def _limit(percentile: str, side: str) -> Callable[[Record], Any]:
    def value(record: Record) -> Any:
        timing = record.measurement.timing
        return timing and getattr(timing.limits[percentile], side)

    return value


def _circumstance(name: str, kind: type[int] | type[float]) -> Callable[[Record], Any]:
    """A figure of the circumstances; None where it was not recorded or is no number."""

    def value(record: Record) -> Any:
        found = record.measurement.circumstances.get(name)
        return kind(found) if isinstance(found, int | float) else None

    return value


COLUMNS = (
    Column("id", "int64", "of the record in its store", lambda record: record.id),
    Column("key", "string", "the same for measurements of the same thing under the same conditions", lambda record: record.key),
    Column(
        "started_utc",
        "string",
        "ISO 8601; empty where it was not recorded",
        lambda record: utc(record.measurement.circumstances.get("started")),
    ),
    Column("device", "string", "name of the hardware profile", lambda record: record.measurement.device),
    Column("host", "string", "fingerprint of the host", lambda record: record.measurement.host),
    Column("believed", "bool", "whether the figures may be used", lambda record: record.measurement.believed),
    Column("not_believed_because", "string", "empty when believed", lambda record: why_not(record) or None),
    Column("runtime", "string", "onnxruntime, openvino", lambda record: record.measurement.deployment.runtime),
    Column(
        "runtime_version",
        "string",
        "of the runtime",
        lambda record: record.measurement.versions.get(record.measurement.deployment.runtime),
    ),
    Column("provider", "string", "what computes: cpu, cuda, ...", lambda record: record.measurement.deployment.provider),
    Column("precision", "string", "fp32, bf16, int8, ...", lambda record: record.measurement.deployment.precision),
    Column("threads", "int64", "of one inference", lambda record: record.measurement.deployment.threads),
    Column("batch_size", "int64", "rows of one inference", lambda record: record.measurement.deployment.batch_size),
    Column("sequence_length", "int64", "tokens of one row", lambda record: record.measurement.deployment.sequence_length),
    Column("architecture", "string", "digest of the architecture", lambda record: _architecture(record).digest),
    Column("depth", "int64", "layers kept", lambda record: _architecture(record).depth),
    Column("heads_sum", "int64", "attention heads of all layers", lambda record: sum(_architecture(record).heads)),
    Column("mlp_widths_sum", "int64", "MLP neurons of all layers", lambda record: sum(_architecture(record).mlp_widths)),
    Column("layers", "json", "indices of the kept layers in the full model", lambda record: list(_architecture(record).layers)),
    Column("heads", "json", "attention heads of each kept layer", lambda record: list(_architecture(record).heads)),
    Column("mlp_widths", "json", "MLP neurons of each kept layer", lambda record: list(_architecture(record).mlp_widths)),
    Column(
        "image_size",
        "int64",
        "pixels of an image's edge; empty where all networks take inputs of one size",
        lambda record: _architecture(record).image_size,
    ),
    Column("graph_hash", "string", "of the graph that ran", lambda record: record.measurement.graph_hash),
    Column("size_bytes", "int64", "of the graph's file", lambda record: record.measurement.size_bytes),
    Column("p50_ms", "float64", "latency that half of the runs did not exceed", _timing("p50_ms")),
    Column("p90_ms", "float64", "latency that 90% of the runs did not exceed", _timing("p90_ms")),
    Column("p99_ms", "float64", "latency that 99% of the runs did not exceed", _timing("p99_ms")),
    Column("mean_ms", "float64", "mean latency", _timing("mean_ms")),
    Column("max_ms", "float64", "the slowest run", _timing("max_ms")),
    *(
        Column(
            f"{percentile}_{side}", "float64", f"95% confidence: the true {percentile} lies {word} this", _limit(percentile, side)
        )
        for percentile in ("p50", "p90", "p99")
        for side, word in (("lower_ms", "above"), ("upper_ms", "below"))
    ),
    Column("spread", "float64", "inter-quartile range / median", _timing("spread")),
    Column("count", "int64", "runs behind the figures", _timing("count")),
    Column("windows", "int64", "windows measured after the warm-up", _timing("windows")),
    Column("windows_thrown", "int64", "windows thrown away because the host was disturbed", _timing("thrown")),
    Column("stable", "bool", "whether the last windows agreed", _timing("stable")),
    Column("involuntary_switches", "int64", "how often a processor was taken from the process", _timing("involuntary_switches")),
    Column("reference_ms", "float64", "what the reference model took meanwhile", _timing("reference_ms")),
    Column("nominal_ms", "float64", "what the reference model takes when the host is quiet", _timing("nominal_ms")),
    Column("drift", "float64", "reference_ms / nominal_ms; the latencies are divided by it already", _timing("drift")),
    Column("measuring_seconds", "float64", "the whole measurement", _timing("seconds")),
    Column("timed_seconds", "float64", "of it in timed windows", _timing("timed_seconds")),
    Column("load_before", "float64", "load average before", _circumstance("load_before", float)),
    Column("load_after", "float64", "load average after", _circumstance("load_after", float)),
    Column(
        "others_cores", "float64", "processors that other processes kept busy meanwhile", _circumstance("others_cores", float)
    ),
    Column("attempts", "int64", "how often it was tried", _circumstance("attempts", int)),
    Column("protocol", "json", "the timing settings", lambda record: record.measurement.protocol),
    Column("versions", "json", "of the runtime, by its name", lambda record: record.measurement.versions),
    Column("circumstances", "json", "all of them as recorded", lambda record: record.measurement.circumstances),
)


def check_file(path: Path, force: bool) -> None:
    """``BadInput`` for an unknown ending, a folder, or a file that is there already and may not be overwritten (``force``)."""
    if path.suffix.lower() not in ENDINGS:
        raise BadInput(f"{path}: unknown ending '{path.suffix}'; right would be FILE.csv or FILE.parquet")
    if path.is_dir():
        raise BadInput(f"{path}: it is a folder; right would be FILE.csv or FILE.parquet")
    if path.exists() and not force:
        raise BadInput(f"{path}: it is there already; --force overwrites it")


def write_flat(records: Iterable[Record], path: Path) -> int:
    """Write ``records`` to a .csv or .parquet file, whole or not at all; how many there were. ``BadInput`` for none.

    CSV is UTF-8 with a header; what is not known is an empty field.
    """
    import pyarrow as pa

    schema = _schema()
    left = iter(records)
    batches = []
    while rows := [_row(record) for record in islice(left, BATCH)]:
        batches.append(pa.RecordBatch.from_pylist(rows, schema=schema))
    if not batches:
        raise BadInput(f"{path}: not written, no measurement matches")
    table = pa.Table.from_batches(batches)
    stream = io.BytesIO()
    if path.suffix.lower() == ".csv":
        from pyarrow import csv

        csv.write_csv(table, stream)
    else:
        from pyarrow import parquet

        parquet.write_table(table, stream)
    with clear_os_errors(f"cannot write {path}"):
        write_bytes(path, stream.getvalue())
    return table.num_rows


def _architecture(record: Record) -> Any:
    return record.measurement.deployment.architecture


def _row(record: Record) -> dict[str, Any]:
    return {
        column.name: canonical_json(column.value(record)) if column.kind == "json" else column.value(record) for column in COLUMNS
    }


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"string": pa.string(), "json": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    return pa.schema([pa.field(item.name, kinds[item.kind], metadata={"description": item.about}) for item in COLUMNS])
