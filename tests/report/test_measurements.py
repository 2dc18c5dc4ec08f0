"""The list of measurements, one record as JSON, and the flat table, on records made by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from rich.console import Console

from instatune_deploy.devices.deployment import Deployment, Measurement
from instatune_deploy.devices.latency import Limits, Timing
from instatune_deploy.devices.store import Counts, MeasurementStore, Record
from instatune_deploy.errors import BadInput
from instatune_deploy.report import flat
from instatune_deploy.report.flat import COLUMNS, check_file, write_flat
from instatune_deploy.report.measurements import cells, record_json, short, summary, table
from instatune_deploy.supernet.architecture import Architecture

ARCHITECTURE = Architecture((0, 2, 5), (12, 8, 4), (1536, 1024, 512))
TIMING = Timing(
    p50_ms=5.0,
    p90_ms=6.125,
    p99_ms=7.5,
    mean_ms=5.25,
    max_ms=8.5,
    spread=0.1,
    count=1234,
    windows=4,
    stable=True,
    involuntary_switches=2,
    limits={"p50": Limits(4.9, 5.2), "p90": Limits(6.0, 6.5), "p99": Limits(7.0, None)},
    thrown=1,
    reference_ms=2.75,
    nominal_ms=2.5,
    seconds=1.5,
    timed_seconds=1.25,
)
MADE = Measurement(
    deployment=Deployment(ARCHITECTURE, "openvino", "bf16", threads=2, batch_size=1, sequence_length=128),
    device="xeon-cpu",
    graph_hash="a" * 64,
    size_bytes=46_540_000,
    host="0123456789abcdef",
    versions={"openvino": "2026.4"},
    protocol={"window_ms": 100.0},
    timing=TIMING,
    circumstances={"started": "2026-01-31T12:34:56.789+00:00", "load_before": 1, "others_cores": None, "attempts": 1},
)
FAILED = replace(
    MADE,
    deployment=replace(MADE.deployment, provider="cuda"),
    timing=None,
    why="it could not be run: out of memory, [all] of it",
    circumstances={},
)
GOOD, BAD = Record(7, MADE.key, MADE), Record(8, FAILED.key, FAILED)


def printed(records: list[Record], width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False, markup=False).print(table(records))
    return stream.getvalue()


def test_cells_by_hand() -> None:
    name = ARCHITECTURE.digest[:8]
    assert cells(GOOD) == (
        "7", "2026-01-31 12:34", "xeon-cpu", f"3L 24H 3072N {name}", "openvino bf16, 2 threads", "5.00", "6.12", "7.50",
        "3.0%", "1234", "1.10x", "46.5", "",
    )  # fmt: skip
    assert cells(BAD) == (
        "8", "", "xeon-cpu", f"3L 24H 3072N {name}", "openvino cuda bf16, 2 threads", "", "", "", "", "", "", "46.5",
        "it could not be run: out of memory, [all] of it",
    )  # fmt: skip
    assert short(Architecture((0,), (1,), (16,))) == "1L 1H 16N"


def test_what_cannot_be_said_is_empty() -> None:
    timing = replace(TIMING, reference_ms=None, limits={**TIMING.limits, "p50": Limits(4.9, None)}, stable=False)
    texts = cells(Record(1, "k", replace(MADE, timing=timing)))
    assert texts[8:] == ("", "1234", "", "46.5", "its windows did not agree")


@pytest.mark.parametrize("width", [100, 120, 200])
def test_the_table_fits_a_terminal(width: int) -> None:
    """Words go on in the next line where it is narrow; figures stay whole, and nothing is cut off."""
    text = printed([GOOD, BAD], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for figure in ("2026-01-31 12:34", "5.00", "6.12", "7.50", "3.0%", "1234", "1.10x", "46.5"):
        assert figure in text
    assert "[all]" in "".join(text.split()) or width < 200


def test_summary() -> None:
    assert summary(Counts(3, 2, 1, 2), 3) == "3 measurements, 2 believed, 1 device, 2 hosts"
    assert summary(Counts(1, 1, 1, 1), 1) == "1 measurement, 1 believed, 1 device, 1 host"
    assert summary(Counts(120, 0, 1, 1), 50).endswith("; the newest 50 are shown, --limit 120 shows all")


def test_record_json(tmp_path: Path) -> None:
    with MeasurementStore(tmp_path / "m.sqlite") as store:
        store.add(MADE)
        store.add(FAILED)
        value, failed = (json.loads(record_json(store, number)) for number in (1, 2))
        with pytest.raises(BadInput, match="no measurement 3; `instatune-deploy measurements` lists them"):
            record_json(store, 3)
    about = {name: value.pop(name) for name in ("id", "key", "believed", "architecture_digest", "drift")}
    assert about == {"id": 1, "key": MADE.key, "believed": True, "architecture_digest": ARCHITECTURE.digest, "drift": 1.1}
    assert Measurement.from_json(value) == MADE
    assert (failed["believed"], failed["drift"], failed["why"]) == (False, None, FAILED.why)


EXPECTED = {
    "id": 7, "started_utc": "2026-01-31T12:34:56.789+00:00", "device": "xeon-cpu", "believed": True, "not_believed_because": None,
    "runtime_version": "2026.4", "provider": "cpu", "precision": "bf16", "threads": 2, "depth": 3, "heads_sum": 24,
    "mlp_widths_sum": 3072, "layers": "[0,2,5]", "heads": "[12,8,4]", "mlp_widths": "[1536,1024,512]", "size_bytes": 46_540_000,
    "p50_ms": 5.0, "p90_ms": 6.125, "p50_lower_ms": 4.9, "p50_upper_ms": 5.2, "p99_lower_ms": 7.0, "p99_upper_ms": None,
    "count": 1234, "windows": 4, "windows_thrown": 1, "drift": 1.1, "measuring_seconds": 1.5, "timed_seconds": 1.25,
    "load_before": 1.0, "load_after": None, "others_cores": None, "attempts": 1, "protocol": '{"window_ms":100.0}',
}  # fmt: skip


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "all.parquet"
    assert write_flat(iter([GOOD, BAD]), path) == 2
    found = parquet.read_table(path)
    good, bad = found.to_pylist()
    assert {name: good[name] for name in EXPECTED} == EXPECTED
    assert list(good) == [column.name for column in COLUMNS]
    assert (bad["p50_ms"], bad["count"], bad["stable"], bad["drift"], bad["started_utc"]) == (None, None, None, None, None)
    assert (bad["not_believed_because"], bad["provider"]) == (FAILED.why, "cuda")
    assert found.schema.field("p50_ms").type == pa.float64()
    assert found.schema.field("count").type == pa.int64()
    assert found.schema.field("drift").metadata[b"description"].startswith(b"reference_ms / nominal_ms")


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "all.CSV"
    odd = replace(FAILED, why='a "quoted",\nbroken line')
    assert write_flat([GOOD, Record(9, "k", odd)], path) == 2
    with path.open(encoding="utf-8", newline="") as stream:
        good, bad = csv.DictReader(stream)
    for name, value in EXPECTED.items():
        if isinstance(value, float):
            assert float(good[name]) == value
        else:
            assert good[name] == ("true" if value is True else "" if value is None else str(value))
    assert bad["not_believed_because"] == odd.why


def test_more_rows_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "BATCH", 2)
    assert write_flat((Record(number, "k", MADE) for number in range(5)), tmp_path / "a.parquet") == 5
    assert parquet.read_table(tmp_path / "a.parquet")["id"].to_pylist() == [0, 1, 2, 3, 4]


def test_columns_have_names_and_meanings() -> None:
    names = [column.name for column in COLUMNS]
    assert len(set(names)) == len(names)
    assert all(column.about for column in COLUMNS)


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    check_file(path, force=False)
    path.write_text("mine")
    with pytest.raises(BadInput, match=r"a\.csv: it is there already; --force overwrites it"):
        check_file(path, force=False)
    check_file(path, force=True)
    for wrong in ("a.xlsx", "a", "a.json"):
        with pytest.raises(BadInput, match=r"unknown ending '.*'; right would be FILE\.csv or FILE\.parquet"):
            check_file(tmp_path / wrong, force=True)
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(BadInput, match="it is a folder"):
        check_file(tmp_path / "b.csv", force=True)
    with pytest.raises(BadInput, match="not written, no measurement matches"):
        write_flat([], path)
    with pytest.raises(BadInput, match="cannot write"):
        write_flat([GOOD], path / "below.csv")
    assert path.read_text() == "mine"
