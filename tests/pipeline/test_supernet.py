"""The stages supernet and finetune on the tiny checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from instatune_deploy import __version__
from instatune_deploy.digests import file_sha256
from instatune_deploy.errors import BadInput
from instatune_deploy.files import read_json
from instatune_deploy.pipeline import training
from instatune_deploy.pipeline.inputs import load_inputs, load_pipeline
from instatune_deploy.pipeline.supernet import Supernet, finetune_stage, supernet_key
from instatune_deploy.pipeline.teacher import teacher_of
from instatune_deploy.supernet.load import load_pretrained
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.terminal import Terminal

from .fakes import write_pipeline

LABELS = ["negative", "positive"]


@pytest.fixture
def write(tiny_checkpoint: Path, tiny_csv: Path, tmp_path: Path) -> Callable[..., Path]:
    """A pipeline file of ten steps, with changes to its parts ``finetune`` and ``space``."""

    def make(space: dict[str, Any] | None = None, **finetune: Any) -> Path:
        path = write_pipeline(tmp_path, tiny_checkpoint, tiny_csv, steps=10)
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings["finetune"] |= {"learning_rate": 1e-3, **finetune}
        settings["space"] = space or {}
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return path

    return make


def finetuned(pipeline: Path, seed: int = 0) -> Supernet:
    return finetune_stage(load_inputs(load_pipeline(str(pipeline))), pipeline.parent / "runs", seed, Terminal())


def key(pipeline: Path, work: Path = Path("runs")) -> str:
    inputs = load_inputs(load_pipeline(str(pipeline)))
    space = SearchSpace.of(ModelShape(4, 4, 64, 32, 8, 0, 0), inputs.settings.space, range(4))
    return supernet_key(inputs, space, teacher_of(inputs, work, 0, False), 0, False)


def test_what_it_leaves_behind(write: Callable[..., Path]) -> None:
    supernet = finetuned(write())
    assert {path.name for path in supernet.folder.iterdir()} == {"model", "supernet.json", "tensorboard", ".lock"}
    facts = read_json(supernet.folder / "supernet.json")
    assert facts["weights"] == file_sha256(supernet.folder / "model" / "model.safetensors")
    assert facts["teacher"] is None
    (entry,) = facts["log"]
    events = EventAccumulator(str(supernet.folder / "tensorboard")).Reload()
    (loss,) = events.Scalars("train/loss")
    assert (loss.step, loss.value) == (10, pytest.approx(entry["loss"]))
    assert {"train/learning_rate", "train/grad_norm"} <= set(events.Tags()["scalars"])


def test_another_build_of_the_same_libraries_finds_it(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write()
    monkeypatch.setattr(training, "version", lambda name: "2.13.0+cpu")
    trained = finetuned(path)
    monkeypatch.setattr(training, "version", lambda name: "2.13.0+cu130")
    assert finetuned(path).folder == trained.folder
    monkeypatch.setattr(training, "version", lambda name: "2.14.0")
    assert finetuned(path).folder != trained.folder


def test_the_libraries_that_weights_of_texts_depend_on(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is in every key: one more, and what was trained before is trained anew."""
    inputs = load_inputs(load_pipeline(str(write())))
    monkeypatch.setattr(training, "version", lambda name: "1")
    named = ("torch", "transformers", "accelerate", "tokenizers")
    expected = {"instatune-deploy": __version__, **dict.fromkeys(named, "1")}
    assert training.trained_on(inputs, 0, False)["versions"] == expected


