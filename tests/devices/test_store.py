from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sql

from instatune_deploy.devices import database
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.store import MeasurementStore, open_store
from instatune_deploy.devices.tables import METADATA, REFERENCES
from instatune_deploy.digests import canonical_json
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture

Make = Callable[..., Measurement]
A = Architecture((0, 1), (4, 4), (16, 16))
B = Architecture((0, 1), (4, 2), (16, 16))

WRITER = """
import json, sys
from dataclasses import replace
from instatune_deploy.devices.deployment import Measurement
from instatune_deploy.devices.store import MeasurementStore
path, payload, first, last = sys.argv[1:]
template = Measurement.from_json(json.loads(payload))
store = MeasurementStore(path)
for number in range(int(first), int(last)):
    print(number, store.add(replace(template, graph_hash=str(number))), flush=True)
"""

REFERENCE_WRITER = """
import sys
from instatune_deploy.devices.runs import Run
from instatune_deploy.devices.store import MeasurementStore
path, own_ms, again = sys.argv[1:]
about = {"device": "d", "run": Run("onnxruntime", "fp32", 2), "host": "h", "version": "1"}
store = MeasurementStore(path)
for number in range(40):
    print(store.add_reference(str(number), **about, nominal_ms=float(own_ms), again=bool(again)), flush=True)
"""

# what stores looked like before providers, references and times had columns
OLD_DDL = """
CREATE TABLE accuracies (
    id INTEGER NOT NULL, network_key VARCHAR NOT NULL, architecture VARCHAR NOT NULL, split VARCHAR NOT NULL,
    rows INTEGER NOT NULL, how VARCHAR NOT NULL, accuracy FLOAT NOT NULL, architecture_json TEXT NOT NULL, made VARCHAR NOT NULL,
    PRIMARY KEY (id), UNIQUE (network_key, architecture, split, rows, how)
);
CREATE TABLE measurements (
    id INTEGER NOT NULL, "key" VARCHAR NOT NULL, believed_key VARCHAR, device VARCHAR NOT NULL, runtime VARCHAR NOT NULL,
    precision VARCHAR NOT NULL, threads INTEGER NOT NULL, architecture VARCHAR NOT NULL, graph_hash VARCHAR NOT NULL,
    host VARCHAR NOT NULL, p50_ms FLOAT, p90_ms FLOAT, p99_ms FLOAT, payload TEXT NOT NULL,
    PRIMARY KEY (id), UNIQUE (believed_key)
);
CREATE INDEX ix_measurements_key ON measurements ("key");
"""
ELSEWHERE = os.environ.get("INSTATUNE_TEST_DATABASE")
"""URL of another database to run these tests against, such as postgresql://...; its tables are dropped before each test."""
only_files = pytest.mark.skipif(ELSEWHERE is not None, reason="of SQLite files")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "measurements.db"


@pytest.fixture
def where(path: Path) -> Path | str:
    """An empty store: a file, or the database in INSTATUNE_TEST_DATABASE."""
    if ELSEWHERE is None:
        return path
    engine = database.connect(database.locate(ELSEWHERE), create=True)
    METADATA.drop_all(engine)
    engine.dispose()
    return ELSEWHERE


@pytest.fixture
def store(where: Path | str) -> Iterator[MeasurementStore]:
    with MeasurementStore(where) as opened:
        yield opened


