"""What a user can get wrong, through the command line: one clear line, the right exit code, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artifact.tiny import make_artifact
from click.testing import CliRunner, Result
from pipeline.fakes import write_pipeline, write_profile
from report.test_measurements import FAILED, MADE

from instatune_deploy import __version__
from instatune_deploy.cli import main
from instatune_deploy.devices import doctor, installation
from instatune_deploy.devices.store import MeasurementStore
from instatune_deploy.resources import resource_names

RUN = ["--device", "generic-cpu"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of every test: empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pipeline(tiny_checkpoint: Path, tiny_csv: Path, folder: Path) -> Path:
    """A pipeline on copies of the tiny checkpoint and rows, which a test may spoil."""
    shutil.copytree(tiny_checkpoint, folder / "model")
    shutil.copy(tiny_csv, folder / "rows.csv")
    return write_pipeline(folder, folder / "model", folder / "rows.csv")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def refused(*arguments: str, code: int = 2) -> str:
    """The one error line of a command that ends with ``code``."""
    result = run(*arguments)
    return one_line(result.stderr, result.exit_code, code)


def one_line(said: str, found: int, code: int) -> str:
    assert found == code, said
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if "Error" in line]
    assert len(errors) == 1, said
    assert said.splitlines()[-1] == errors[0]  # nothing comes after it
    assert errors[0].startswith("Error: ")
    return errors[0].removeprefix("Error: ")


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


# --- what can be asked for ---------------------------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for word in ("finetune", "profile", "search", "export", "verify", "devices", "doctor", "convert-beit3",
                 "--pipeline", "--device", "--budget", "--output", "--work", "--seed",
                 "instatune-deploy --device xeon-cpu --budget 20ms"):  # fmt: skip
        assert word in result.stdout


@pytest.mark.parametrize("command", ["finetune", "profile", "search", "export", "verify", "devices", "doctor", "convert-beit3"])
def test_help_of_a_command(command: str) -> None:
    assert run(command, "--help").exit_code == 0


def test_version() -> None:
    assert run("--version").stdout == f"instatune-deploy, version {__version__}\n"


def test_devices() -> None:
    result = run("devices")
    assert result.exit_code == 0
    assert result.stdout.startswith("this host: ")
    for name in resource_names("hardware_profiles"):
        assert f"\n{name}: " in result.stdout
    assert "    runs here  onnxruntime fp32, 1 thread\n" in result.stdout
    assert result.stderr == ""


def test_devices_that_are_named(folder: Path) -> None:
    path = write_profile(folder)
    result = run("devices", str(path), "generic-cpu")
    assert [line.partition(":")[0] for line in result.stdout.splitlines() if line and line[0] != " "] == [
        "this host",
        "tiny-cpu",
        "generic-cpu",
    ]
    assert refused("devices", "xeon_cpu") == "unknown hardware profile 'xeon_cpu'; did you mean 'xeon-cpu'?"


def test_doctor(folder: Path) -> None:
    result = run("doctor", "--work", "kept")
    assert (result.exit_code, result.stderr) == (0, "")
    for name in ("Python", "packages", "onnxruntime", "openvino", "CPU", "cores", "other load", "steadiness"):
        assert f" {name} " in result.stdout
    assert "free for kept" in result.stdout
    assert list(folder.iterdir()) == []


def test_doctor_of_an_installation_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table, or the JSON, is printed all the same."""
    old = installation.Package("torch", "1.0", ">=2.9", False)
    found = installation.Installation((old,), (), None)
    monkeypatch.setattr(doctor, "installation", lambda: found)
    monkeypatch.setattr(doctor, "steadiness", lambda cores: "skipped")
    said = "instatune-deploy cannot be used here: torch 1.0 (needed: >=2.9); `pip install 'torch>=2.9'`"
    result = run("doctor", "--json")
    assert one_line(result.stderr, result.exit_code, 2) == said
    assert json.loads(result.stdout)["usable"] is False
    result = run("doctor")
    assert one_line(result.stderr, result.exit_code, 2) == said
    assert "problem  packages " in result.stdout