def test_a_teacher_is_trained_once(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    supernet = finetuned(write(teacher="train"))
    work = supernet.folder.parent.parent
    (teacher,) = (work / "teachers").iterdir()
    assert {path.name for path in teacher.iterdir()} == {"model", "teacher.json", "tensorboard", ".lock"}
    weights = file_sha256(teacher / "model" / "model.safetensors")
    assert supernet.facts["teacher"] == weights
    assert "the teacher is trained first, on 80 rows" in capsys.readouterr().err
    # another super-network of the same teacher
    other = finetuned(write(teacher="train", gamma=0.5))
    assert other.key != supernet.key
    assert other.weights != supernet.weights
    assert other.facts["teacher"] == weights
    said = capsys.readouterr().err
    assert "teacher trained before" in said
    assert "trained first" not in said
    # the same folder, given by name, is the same teacher
    given = finetuned(write(teacher=str(teacher / "model")))
    assert given.weights == supernet.weights
    assert finetuned(write()).weights != supernet.weights


def test_keys_follow_the_weights_of_the_teacher(write: Callable[..., Path], tiny_checkpoint: Path, tmp_path: Path) -> None:
    folders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        load_pretrained(tiny_checkpoint, LABELS, seed=seed).save_pretrained(tmp_path / name)
        folders.append(key(write(teacher=str(tmp_path / name))))
    assert folders[0] == folders[1]
    assert len({*folders, key(write()), key(write(teacher="train"))}) == 4


@pytest.mark.parametrize("change", [{"alpha": 0.5}, {"gradient_accumulation_steps": 2}, {"teacher_epochs": 0.5}, {"samples": 2}])
def test_keys_follow_the_settings(write: Callable[..., Path], change: dict[str, Any]) -> None:
    before = key(write())
    assert key(write(**change)) != before
    assert key(write(checkpoint_steps=7)) == before
    # an ordinary training knows nothing of the super-network's settings
    teachers = []
    for more in ({}, change):
        inputs = load_inputs(load_pipeline(str(write(teacher="train", **more))))
        teachers.append(teacher_of(inputs, Path(), 0, False))
    assert (teachers[0] == teachers[1]) == ("gradient_accumulation_steps" not in change)


def test_a_teacher_that_cannot_teach(write: Callable[..., Path], tiny_checkpoint: Path, tmp_path: Path) -> None:
    load_pretrained(tiny_checkpoint, ["a", "b", "c"], seed=0).save_pretrained(tmp_path / "other")
    with pytest.raises(BadInput, match=r"other: other labels than the model: a, b, c, not negative, positive$"):
        finetuned(write(teacher=str(tmp_path / "other")))
    with pytest.raises(BadInput, match=r"^finetune\.teacher: .*missing\.safetensors: no such file or folder$"):
        finetuned(write(teacher="missing.safetensors"))


def test_layers_kept_by_importance(write: Callable[..., Path]) -> None:
    supernet = finetuned(write(space={"keep_layers": "importance"}))
    assert sorted(supernet.space.layer_order) == [0, 1, 2, 3]
    assert tuple(read_json(supernet.folder / "layer_order.json")) == supernet.space.layer_order
    loaded = load_file(supernet.folder / "model" / "model.safetensors")
    assert len(loaded) == len(supernet.network.model.state_dict())


def test_fewer_rows_than_a_step(write: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match=r"^80 training rows are fewer than one batch; .* below 96 or give more data$"):
        load_inputs(load_pipeline(str(write(gradient_accumulation_steps=6))))


def test_says_when_it_will_order(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    finetuned(write())
    assert "heads and neurons will be ordered by importance on 32 rows after 2 of 10 steps" in capsys.readouterr().err
    # 80 rows, 16 a batch
    finetuned(write(max_steps=None, epochs=1.5, full_epochs=1.0))
    assert "on 32 rows after 5 of 8 steps" in capsys.readouterr().err
    finetuned(write(importance="weight-norm", importance_rows=0))
    assert "heads and neurons will be ordered by the size of their weights after 2 of 10 steps" in capsys.readouterr().err


def test_settings_that_contradict_each_other(write: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match=r"full_epochs \(0.4\) must be less than epochs \(0.25\), or no sub-network is trained"):
        load_pipeline(str(write(max_steps=None, epochs=0.25)))
    with pytest.raises(BadInput, match="with gamma 0 the teacher is never asked: leave it out, or raise gamma"):
        load_pipeline(str(write(teacher="train", gamma=0)))
    with pytest.raises(BadInput, match="correct_prefixes needs importance_rows to fit to: raise them"):
        load_pipeline(str(write(correct_prefixes=True, importance_rows=0)))


def test_several_processes_are_refused_before_one_waits_for_another(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match=r"^the command line trains in one process; for several use SuperNetworkTrainer with"):
        finetuned(write())


def test_keys_follow_how_is_trained(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = write(teacher="train")
    inputs = load_inputs(load_pipeline(str(pipeline)))
    before = key(pipeline), teacher_of(inputs, Path(), 0, False)
    monkeypatch.setattr("instatune_deploy.pipeline.training.TRAINING_REVISION", 99)
    after = key(pipeline), teacher_of(inputs, Path(), 0, False)
    assert before[0] != after[0]
    assert before[1] != after[1]
