"""Matrix files: many artifacts of one super-network, a summary of all, and a gate."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from click.testing import CliRunner, Result

from instatune_deploy.artifact.compare import Gate
from instatune_deploy.artifact.manifest import Manifest, read_manifest, write_manifest
from instatune_deploy.cli import main
from instatune_deploy.errors import BadInput, VerificationFailed
from instatune_deploy.pipeline import kept
from instatune_deploy.pipeline.targets import load_pipeline_or_matrix

from .fakes import Place, write_profile

ELSEWHERE = """\
name: far-away
description: Nothing is one of these.
requires: {machine: [pdp11]}
runs:
  - runtime: onnxruntime
"""


def matrix(place: Place, *targets: str, pipeline: str | None = None) -> Path:
    """A matrix file beside the tiny pipeline."""
    path = place.folder / "ci.yaml"
    lines = [f"pipeline: {pipeline or place.pipeline.name}", "targets:", *(f"  - {{{target}}}" for target in targets)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(place: Place, path: Path, *arguments: str) -> Result:
    places = ["--work", str(place.work), "--output", str(place.output)]
    return CliRunner().invoke(main, ["--pipeline", str(path), *places, *arguments])


def test_everything_is_built_and_summed_up(place: Place) -> None:
    """One target of three fails for its budget, and one is for a device that is elsewhere: the worst code is the job's."""
    tiny, far = write_profile(place.folder), place.folder / "far-away.yaml"
    far.write_text(ELSEWHERE, encoding="utf-8")
    path = matrix(
        place,
        f"device: {tiny}, budget: 4ms",
        f"device: {tiny}, budget: [1us, size:1MB], name: hopeless",
        f"device: {far}, budget: 5ms",
        f"device: {tiny}, budget: 6ms",
    )
    done = run(place, path)
    assert done.exit_code == 3, done.stderr
    assert done.stderr.splitlines()[-1] == "Error: 2 of 4 targets have no result; see above"
    assert "Error: target hopeless: nothing keeps 0.001ms,size:1MB" in done.stderr
    assert "Error: target far-away: " in done.stderr
    built = {path.name for path in place.output.iterdir()}
    assert built >= {"tiny-cpu-4ms", "tiny-cpu-6ms", "summary.json", "summary.md", "junit.xml"}
    assert "hopeless" not in built
    assert read_manifest(place.output / "tiny-cpu-6ms").latency_ms.p90 <= 6
    value = json.loads((place.output / "summary.json").read_text())
    assert value["ok"] is False
    assert [(build["name"], build["exit_code"]) for build in value["builds"]] == [
        ("tiny-cpu-4ms", 0),
        ("hopeless", 3),
        ("far-away", 2),
        ("tiny-cpu-6ms", 0),
    ]
    assert value["builds"][0]["latency_ms"] == read_manifest(place.output / "tiny-cpu-4ms").latency_ms.p90
    table = (place.output / "summary.md").read_text().splitlines()
    assert table[2].startswith("| tiny-cpu-4ms | 4ms | built | ")
    assert "| hopeless | 0.001ms,size:1MB | failed (3) |" in table[3]
    suite = Xml.parse(place.output / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["hopeless", "far-away"]


def test_a_second_run_trains_and_measures_nothing(place: Place) -> None:
    tiny = write_profile(place.folder)
    path = matrix(place, f"device: {tiny}, budget: 4ms", f"device: {tiny}, budget: 6ms")
    assert run(place, path).exit_code == 0
    place.fake.measured.clear()
    place.fake.remeasured.clear()
    place.fake.evaluated.clear()
    done = run(place, path)
    assert done.exit_code == 0
    assert (place.fake.measured, place.fake.remeasured, place.fake.evaluated) == ([], [], [])
    assert done.stderr.count("made before, its files are unchanged, reused") == 2


def test_one_runner_builds_its_own_targets(place: Place) -> None:
    tiny, other = write_profile(place.folder), write_profile(place.folder, "other-cpu")
    path = matrix(place, f"device: {tiny}, budget: 4ms", f"device: {other}, budget: 5ms")
    done = run(place, path, "--device", str(other))
    assert done.exit_code == 0, done.stderr
    assert {build["name"] for build in json.loads((place.output / "summary.json").read_text())["builds"]} == {"other-cpu"}


@pytest.mark.parametrize(
    ("targets", "arguments", "message"),
    [
        (["device: TINY, budget: 4ms"], ["--budget", "5ms"], "--budget: the targets of a matrix have budgets of their own"),
        (["device: TINY"], ["--device", "xeon-cpu"], "--device xeon-cpu: the matrix has no target for it; it has "),
        (["device: TINY, budget: 4ms", "device: TINY, budget: 4ms"], [], "targets: two are called 'tiny-cpu-4ms'"),
        (["device: TINY, budget: 20MB"], [], "budget '20MB': 'MB' is no unit of time"),
        (["device: nonsense"], [], "unknown hardware profile 'nonsense'"),
        (["device: TINY, nmae: x"], [], "ci.yaml:3: unknown key 'targets.0.nmae'; did you mean 'name'?"),
    ],
)
def test_one_clear_line(place: Place, targets: list[str], arguments: list[str], message: str) -> None:
    tiny = str(write_profile(place.folder))
    done = run(place, matrix(place, *(target.replace("TINY", tiny) for target in targets)), *arguments)
    assert done.exit_code == 2
    assert message in done.stderr.splitlines()[-1]


def test_the_pipeline_of_a_matrix(place: Place) -> None:
    """A file beside it, or the name of one that is shipped."""
    settings, found = load_pipeline_or_matrix(str(matrix(place, "device: xeon-cpu")))
    assert found is not None
    assert settings.data.max_length != 128
    settings, _ = load_pipeline_or_matrix(str(matrix(place, "device: xeon-cpu", pipeline="sentiment")))
    assert settings.data.max_length == 128
    with pytest.raises(BadInput, match=r"pipeline none\.yaml: no such file"):
        load_pipeline_or_matrix(str(matrix(place, "device: xeon-cpu", pipeline="none.yaml")))
    assert load_pipeline_or_matrix("sentiment")[1] is None


@pytest.mark.parametrize(
    "text",
    [
        '{"pipeline": "sentiment", "targets": [{"device": "xeon-cpu"}]}',
        "{pipeline: sentiment, targets: [{device: xeon-cpu}]}",
        "\"pipeline\": sentiment\n'targets':\n- device: xeon-cpu\n",
        "  pipeline: sentiment\n  targets :\n  - device: xeon-cpu\n",
    ],
    ids=["JSON", "flow", "quoted", "indented"],
)
def test_a_matrix_however_it_is_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ci.yaml"
    path.write_text(text, encoding="utf-8")
    settings, found = load_pipeline_or_matrix(str(path))
    assert found is not None
    assert [target.device for target in found.targets] == ["xeon-cpu"]
    assert settings.task == "text-classification"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pipeline: sentiment\ntargets: [\n", ":3: "),
        ("targets: []\npipeline: x\ntargets: []\n", ":3: key 'targets' stands here twice"),
        ("task: |\n  is\ntargets:\n", ":1: unknown key 'task'; "),
        ("description: |\n  targets:\n", ":1: unknown key 'description'; "),
        ("", ": the file is empty; it needs at least the keys task, model, data"),
        ("targets:\n", ":1: "),
    ],
)
def test_what_is_neither_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "ci.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as caught:
        load_pipeline_or_matrix(str(path))
    assert caught.value.message.startswith(f"{path}{says}")
    assert "\n" not in caught.value.message