# --- flags -------------------------------------------------------------------------------------------------------------


def test_unknown_device() -> None:
    assert refused("--device", "xeon_cpu") == "unknown hardware profile 'xeon_cpu'; did you mean 'xeon-cpu'?"
    assert refused("search", "--device", "toaster").startswith("unknown hardware profile 'toaster'; there are: ")


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ("20", "did you mean '20ms'?"),
        ("20s20", "such as 20ms"),
        ("-5ms", "must be more than 0"),
        ("0ms", "must be more than 0"),
        ("abc", "such as 20ms"),
        ("", "such as 20ms"),
        ("p95:20ms", "is no latency statistic"),
    ],
)
@pytest.mark.parametrize("command", [[], ["export"]])
def test_bad_budgets(command: list[str], budget: str, says: str, folder: Path) -> None:
    said = refused(*command, *RUN, "--budget", budget)
    assert said.startswith(f"budget '{budget}': ")
    assert says in said
    assert list(folder.iterdir()) == []


def test_no_device() -> None:
    assert refused().startswith("which device? instatune-deploy --device NAME")
    assert refused("search").startswith("which device? instatune-deploy --device NAME")


def test_options_before_the_command() -> None:
    said = refused("--budget", "20ms", "search", *RUN)
    assert said == "--budget stands before the command 'search'; options belong behind it"
    assert refused(*RUN, "search").startswith("--device stands before the command 'search'")


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--seed", "one"], ["--sed", "1"], ["--seed"]])
def test_bad_options(arguments: list[str]) -> None:
    assert "seed" in refused(*RUN, *arguments).lower()


def test_unknown_command() -> None:
    assert refused("serch", *RUN).startswith("No such command 'serch'")


def test_a_host_that_lacks_something(folder: Path) -> None:
    path = write_profile(folder)
    path.write_text(path.read_text(encoding="utf-8") + "requires: {cpu_flags: [hologram]}\n", encoding="utf-8")
    said = refused("--device", str(path))
    assert said == "hardware profile 'tiny-cpu' cannot be served by this host: it needs CPU flag hologram"


# --- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipeline", "device"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"task: [1\n", "own.yaml:2: "),
        (b"\xff\xfe", "cannot be read"),
        (b"- 1\n", "found a list"),
        (b"data: {split: {tset: 5}}\nname: a\nrun: []\n", "unknown key"),
    ],
)
def test_bad_settings(folder: Path, kind: str, content: bytes | None, says: str) -> None:
    path = folder / "own.yaml"
    if content is not None:
        path.write_bytes(content)
    devices = ["--device", str(path)] if kind == "device" else RUN
    pipelines = ["--pipeline", str(path)] if kind == "pipeline" else []
    said = refused(*devices, *pipelines)
    assert says in said
    assert str(path) in said


def test_a_misspelt_key(pipeline: Path) -> None:
    spoil(pipeline, "learning_rate:", "lerning_rate:")
    said = refused("finetune", "--pipeline", str(pipeline))
    assert said == f"{pipeline}:11: unknown key 'finetune.lerning_rate'; did you mean 'learning_rate'?"


def test_a_choice_the_model_does_not_have(pipeline: Path) -> None:
    pipeline.write_text(pipeline.read_text(encoding="utf-8") + "space: {heads: [5]}\n", encoding="utf-8")
    assert refused("finetune", "--pipeline", str(pipeline)) == "space.heads: 5 is more than the model has (4)"


def test_more_tokens_than_the_model_has(pipeline: Path) -> None:
    spoil(pipeline, "max_length: 24", "max_length: 41")
    said = refused("finetune", "--pipeline", str(pipeline))
    assert said == "data.max_length: 41 tokens are more than the model has positions (40)"


def test_a_batch_larger_than_the_data(pipeline: Path) -> None:
    spoil(pipeline, "batch_size: 16", "batch_size: 81")
    assert refused("finetune", "--pipeline", str(pipeline)).startswith("80 training rows are fewer than one batch")