def writer(where: Path | str, made: Measurement, first: int, last: int) -> subprocess.Popen[str]:
    payload = canonical_json(made.to_json())
    command = [sys.executable, "-c", WRITER, str(where), payload, str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_add_and_find(store: MeasurementStore, where: Path | str, make_measurement: Make) -> None:
    made = make_measurement()
    assert store.find(made.key) is None
    assert store.add(made)
    assert store.find(made.key) == made
    with MeasurementStore(str(where)) as again:
        assert again.find(made.key) == made


@only_files
def test_a_file_by_url(path: Path, make_measurement: Make) -> None:
    made = make_measurement()
    with MeasurementStore(path) as store:
        store.add(made)
    with MeasurementStore(f"sqlite:///{path}") as by_url:
        assert by_url.find(made.key) == made


def test_the_first_believed_one_stays(store: MeasurementStore, make_measurement: Make) -> None:
    made = make_measurement()
    assert store.add(made)
    assert not store.add(replace(made, size_bytes=99))
    assert store.select() == [made]


def test_what_is_not_believed_is_kept_and_not_reused(store: MeasurementStore, make_measurement: Make) -> None:
    noisy, failed = make_measurement(stable=False, why="noise"), make_measurement(timing=None, why="out of memory")
    assert store.add(noisy)
    assert store.add(noisy)
    assert store.add(failed)
    assert store.find(noisy.key) is None
    assert store.select() == []
    good = make_measurement()
    assert store.add(good)
    assert store.find(good.key) == good
    assert store.select(believed=None) == [noisy, noisy, failed, good]
    assert store.select(believed=False) == [noisy, noisy, failed]


def test_select(store: MeasurementStore, make_measurement: Make) -> None:
    first = make_measurement()
    second = make_measurement(layers=3, runtime="openvino")
    third = make_measurement(device="laptop-cpu", graph_hash="b" * 64, host="other")
    for made in (first, second, third):
        store.add(made)
    assert store.select() == [first, second, third]
    assert store.select(device="xeon-cpu") == [first, second]
    assert store.select(device="xeon-cpu", runtime="openvino") == [second]
    assert store.select(graph_hash="b" * 64) == [third]
    assert store.select(host="other") == [third]
    assert store.select(architecture=second.deployment.architecture) == [second]
    assert store.select(precision="bf16") == []


def test_select_by_the_rest(store: MeasurementStore, make_measurement: Make) -> None:
    def made(number: int, started: str, **changes: object) -> Measurement:
        first = make_measurement(graph_hash=str(number), circumstances={"started": started})
        return replace(first, deployment=replace(first.deployment, **changes))  # type: ignore[arg-type]

    one = made(1, "2026-01-31T23:30:00.000+00:00", threads=1)
    two = made(2, "2026-02-01T02:00:00+02:00", threads=2, provider="cuda")  # midnight in UTC
    three = made(3, "2026-02-01T00:00:00.001+00:00", threads=4)
    unknown = made(4, "some time", threads=8)
    for item in (one, two, three, unknown):
        store.add(item)
    assert store.select(threads=2) == [two]
    assert store.select(provider="cuda") == [two]
    assert store.select(provider="cpu") == [one, three, unknown]
    assert store.select(since="2026-02-01") == [two, three]
    assert store.select(since="2026-02-01T01:00+01:00") == [two, three]
    assert store.select(since="2026-02-01T00:00:00.001") == [three]
    assert store.select(since="2027-01-01") == []
    assert store.select(limit=2) == [three, unknown]
    assert store.select(limit=2, provider="cpu", since="2026-01-01") == [one, three]
    assert store.select(limit=9) == [one, two, three, unknown]
    with pytest.raises(BadInput, match=r"since 'yesterday': not a time; right would be 2026-01-31"):
        store.select(since="yesterday")


def test_architectures_by_their_first_digits(store: MeasurementStore, make_measurement: Make) -> None:
    made = [make_measurement(layers=layers) for layers in range(1, 30)]
    for item in made:
        store.add(item)
    digests = [item.deployment.architecture.digest for item in made]
    for digits in ("", "0", "f", digests[0][:1], digests[0][:3], digests[3], digests[3].upper()):
        expected = [item for item, name in zip(made, digests, strict=True) if name.startswith(digits.lower())]
        if digits:
            assert store.select(architecture=digits) == expected
    assert store.select(architecture=digests[3]) == [made[3]]
    for wrong in ("", "xyz", "6L", "%"):
        with pytest.raises(BadInput, match="right would be the first digits"):
            store.select(architecture=wrong)


def test_records_and_counts(store: MeasurementStore, make_measurement: Make) -> None:
    good, noisy = make_measurement(), make_measurement(stable=False, why="noise", host="other")
    third = make_measurement(device="laptop-cpu", graph_hash="b" * 64)
    for item in (good, noisy, third):
        store.add(item)
    records = list(store.records())
    assert [record.measurement for record in records] == [good, noisy, third]
    assert [record.key for record in records] == [good.key, noisy.key, third.key]
    assert records[0].id < records[1].id < records[2].id
    assert store.get(records[1].id) == records[1]
    assert store.get(records[2].id + 1) is None
    assert store.counts() == (3, 2, 2, 2)
    assert store.counts(believed=True) == (2, 2, 2, 1)
    assert store.counts(device="laptop-cpu") == (1, 1, 1, 1)
    assert store.counts(device="none") == (0, 0, 0, 0)


def test_measured_again(store: MeasurementStore, make_measurement: Make) -> None:
    first, second, third = (make_measurement(size_bytes=size) for size in (1, 2, 3))
    noisy = make_measurement(stable=False)
    other = make_measurement(graph_hash="b" * 64)
    assert store.add(first)
    assert store.add(second, again=True)
    assert store.find(first.key) == second
    assert not store.add(third)
    assert store.add(noisy, again=True)
    assert store.find(first.key) == second
    assert store.add(third, again=True)
    assert store.add(other, again=True)
    assert store.find(first.key) == third
    assert store.find(other.key) == other
    assert store.select(believed=None) == [first, second, noisy, third, other]


def test_references(store: MeasurementStore) -> None:
    about = {"device": "xeon-cpu", "run": Run("openvino", "bf16", 2), "host": "h", "version": "2026.1"}
    assert store.find_reference("k") is None
    assert store.add_reference("k", **about, nominal_ms=2.5) == 2.5  # type: ignore[arg-type]
    assert store.add_reference("k", **about, nominal_ms=3.5) == 2.5  # type: ignore[arg-type]
    assert store.find_reference("k") == 2.5
    assert store.add_reference("k", **about, nominal_ms=0.1, again=True) == 0.1  # type: ignore[arg-type]
    assert store.add_reference("k", **about, nominal_ms=9.0) == 0.1  # type: ignore[arg-type]
    assert store.add_reference("other", **about, nominal_ms=9.0, again=True) == 9.0  # type: ignore[arg-type]
    assert (store.find_reference("k"), store.find_reference("other"), store.find_reference("")) == (0.1, 9.0, None)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="more than 0"):
            store.add_reference("k", **about, nominal_ms=wrong)  # type: ignore[arg-type]


