"""Read the rows of a task into data frames: CSV, TSV, JSONL, Parquet, a `datasets` folder, or a data set of the hub.

Frames are indexed by row number: the first data row is 1, a header line is not counted.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from instatune_deploy.config import DataSettings
from instatune_deploy.errors import BadInput, clear_os_errors, reason
from instatune_deploy.tasks.references import HubDataset, resolve

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict

Split = Literal["train", "validation", "test"]
Content = Literal["text", "image"]
"""The setting that names the column of what is labelled."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_ALIASES = {"train": ["train"], "validation": ["validation", "valid", "val", "dev"], "test": ["test"]}
_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}


def read_splits(settings: DataSettings) -> dict[Split | Literal["all"], pd.DataFrame]:
    """The rows of texts that ``settings.reference`` means, as `read_tables` gives them."""
    return read_tables(find_source(settings), settings, "text")


def find_source(settings: DataSettings) -> Path | HubDataset:
    """The file, folder or hub data set that ``settings.reference`` means. ``BadInput`` also when two splits are one."""
    if settings.splits and len(set(settings.splits.values())) < len(settings.splits):
        raise BadInput("data.splits: two splits are the same one")
    return resolve(settings.reference, sha256=settings.sha256, revision=settings.revision, kind="data", where="data.reference")


def read_tables(
    source: Path | HubDataset, settings: DataSettings, content: Content
) -> dict[Split | Literal["all"], pd.DataFrame]:
    """The rows of ``source``: under ``"all"``, or under the splits they come in.

    Each frame has at least the column of the ``content``, that of the label, and one row. Cells of CSV and TSV stay the text
    they are (``NA`` is a text, ``01`` no number); a label that comes with its class names is categorical; images are not
    decoded. ``BadInput`` names file, line and column.
    """
    if settings.format in {"folder", "idx"}:
        raise BadInput(f"data.format: '{settings.format}' is of images in a folder; {settings.reference} is read as a table")
    if isinstance(source, HubDataset):
        from instatune_deploy.tasks.hub import load_data

        return _from_datasets(load_data(source.name, source.revision, "data.reference"), settings, content)
    if _is_datasets_folder(source):
        import datasets

        try:
            loaded = datasets.load_from_disk(str(source))
        except Exception as error:  # `datasets` raises anything
            raise BadInput(f"{source}: the datasets folder cannot be loaded: {reason(error)}") from error
        return _from_datasets(loaded, settings, content)
    if settings.format == "datasets":
        raise BadInput(f"{source}: is no datasets folder (dataset_info.json and state.json, or dataset_dict.json)")
    if source.is_dir():
        files = _split_files(source, settings)
        return {split: _join([_read_checked(path, settings, content) for path in paths]) for split, paths in files.items()}
    if settings.splits:
        raise BadInput(f"{source}: 'splits' names the splits of a folder or hub data set; this is one file")
    return {"all": _read_checked(source, settings, content)}


def holds_tables(folder: Path, settings: DataSettings) -> bool:
    """Whether `read_tables` is what reads a folder: a `datasets` folder, or one with a table of some split."""
    if settings.format == "datasets" or _is_datasets_folder(folder):
        return True
    stems = {name for split in SPLITS for name in split_names(split, settings)}
    return any(path.suffix.lower() in _FORMATS and _stem(path) in stems for path in folder.iterdir())


# --- one file --------------------------------------------------------------------------------------------------------


def _read_checked(path: Path, settings: DataSettings, content: Content) -> pd.DataFrame:
    table = _read_file(path, settings)
    if table.empty:
        raise BadInput(f"{path}: the file has no rows")
    _check_columns(table.columns, settings, content, str(path))
    return table


def _read_file(path: Path, settings: DataSettings) -> pd.DataFrame:
    import pandas as pd

    kind = settings.format or _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise BadInput(f"{path}: 'data.format' must say what this file is: csv, tsv, jsonl or parquet")
    if settings.columns and kind not in {"csv", "tsv"}:
        raise BadInput(f"{path}: 'data.columns' names the columns of csv and tsv files; a {kind} file has its own names")
    if path.stat().st_size == 0:
        raise BadInput(f"{path}: the file is empty")
    if kind == "parquet":
        return _read_parquet(path)
    text = _read_utf8(path)
    if kind == "jsonl":
        records = _json_records(path, text)
        return _numbered(pd.DataFrame(records, dtype=object))
    names, rows = _delimited_rows(path, text, kind, settings.columns)
    return _numbered(pd.DataFrame(rows, columns=names, dtype=object))


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    table.index = range(1, len(table) + 1)  # type: ignore[assignment]
    return table


def _read_utf8(path: Path) -> str:
    with clear_os_errors(f"{path}: cannot be read"):
        content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x}); save the file as UTF-8") from error


def _delimited_rows(path: Path, text: str, kind: str, columns: list[str] | None) -> tuple[list[str], list[list[str]]]:
    # in tab-separated files a quote is a character of the text, as in GLUE and most corpora
    lines = io.StringIO(text, newline="\n")
    if kind == "tsv":
        reader = csv.reader(lines, "excel-tab", strict=True, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, "excel", strict=True)
    names = columns
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not row:
                continue
            if names is None:
                names = row
            elif len(row) != len(names):
                raise BadInput(f"{path}:{reader.line_num}: malformed row: {len(row)} fields, expected {len(names)}")
            else:
                rows.append(row)
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: malformed row: {reason(error)}") from error
    if names is None:
        raise BadInput(f"{path}: the file is empty")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise BadInput(f"{path}: two columns are named '{doubled[0]}'")
    return names, rows