# --- the model ---------------------------------------------------------------------------------------------------------


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def pickle_only(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def other_architecture(model: Path) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}), encoding="utf-8")


def unheard_of_architecture(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "superbert"}', encoding="utf-8")


def own_code(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "evil.Model"}}', encoding="utf-8")
    (model / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")


def truncated_weights(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def other_shapes(model: Path) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "num_attention_heads": 5}), encoding="utf-8")


def damaged_config(model: Path) -> None:
    (model / "config.json").write_text("{", encoding="utf-8")


def no_config(model: Path) -> None:
    (model / "config.json").unlink()


def no_tokenizer(model: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (model / name).unlink(missing_ok=True)


def configured(**changes: Any) -> Callable[[Path], None]:
    """config.json with other values."""

    def spoil(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def no_folder(model: Path) -> None:
    shutil.rmtree(model)


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        (no_weights, "the model folder has no weights (model.safetensors)"),
        (pickle_only, "the weights are there only as pytorch_model.bin; pickled checkpoints are never loaded"),
        (other_architecture, "model type 'gpt2' is not supported; supported are: bert, roberta"),
        (unheard_of_architecture, "superbert"),
        (own_code, "needs code of its own (auto_map), which is never run"),
        (truncated_weights, "not a whole safetensors file"),
        (other_shapes, ""),
        (damaged_config, "not valid JSON (line 1"),
        (no_config, "has no config.json"),
        (no_tokenizer, "has no tokenizer"),
        (configured(hidden_act="foo"), "the model cannot be loaded"),
        (configured(hidden_size="wide"), "config.json cannot be used"),
        (configured(num_hidden_layers=0), "num_hidden_layers must be at least 1"),
        (configured(vocab_size=10), "tokens, the model only 10"),
        (no_folder, "no such file or folder"),
    ],
)
def test_bad_models(pipeline: Path, folder: Path, spoiled: Any, says: str) -> None:
    spoiled(folder / "model")
    said = refused("finetune", "--pipeline", str(pipeline))
    assert says in said
    assert str(folder / "model") in said
    assert not list((folder / "runs").iterdir())  # nothing was begun


# --- the data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file or folder"),
        (b"", "the file is empty"),
        (b"text,label\n", "the file has no rows"),
        (
            b"txt,label\n" + b"good,a\nbad,b\n" * 60,
            "no column 'text' (data.text); the columns are: txt, label; did you mean 'txt'?",
        ),
        (b"text,mark\n" + b"good,a\nbad,b\n" * 60, "no column 'label' (data.label); the columns are: text, mark"),
        (b"text,label\n" + b"good,a\nbad,a\n" * 60, "every row has the label 'a'"),
        (b"text,label\n" + b"good,a\n,b\nbad,b\n" * 60, "60 rows with an empty text: row 2, 5, 8, 11, 14, ..."),
        (b"text,label\n" + b"good,a\nbad,\n" * 60, "60 rows without a label: row 2, 4, 6, 8, 10, ..."),
        (b"text,label\ngood,a\n\xe4rgerlich,b\n", "rows.csv:3: not UTF-8 (byte 0xe4)"),
        (b"text,label\ngood,a\nbad\n", "rows.csv:3: malformed row: 1 fields, expected 2"),
        (b"text,label\ngood,a\nbad,b\n", "2 rows are too few"),
    ],
)
def test_bad_data(pipeline: Path, folder: Path, content: bytes | None, says: str) -> None:
    (folder / "rows.csv").unlink()
    if content is not None:
        (folder / "rows.csv").write_bytes(content)
    assert says in refused("finetune", "--pipeline", str(pipeline))
    assert not list((folder / "runs").iterdir())


# --- where results go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--output", "--work"])
def test_unwritable_folders(pipeline: Path, folder: Path, flag: str) -> None:
    (folder / "file").write_text("")
    for place in ("file", "file/below"):
        said = refused(*RUN, "--pipeline", str(pipeline), flag, place)
        assert said.startswith(f"cannot write to {place}: ")


# --- verify ------------------------------------------------------------------------------------------------------------