def test_accuracies(store: MeasurementStore) -> None:
    assert store.add_accuracy("net", A, split="validation", rows=500, how="pytorch-fp32", accuracy=0.875)
    assert store.add_accuracy("net", B, split="validation", rows=500, how="pytorch-fp32", accuracy=0.75)
    assert store.add_accuracy("net", A, split="test", rows=500, how="pytorch-fp32", accuracy=0.5)
    assert not store.add_accuracy("net", A, split="validation", rows=500, how="pytorch-fp32", accuracy=0.25)
    assert store.find_accuracy("net", A, split="validation", rows=500, how="pytorch-fp32") == 0.875
    assert store.accuracies("net", split="validation", rows=500, how="pytorch-fp32") == {A: 0.875, B: 0.75}
    assert store.find_accuracy("net", A, split="validation", rows=1000, how="pytorch-fp32") is None
    assert store.find_accuracy("other", A, split="validation", rows=500, how="pytorch-fp32") is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        store.add_accuracy("net", A, split="test", rows=1, how="x", accuracy=87.5)
    assert store.add_accuracy("net", A, split="validation", rows=500, how="openvino int8", accuracy=0.5)
    assert store.find_accuracy("net", A, split="validation", rows=500, how="openvino int8") == 0.5
    assert store.find_accuracy("net", B, split="validation", rows=500, how="openvino int8") is None


