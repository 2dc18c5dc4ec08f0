from __future__ import annotations

import json
from pathlib import Path

import httpx2
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors.numpy import save_file

from instatune_deploy.errors import BadInput
from instatune_deploy.tasks.hub import load_data
from instatune_deploy.tasks.references import HubDataset, check_model_folder, is_on_hub, resolve

RESPONSE = httpx2.Response(404, request=httpx2.Request("GET", "https://hub/x"))


def find(reference: str, kind: str = "data", sha256: str | None = None, revision: str | None = None):
    return resolve(reference, sha256=sha256, revision=revision, kind=kind, where="here")  # type: ignore[call-overload]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    save_file({"w": np.zeros(4, np.float32)}, folder / "model.safetensors")
    return folder


def test_local_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").touch()
    assert find("data/rows.csv").samefile(tmp_path / "data" / "rows.csv")
    assert find("data", "model").samefile(tmp_path / "data")
    assert find("~/data/rows.csv") == tmp_path / "data" / "rows.csv"


@pytest.mark.parametrize(
    "reference", ["./nothing", "/no/such", "~/nothing", "a/b/c", "data/rows.csv", "rows.tsv", "https://x/y", " "]
)
@pytest.mark.parametrize("kind", ["model", "data"])
def test_what_is_a_path_and_not_there(reference, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="no such file or folder"):
        find(reference, kind)


def test_hub_data_is_left_to_its_library():
    assert find("stanfordnlp/sst2", revision="main") == HubDataset("stanfordnlp/sst2", "main")
    assert find("imdb") == HubDataset("imdb", None)


def test_a_pin_that_would_be_ignored_is_refused(tmp_path, archives):
    with pytest.raises(BadInput, match="'sha256' pins pypi: references"):
        find(str(tmp_path), sha256="a" * 64)
    with pytest.raises(BadInput, match="'sha256' pins pypi: references"):
        find("stanfordnlp/sst2", sha256="a" * 64)
    with pytest.raises(BadInput, match="'revision' pins hub ids"):
        find(str(tmp_path), revision="main")
    with pytest.raises(BadInput, match="'revision' pins hub ids"):
        find("pypi:a==1/b", sha256="a" * 64, revision="main")


def test_a_package_reference(archives):
    assert find("pypi:some-data==1.5/data/plain.csv", sha256=archives.sha256(archives.source)).name == "plain.csv"


def test_a_hub_model_brings_no_pickles_and_no_code(model, monkeypatch):
    asked = {}

    def snapshot(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert find("google-bert/bert-base-uncased", "model", revision="v1") == model
    assert asked["name"] == "google-bert/bert-base-uncased"
    assert asked["revision"] == "v1"
    files = ["config.json", "model.safetensors", "vocab.txt", "pytorch_model.bin", "modeling.py", "onnx/config.json"]
    taken = huggingface_hub.utils.filter_repo_objects(
        files, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"]
    )
    assert list(taken) == ["config.json", "model.safetensors", "vocab.txt"]
    (model / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="no safetensors weights"):
        find("google-bert/bert-base-uncased", "model")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            LocalEntryNotFoundError("Got: ConnectError\nmore"),
            r"no such local file or folder, and the hub could not be reached.*ConnectError\)$",
        ),
        (RepositoryNotFoundError("x", response=RESPONSE), "no such local file or folder, and the hub has no (model|data set)"),
        (RevisionNotFoundError("x", response=RESPONSE), "has no revision 'v9'"),
        (GatedRepoError("x", response=RESPONSE), "hf auth login"),
    ],
)
def test_what_the_hub_says(error, message, monkeypatch):
    def refuse(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    with pytest.raises(BadInput, match=f"^here: some/thing: .*{message}"):
        find("some/thing", "model", revision="v9")
    with pytest.raises(BadInput, match=f"^here: some/thing: .*{message}"):
        load_data("some/thing", "v9", "here")


def test_a_good_model_folder(model):
    check_model_folder(model)


def test_a_good_model_in_shards(model):
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "model-1.safetensors"}}))
    check_model_folder(model)
    index.write_text(json.dumps({"weight_map": {"w": "model-1.safetensors", "v": "model-2.safetensors"}}))
    with pytest.raises(BadInput, match=r"model-2\.safetensors"):
        check_model_folder(model)
    index.write_text(json.dumps({"weight_map": {"w": "../model/model-1.safetensors"}}))
    with pytest.raises(BadInput, match="not in the folder"):
        check_model_folder(model)
    index.write_text("{}")
    with pytest.raises(BadInput, match="no 'weight_map'"):
        check_model_folder(model)


def test_no_model_folder(tmp_path, model):
    with pytest.raises(BadInput, match="not there"):
        check_model_folder(tmp_path / "nothing")
    with pytest.raises(BadInput, match="this is a file"):
        check_model_folder(model / "config.json")


def test_model_without_config(model):
    (model / "config.json").unlink()
    with pytest.raises(BadInput, match=r"no config\.json"):
        check_model_folder(model)


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[]", "expected a JSON object")])
def test_model_with_a_broken_config(model, text, message):
    (model / "config.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        check_model_folder(model)


def test_model_without_weights_or_with_pickles_only(model):
    (model / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="has no weights"):
        check_model_folder(model)
    (model / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    with pytest.raises(BadInput, match=r"only as pytorch_model\.bin; pickled checkpoints are never loaded, convert"):
        check_model_folder(model)


def test_truncated_weights(model):
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[:-3])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        check_model_folder(model)


def test_code_of_the_model_is_never_used(model):
    (model / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoModel": "modeling.Mine"}}')
    with pytest.raises(BadInput, match=r"'mine' needs code of its own \(auto_map\)"):
        check_model_folder(model)
    (model / "config.json").write_text('{"model_type": "bert", "auto_map": {"AutoModel": "modeling.Mine"}}')
    check_model_folder(model)


def test_what_is_taken_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "minilm").mkdir(parents=True)
    assert is_on_hub("google/bert-base") is True
    for reference in ("models/minilm", "pypi:package==1/model", "./nowhere/at all"):
        assert is_on_hub(reference) is False