def test_verify_what_is_no_artifact(folder: Path) -> None:
    assert refused("verify", "nowhere") == "nowhere: no such folder"
    (folder / "empty").mkdir()
    assert refused("verify", "empty") == "empty: not an artifact (it has no file manifest.json)"
    assert refused("verify") == "Missing argument 'ARTIFACT'."


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content[:-1], "truncated"),
        (lambda content: content[:10], "truncated: 10 bytes"),
        (lambda content: content + b"x", "longer than it was"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "its content was changed"),
        (lambda content: b"", "truncated: 0 bytes"),
    ],
)
@pytest.mark.parametrize("name", ["model.onnx", "samples.npz", "tokenizer.json"])
def test_verify_a_changed_artifact(folder: Path, name: str, change: Any, says: str) -> None:
    path = make_artifact(folder / "made", budget=None) / name
    path.write_bytes(change(path.read_bytes()))
    said = refused("verify", "made", code=4)
    assert said.startswith(f"made: file {name}: ")
    assert says in said


def test_verify_a_changed_manifest(folder: Path) -> None:
    path = make_artifact(folder / "made", budget=None) / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.875", "0.975"), encoding="utf-8")
    assert "its content does not match its own checksum" in refused("verify", "made", code=4)
    path.write_text("{", encoding="utf-8")
    assert "damaged" in refused("verify", "made", code=4)


def test_verify_as_a_device(folder: Path) -> None:
    make_artifact(folder / "made", budget=None)
    assert run("verify", "made", "--device", "generic-cpu").stdout.startswith("ok      device: this host is 'generic-cpu'\n")
    assert "'arm-edge-cpu' cannot be served by this host: it needs " in refused("verify", "made", "--device", "arm-edge-cpu")
    assert refused("verify", "made", "--device", "nowhere").startswith("unknown hardware profile 'nowhere'; there are: ")


def test_verify_a_whole_artifact(folder: Path) -> None:
    make_artifact(folder / "made", budget=None)
    result = run("verify", "made")
    assert result.exit_code == 0
    assert "ok      parity: logits of 5 rows differ by up to " in result.stdout
    assert result.stdout.endswith("made is what its manifest says.\n")


# --- measurements ------------------------------------------------------------------------------------------------------


def measured(path: Path) -> None:
    """A store of one believed and one failed measurement."""
    with MeasurementStore(path) as store:
        store.add(MADE)
        store.add(FAILED)