def test_several_processes_at_once(where: Path | str, make_measurement: Make) -> None:
    """They also make the tables at once."""
    made = make_measurement()
    writers = [writer(where, made, first, first + 60) for first in (0, 20, 40)]
    said = [process.communicate(timeout=60)[0].split("\n") for process in writers]
    assert [process.returncode for process in writers] == [0, 0, 0]
    added = [line.split()[0] for lines in said for line in lines if line.endswith("True")]
    assert sorted(added, key=int) == [str(number) for number in range(100)]  # each once, whoever came first
    with MeasurementStore(where) as store:
        assert sorted((item.graph_hash for item in store.select()), key=int) == [str(number) for number in range(100)]


def reference_writers(where: Path | str, again: str) -> list[list[str]]:
    command = [sys.executable, "-c", REFERENCE_WRITER, str(where)]
    writers = [subprocess.Popen([*command, own, again], stdout=subprocess.PIPE, text=True) for own in ("1.0", "2.0", "3.0")]
    said = [process.communicate(timeout=60)[0].split() for process in writers]
    assert [process.returncode for process in writers] == [0, 0, 0]
    return said


def test_references_of_several_processes(where: Path | str) -> None:
    """All are told the same one, and it stays."""
    said = reference_writers(where, "")
    assert [len(lines) for lines in said] == [40, 40, 40]
    assert said[0] == said[1] == said[2]
    with MeasurementStore(where) as store:
        assert [str(store.find_reference(str(number))) for number in range(40)] == said[0]


def test_references_again_of_several_processes(where: Path | str) -> None:
    """None is lost."""
    reference_writers(where, "yes")
    engine = database.connect(database.locate(where), create=False)
    query = sql.select(REFERENCES.c.key, REFERENCES.c.generation, REFERENCES.c.nominal_ms)
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    engine.dispose()
    assert {(row.key, row.generation) for row in rows} == {(str(key), number) for key in range(40) for number in range(3)}
    assert {(row.key, row.nominal_ms) for row in rows} == {(str(key), own) for key in range(40) for own in (1.0, 2.0, 3.0)}


def test_a_killed_process_loses_nothing(where: Path | str, make_measurement: Make) -> None:
    process = writer(where, make_measurement(), 0, 100_000)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGKILL)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == -signal.SIGKILL
    acknowledged = [line.split()[0] for line in [*said, *rest.splitlines(keepends=True)] if line.endswith("True\n")]
    with MeasurementStore(where) as store:
        kept = [item.graph_hash for item in store.select()]
    assert kept[: len(acknowledged)] == acknowledged
    assert len(kept) - len(acknowledged) in (0, 1)  # one more may have been committed and not yet said


@only_files
@pytest.mark.parametrize("log", ["", "with its log"])
@pytest.mark.parametrize("damage", ["no database", "truncated", "overwritten"])
def test_a_damaged_store_is_named_and_left_untouched(path: Path, make_measurement: Make, damage: str, log: str) -> None:
    with MeasurementStore(path) as store:
        for number in range(50):
            store.add(make_measurement(graph_hash=str(number)))
    whole = path.read_bytes()
    kept = b""
    if log:  # as a process leaves it that is killed
        with MeasurementStore(path) as store:
            store.add(make_measurement(graph_hash="in the log"))
            kept = Path(f"{path}-wal").read_bytes()
        assert kept
        Path(f"{path}-wal").write_bytes(kept)
    damaged = {
        "no database": b"latency,architecture\n" * 500,
        "truncated": whole[: len(whole) // 2],
        "overwritten": whole[:4096] + b"\xa5" * (len(whole) - 4096),
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match="it was left untouched") as caught:
        MeasurementStore(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert path.read_bytes() == damaged
    assert not log or Path(f"{path}-wal").read_bytes() == kept


@only_files
@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ("CREATE TABLE songs (id INTEGER)", "its tables are another program's, such as 'songs'"),
        ("CREATE TABLE measurements (id INTEGER, length REAL)", "its table 'measurements' is another program's"),
    ],
)
def test_the_database_of_another_program(tmp_path: Path, tables: str, says: str) -> None:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(tables)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=says):
        MeasurementStore(path)
    assert path.read_bytes() == before