# --- the gate -----------------------------------------------------------------------------------------------------------


def changed(manifest: Manifest, **changes: Any) -> Manifest:
    return manifest.model_copy(update=changes)


def test_worse_by_more_than_is_allowed(finished: Place) -> None:
    old = read_manifest(finished.artifact)
    gate = Gate(finished.output, latency_increase=0.05, accuracy_drop=0.5)
    took, right = old.latency_ms.p90, old.accuracy.test
    assert right is not None

    def new(times: float, lost: float) -> Manifest:
        latency = old.latency_ms.model_copy(update={"p90": took * times})
        return changed(old, latency_ms=latency, accuracy=old.accuracy.model_copy(update={"test": right - lost / 100}))

    assert gate.check("tiny-cpu", new(1.05, 0.5), old).startswith(f"p90 {took:.2f} -> {1.05 * took:.2f} ms (+5.0%), accuracy ")
    with pytest.raises(VerificationFailed, match=r"tiny-cpu is slower than before: .*\(\+6\.0%\).*; allowed are 5\.0%"):
        gate.check("tiny-cpu", new(1.06, 0), old)
    with pytest.raises(VerificationFailed, match=r"tiny-cpu is less accurate than before: .*; allowed are 0\.5 points"):
        gate.check("tiny-cpu", new(0.5, 0.6), old)
    with pytest.raises(BadInput, match=r"that artifact is of another labels \(a, b, not .*\)"):
        gate.check("tiny-cpu", old, changed(old, labels=["a", "b"]))
    assert gate.check("tiny-cpu", old, None) == f"nothing to compare with in {finished.output}"