def test_measurements_of_an_empty_folder(folder: Path) -> None:
    result = run("measurements")
    assert result.exit_code == 0
    assert result.stdout.startswith("No measurements in runs/measurements.sqlite yet: `instatune-deploy profile --device NAME`")
    assert not list(folder.iterdir())
    for command in (["show", "1"], ["export", "a.csv"]):
        assert refused("measurements", *command) == "measurement store runs/measurements.sqlite: no such file"
    assert refused("measurements", "--store", "other.sqlite") == "measurement store other.sqlite: no such file"
    assert not list(folder.iterdir())
    MeasurementStore(folder / "runs" / "measurements.sqlite").close()
    assert run("measurements").stdout.startswith("No measurements in runs/measurements.sqlite yet")


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ([], ["1", "2"]),
        (["--device", "xeon-cpu"], ["1", "2"]),
        (["--believed"], ["1"]),
        (["--not-believed"], ["2"]),
        (["--provider", "cuda", "--runtime", "openvino", "--precision", "bf16", "--threads", "2"], ["2"]),
        (["--since", "2026-01-31"], ["1"]),
        (["--architecture", MADE.deployment.architecture.digest[:5], "--host", MADE.host], ["1", "2"]),
        (["--limit", "1"], ["2"]),
    ],
)
def test_measurements_are_listed_and_exported(folder: Path, filters: list[str], ids: list[str]) -> None:
    measured(folder / "runs" / "measurements.sqlite")
    for place in (
        [],
        ["--work", "runs"],
        ["--store", "runs/measurements.sqlite"],
        ["--store", "sqlite:///runs/measurements.sqlite"],
    ):
        result = run("measurements", *place, *filters)
        assert (result.exit_code, result.stderr) == (0, "")
        # a line each, whatever the terminal: a log is searched with grep
        assert [line.split()[0] for line in result.stdout.splitlines() if "xeon-cpu" in line] == ids
    assert ("it could not be run: out of memory" in result.stdout) == ("2" in ids)
    assert result.stdout.splitlines()[-1].startswith(f"{'2 measurements' if '--limit' in filters or len(ids) == 2 else '1 meas'}")
    exported = run("measurements", "export", "out/all.csv", *filters)
    assert (exported.exit_code, exported.stdout) == (0, "")
    assert exported.stderr == f"{len(ids)} measurement{'s' if len(ids) > 1 else ''} written to out/all.csv\n"
    assert len((folder / "out" / "all.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(ids)


def test_one_measurement(folder: Path) -> None:
    measured(folder / "runs" / "measurements.sqlite")
    assert json.loads(run("measurements", "show", "1").stdout)["key"] == MADE.key
    assert refused("measurements", "show", "3").startswith("measurement store runs/measurements.sqlite: no measurement 3; ")
    assert refused("measurements", "show", "99999999999999999999").startswith(
        "Invalid value for 'ID': 99999999999999999999 is not"
    )
    assert refused("measurements", "show", "one").startswith("Invalid value for 'ID': 'one' is not a valid integer")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--since", "yesterday"], "since 'yesterday': not a time; right would be 2026-01-31 or 2026-01-31T12:00"),
        (["--architecture", "6L"], "architecture '6L': right would be the first digits"),
        (["--threads", "0"], "Invalid value for '--threads'"),
        (["--limit", "0"], "Invalid value for '--limit'"),
        (["--device", "xeon-cpu", "show", "1"], "--device stands before the command 'show'; options belong behind it"),
        (
            ["--not-believed", "show", "1"],
            "--believed or --not-believed stands before the command 'show'; options belong behind it",
        ),
        (["--store", "oraclesql://x/y"], "measurement store oraclesql://x/y: no kind of database"),
        (["--store", "."], "measurement store .: it is a folder"),
        (["export", "all.txt"], "all.txt: unknown ending '.txt'; right would be FILE.csv or FILE.parquet"),
        (["export", "there.csv"], "there.csv: it is there already; --force overwrites it"),
        (["export", "all.csv", "--host", "none"], "all.csv: not written, no measurement matches"),
        (["export", "there.csv/below.csv"], "cannot write there.csv/below.csv: "),
    ],
)
def test_bad_requests_for_measurements(folder: Path, arguments: list[str], says: str) -> None:
    measured(folder / "runs" / "measurements.sqlite")
    (folder / "there.csv").write_text("mine")
    assert refused("measurements", *arguments).startswith(says)
    assert (folder / "there.csv").read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["runs", "there.csv"]


def test_overwriting_an_export(folder: Path) -> None:
    measured(folder / "runs" / "measurements.sqlite")
    (folder / "there.parquet").write_text("mine")
    assert run("measurements", "export", "there.parquet", "--force").exit_code == 0
    assert (folder / "there.parquet").read_bytes().startswith(b"PAR1")


def test_nothing_matches(folder: Path) -> None:
    measured(folder / "runs" / "measurements.sqlite")
    result = run("measurements", "--device", "toaster")
    assert (result.exit_code, result.stdout) == (0, "None of 2 measurements in runs/measurements.sqlite matches.\n")


# --- as a program ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--version"], 0, ""),
        (["--device", "generic-cpu", "--budget", "abc"], 2, "budget 'abc': "),
        (["finetune", "--pipeline", "missing.yaml"], 2, "pipeline missing.yaml: no such file"),
        (["verify", "nowhere"], 2, "nowhere: no such folder"),
    ],
)
def test_as_a_program(arguments: list[str], code: int, says: str) -> None:
    command = [sys.executable, "-m", "instatune_deploy", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    if code == 0:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert one_line(done.stderr, done.returncode, code).startswith(says)