@only_files
def test_a_store_of_an_earlier_version(tmp_path: Path, make_measurement: Make) -> None:
    """Every row is still there, is found, and what is new works."""
    path = tmp_path / "old.sqlite"
    made = [
        make_measurement(layers=layers, circumstances={"started": f"2026-01-0{layers}T01:00:00+01:00"}) for layers in (1, 2, 3)
    ]
    noisy = make_measurement(layers=4, stable=False, circumstances={})
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_DDL)
        for item in (*made, noisy):
            connection.execute("INSERT INTO measurements VALUES (NULL,?,?,?,?,?,?,?,?,?,?,?,?,?)", old_row(item))
        kept = ("net", A.digest, "test", 5, "pytorch-fp32", 0.75, canonical_json(A.to_json()), "2026-01-01T00:00:00+00:00")
        connection.execute("INSERT INTO accuracies VALUES (NULL,?,?,?,?,?,?,?,?)", kept)
        connection.commit()
        before = connection.execute("SELECT * FROM measurements").fetchall()
    for _ in range(2):
        with MeasurementStore(path) as store:
            assert store.select(believed=None) == [*made, noisy]
            assert [store.find(item.key) for item in made] == made
            assert not store.add(made[0])
            assert store.select(since="2026-01-02") == made[1:]
            assert store.select(provider="cpu", threads=2) == made
            assert store.accuracies("net", split="test", rows=5, how="pytorch-fp32") == {A: 0.75}
    with MeasurementStore(path) as store:
        assert store.add(made[0], again=True)
        assert store.add_reference("k", device="d", run=Run("openvino", "fp32", 1), host="h", version="1", nominal_ms=2.0) == 2.0
    with closing(sqlite3.connect(path)) as connection:
        after = connection.execute("SELECT * FROM measurements").fetchall()
    assert [row[:14] for row in after[:4]] == before
    assert [row[14:] for row in after[:4]] == [
        ("cpu", "2026-01-01T00:00:00.000+00:00"),
        ("cpu", "2026-01-02T00:00:00.000+00:00"),
        ("cpu", "2026-01-03T00:00:00.000+00:00"),
        ("cpu", None),
    ]


@only_files
def test_a_store_of_an_earlier_version_is_opened_by_several(tmp_path: Path, make_measurement: Make) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(OLD_DDL)
    writers = [writer(path, make_measurement(), first, first + 10) for first in (0, 10, 20)]
    for process in writers:
        process.communicate(timeout=60)
    assert [process.returncode for process in writers] == [0, 0, 0]
    with MeasurementStore(path) as store:
        assert len(store.select()) == 30


def old_row(made: Measurement) -> tuple[object, ...]:
    """As the earlier version wrote it: records without provider and reference, schema 1."""
    value = made.to_json()
    value["schema_version"] = 1
    del value["deployment"]["provider"]
    for name in ("thrown", "reference_ms", "nominal_ms", "seconds", "timed_seconds"):
        del value["timing"][name]
    about, timing = made.deployment, made.timing
    assert timing is not None
    return (
        made.key, made.key if made.believed else None, made.device, about.runtime, about.precision, about.threads,
        about.architecture.digest, made.graph_hash, made.host, timing.p50_ms, timing.p90_ms, timing.p99_ms, canonical_json(value),
    )  # fmt: skip


def add_many(store: MeasurementStore, make_measurement: Make) -> None:
    for number in range(100):
        store.add(make_measurement(graph_hash=str(number)))


@only_files
def test_a_full_disk(path: Path, make_measurement: Make) -> None:
    with MeasurementStore(path) as store:
        store.add(make_measurement())
        with store._engine.connect() as connection:  # the pool keeps this connection, and the limit with it
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(BadInput, match="the disk is full; free some space") as caught:
            add_many(store, make_measurement)
        assert caught.value.message.startswith(f"measurement store {path}: ")
        kept = store.select()
    with MeasurementStore(path) as store:
        assert store.select() == kept
        assert make_measurement() in kept
        assert store.add(make_measurement(graph_hash="later"))


@only_files
def test_an_unwritable_folder() -> None:
    with pytest.raises(BadInput, match=r"measurement store /proc/x/m\.db: it cannot be used"):
        MeasurementStore(Path("/proc/x/m.db"))