def test_what_came_before(finished: Place) -> None:
    """A folder of artifacts; or one, where nothing else is compared."""
    manifest = read_manifest(finished.artifact)
    assert Gate(finished.output).before("tiny-cpu", alone=False) == manifest
    assert Gate(finished.artifact).before("anything", alone=True) == manifest
    assert Gate(finished.artifact).before("anything", alone=False) is None
    assert Gate(finished.output).before("other", alone=True) is None


def test_what_cannot_be_compared_is_said_before_anything_is_measured(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.artifact, tmp_path / "before" / "another-name")
    device = str(write_profile(place.folder))
    done = run(place, place.pipeline, "--device", device, "--compare", str(tmp_path / "before"))
    assert done.exit_code == 2
    assert "no artifact called tiny-cpu there, but another-name" in done.stderr
    manifest = changed(read_manifest(place.artifact), task="translation")
    write_manifest(tmp_path / "before" / "another-name", manifest)
    (tmp_path / "before" / "another-name").rename(tmp_path / "before" / "tiny-cpu")
    done = run(place, place.pipeline, "--device", device, "--compare", str(tmp_path / "before"), "--budget", "5ms")
    assert done.exit_code == 2
    assert "that artifact is of another task (translation, not text-classification)" in done.stderr
    assert not place.fake.measured


def test_a_folder_in_the_way_is_said_first(place: Place) -> None:
    shutil.rmtree(place.artifact)
    place.artifact.mkdir()
    (place.artifact / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="it exists and is no artifact"):
        place.job("4ms")


def test_what_does_not_pass_replaces_nothing(place: Place, tmp_path: Path) -> None:
    """Compared with what lies in the folder itself: the slower one is not put there, however often it is tried."""
    tiny = write_profile(place.folder)
    arguments = ["--device", str(tiny), "--budget", "6ms", "--archive", "--compare", str(place.output)]
    before = read_manifest(place.artifact)
    for _ in range(2):
        done = run(place, place.pipeline, *arguments, "--max-latency-increase", "1%")
        assert done.exit_code == 4, done.stderr
        assert "tiny-cpu is slower than before" in done.stderr.splitlines()[-1]
        assert read_manifest(place.artifact) == before
        assert not list(place.output.glob("*.zip"))
    done = run(place, place.pipeline, *arguments, "--max-latency-increase", "90%", "--max-accuracy-drop", "100")
    assert done.exit_code == 0, done.stderr
    assert "compared with before: p90 " in done.stderr
    assert read_manifest(place.artifact).latency_ms.p90 > before.latency_ms.p90