def _json_records(path: Path, text: str) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadInput(f"{path}:{number}: malformed row: not valid JSON ({error.msg})") from error
        if not isinstance(record, dict):
            raise BadInput(f"{path}:{number}: malformed row: expected a JSON object, found {type(record).__name__}")
        records.append(record)
    return records


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow

    try:
        return _numbered(pd.read_parquet(path, engine="pyarrow").reset_index(drop=True))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"{path}: not a readable Parquet file: {reason(error)}") from error


def _check_columns(present: Iterable[Any], settings: DataSettings, content: Content, where: str) -> None:
    names = [str(name) for name in present]
    for key, wanted in ((content, _column(settings, content)), ("label", settings.label)):
        if wanted not in names:
            near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            shown = ", ".join(name if len(name) <= 40 else name[:37] + "..." for name in names[:20])
            raise BadInput(f"{where}: no column '{wanted}' (data.{key}); the columns are: {shown}{hint}")


def _column(settings: DataSettings, content: Content) -> str:
    return settings.text if content == "text" else settings.image


# --- a folder of files -----------------------------------------------------------------------------------------------


def _split_files(folder: Path, settings: DataSettings) -> dict[Split | Literal["all"], list[Path]]:
    """The files of each split; a split may come in several (``train-00000-of-00002.parquet``)."""
    endings = {ending for ending, kind in _FORMATS.items() if settings.format in (None, kind)}
    if settings.format:
        endings.add(".txt")
    found: dict[Split | Literal["all"], list[Path]] = {}
    for split in SPLITS:
        stems = split_names(split, settings)
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in endings):
            if _stem(path) in stems:
                found.setdefault(split, []).append(path)
    if "train" not in found:
        ending = f".{settings.format}" if settings.format else " (csv, tsv, jsonl or parquet)"
        raise BadInput(f"{folder}: no {' or '.join(split_names('train', settings))} file{ending} in this folder")
    check_named(found, settings, str(folder), [path.name for path in sorted(folder.iterdir())])
    kinds = sorted({path.suffix.lower() for paths in found.values() for path in paths})
    if len(kinds) > 1:
        raise BadInput(f"{folder}: the splits are there in several formats ({', '.join(kinds)}); choose one with 'data.format'")
    return found


def _stem(path: Path) -> str:
    return re.sub(r"-\d+-of-\d+$", "", path.stem)


def split_names(split: Split, settings: DataSettings) -> list[str]:
    """What a split may be called in the data, the likeliest name first."""
    named = settings.splits or {}
    if split in named:
        return [named[split]]
    # `splits: {test: validation}` must not make the same rows the validation split, too
    return [alias for alias in _ALIASES[split] if alias not in named.values()]


def check_named(found: Iterable[str], settings: DataSettings, where: str, present: list[str]) -> None:
    """``BadInput`` when a split that ``settings.splits`` names is not among those ``found``."""
    for split, name in (settings.splits or {}).items():
        if split not in found:
            raise BadInput(f"{where}: no split '{name}' (data.splits.{split}); there are: {', '.join(present[:20])}")


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return tables[0] if len(tables) == 1 else _numbered(pd.concat(tables, ignore_index=True))


# --- datasets --------------------------------------------------------------------------------------------------------


def _is_datasets_folder(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or ((path / "state.json").is_file() and (path / "dataset_info.json").is_file())


def _from_datasets(
    loaded: DatasetDict | Dataset, settings: DataSettings, content: Content
) -> dict[Split | Literal["all"], pd.DataFrame]:
    import datasets

    name = settings.reference
    if isinstance(loaded, datasets.Dataset):
        if settings.splits:
            raise BadInput(f"{name}: 'splits' is given, but this data set has no splits")
        return {"all": _frame(loaded, settings, content, name)}
    tables: dict[Split | Literal["all"], pd.DataFrame] = {}
    for split in SPLITS:
        present = next((known for known in split_names(split, settings) if known in loaded), None)
        if present is None:
            continue
        table = _frame(loaded[present], settings, content, f"{name}: split '{present}'")
        # benchmarks hide the labels of their test rows (-1); such a split is of no use here unless asked for by name
        if split in (settings.splits or {}) or split == "train" or not table[settings.label].isna().all():
            tables[split] = table
    check_named(tables, settings, name, list(loaded))
    if "train" not in tables:
        wanted = " or ".join(split_names("train", settings))
        raise BadInput(f"{name}: no split '{wanted}'; there are: {', '.join(loaded)}; name one with data.splits.train")
    return tables


def _frame(dataset: Dataset, settings: DataSettings, content: Content, where: str) -> pd.DataFrame:
    import datasets
    import pandas as pd

    if len(dataset) == 0:
        raise BadInput(f"{where}: the data set has no rows")
    _check_columns(dataset.column_names, settings, content, where)
    column = _column(settings, content)
    dataset = dataset.select_columns([column, settings.label])
    if isinstance(dataset.features[column], datasets.Image):
        dataset = dataset.cast_column(column, datasets.Image(decode=False))
    table = _numbered(dataset.to_pandas())
    feature = dataset.features[settings.label]
    if isinstance(feature, datasets.ClassLabel):
        codes = table[settings.label].fillna(-1).astype("int64")
        table[settings.label] = pd.Series(pd.Categorical.from_codes(codes, categories=feature.names), index=table.index)
    return table