@only_files
def test_a_missing_file_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        MeasurementStore(tmp_path / "folder" / "m.db", create=False)
    assert not list(tmp_path.iterdir())
    open_store(tmp_path / "work", None, create=True).close()
    assert (tmp_path / "work" / "measurements.sqlite").exists()
    open_store(tmp_path / "work", None).close()
    open_store(tmp_path, str(tmp_path / "work" / "measurements.sqlite")).close()


@only_files
def test_odd_names(tmp_path: Path, make_measurement: Make) -> None:
    path = tmp_path / "100% of? it#1"
    for _ in range(2):
        with MeasurementStore(path) as store:
            store.add(make_measurement())
    with MeasurementStore(path) as store:
        assert store.select() == [make_measurement()]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@only_files
def test_large_stores_are_searched_by_index(path: Path) -> None:
    """The plans of the questions that are asked for every candidate."""
    MeasurementStore(path).close()
    questions = {
        "SELECT payload FROM measurements WHERE key = 'k' AND believed_key IS NOT NULL": "ix_measurements_key",
        "SELECT payload FROM measurements WHERE architecture BETWEEN 'a' AND 'ag'": "ix_measurements_architecture",
        "SELECT payload FROM measurements WHERE started >= '2026'": "ix_measurements_started",
        "SELECT payload FROM measurements WHERE device = 'd' AND runtime = 'r'": "ix_measurements_narrowed",
        "SELECT count(*), count(believed_key), count(DISTINCT device), count(DISTINCT host) FROM measurements": "COVERING INDEX",
        "SELECT accuracy FROM accuracies WHERE network_key='n' AND architecture='a' AND split='s' AND rows=1": "INDEX",
        "SELECT nominal_ms FROM reference_latencies WHERE key='k' ORDER BY generation DESC LIMIT 1": "INDEX",
    }
    with closing(sqlite3.connect(path)) as connection:
        for question, index in questions.items():
            plan = " ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {question}"))
            assert index in plan, plan
            assert "TEMP B-TREE FOR ORDER" not in plan


@only_files
def test_a_locked_store(path: Path, make_measurement: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.2)
    with MeasurementStore(path) as store:
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(BadInput, match="another process has locked it") as caught:
            store.add(make_measurement())
        assert str(path) in caught.value.message
        blocker.execute("ROLLBACK")
        blocker.close()
        assert store.add(make_measurement())


@only_files
def test_a_payload_that_is_no_json(store: MeasurementStore, path: Path, make_measurement: Make) -> None:
    store.add(make_measurement())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE measurements SET payload = '{'")
    connection.close()
    with pytest.raises(BadInput, match="measurement 1 is a row that is no JSON"):
        store.select()


@only_files
def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="it is a folder; a store is a file, such as"):
        MeasurementStore(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"it cannot be used: .*file is no folder"):
        MeasurementStore(tmp_path / "file" / "measurements.db")
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("://", "not a database URL; right would be postgresql://"),
        ("postgresql+nothing://me:secret@host/db", r"postgresql\+nothing://me:\*\*\*@host/db: no kind of database is called"),
        ("oraclesql://me:secret@host/db", "no kind of database is called 'oraclesql'; right would be postgresql://"),
        ("mysql+mysqldb://me:secret@host/db", r"mysql\+mysqldb://me:\*\*\*@host/db: its driver is not installed \(No module"),
        ("sqlite://", "it names no file"),
        ("sqlite+aiosqlite:///file", "its driver is not installed|is an asynchronous driver"),
    ],
)
def test_bad_urls(url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        MeasurementStore(url)
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_without_its_driver(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    monkeypatch.setattr(database, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"its driver is not installed \(.*psycopg.*\); pip install 'psycopg\[binary\]'") as caught:
        MeasurementStore(f"{scheme}://me:secret@host/db")
    assert "postgresql+psycopg://me:***@host/db" in caught.value.message


def test_a_server_that_does_not_answer() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(BadInput, match="it cannot be used") as caught:
        MeasurementStore("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message