def test_a_damaged_artifact_of_before_is_in_the_summary(place: Place, tmp_path: Path) -> None:
    previous = tmp_path / "previous" / "tiny-cpu"
    previous.mkdir(parents=True)
    (previous / "manifest.json").write_text("{}")
    done = run(place, matrix(place, f"device: {write_profile(place.folder)}, budget: 4ms"), "--compare", str(previous.parent))
    assert done.exit_code == 4
    (build,) = json.loads((place.output / "summary.json").read_text())["builds"]
    assert (build["exit_code"], "not the manifest of an artifact" in build["message"]) == (4, True)


def test_whatever_ends_the_job_the_summary_is_of_this_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that cannot be read, and something that is nobody's mistake: no older summary is left to be taken for this one."""
    tiny = write_profile(place.folder)
    path = matrix(place, f"device: {tiny}, budget: 4ms", f"device: {tiny}, budget: 6ms")
    assert run(place, path).exit_code == 0
    text = place.pipeline.read_text(encoding="utf-8")
    place.pipeline.write_text(text.replace("max_length: 24", "max_length: 4096"), encoding="utf-8")
    assert run(place, path).exit_code == 2
    value = json.loads((place.output / "summary.json").read_text())
    assert [(build["exit_code"], build["message"].split(":")[0]) for build in value["builds"]] == [(2, "data.max_length")] * 2
    place.pipeline.write_text(text, encoding="utf-8")

    def broken(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("instatune_deploy.pipeline.kept.searched", broken)
    assert run(place, path).exit_code == 1
    value = json.loads((place.output / "summary.json").read_text())
    assert [(build["exit_code"], build["message"]) for build in value["builds"]] == [(1, "not built: RuntimeError")] * 2
    assert value["ok"] is False


def test_what_nobody_foresaw_costs_one_target_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = write_profile(place.folder)
    path = matrix(place, f"device: {tiny}, budget: 4ms", f"device: {tiny}, budget: 6ms")
    real = kept.searched

    def broken_for_one(searcher: Any, work: Path) -> Any:
        if "4ms" in str(searcher.budget):
            raise RuntimeError("broken")
        return real(searcher, work)

    monkeypatch.setattr("instatune_deploy.pipeline.kept.searched", broken_for_one)
    done = run(place, path)
    assert done.exit_code == 1
    assert "RuntimeError: broken" in done.stderr
    value = json.loads((place.output / "summary.json").read_text())
    assert [(build["exit_code"], build["message"]) for build in value["builds"]] == [(1, "not built: RuntimeError"), (0, "")]


def test_a_figure_that_this_host_does_not_tell_fails_its_target_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instatune_deploy.devices.memory.forget_peak", lambda: False)
    tiny = write_profile(place.folder)
    path = matrix(place, f"device: {tiny}, budget: [4ms, memory:200MB]", f"device: {tiny}, budget: 6ms")
    done = run(place, path)
    assert done.exit_code == 2
    value = json.loads((place.output / "summary.json").read_text())
    assert [build["exit_code"] for build in value["builds"]] == [2, 0]
    finetune = CliRunner().invoke(main, ["finetune", "--pipeline", str(path), "--work", str(place.work)])
    assert finetune.exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere", "5%", "0.5"), "--compare nowhere: no such folder"),
        ((".", "5", "0.5"), "--max-latency-increase 5: write 5%, or a share below 1"),
        ((".", "5x", "0.5"), "--max-latency-increase '5x': a number, such as 5% or 0.05"),
        ((".", "5%", "-1"), "--max-accuracy-drop '-1': points, such as 0.5"),
    ],
)
def test_words_of_the_gate(words: tuple[str, str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Gate.of(Path(words[0]), *words[1:])
    assert Gate.of(Path(), "5%", "0.5") == replace(Gate.of(Path(), "0.05", "0.5"))
