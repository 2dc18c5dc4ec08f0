"""The shape of results, and the README's tables."""

import json
from pathlib import Path

import pytest

from benchmarks import readme
from benchmarks.results import markdown, write_result


def test_a_table_aligns_figures_to_the_right() -> None:
    assert (
        markdown([{"what": "a", "ms": 1.5}, {"what": "b", "ms": None}]) == "| what | ms |\n| --- | ---: |\n| a | 1.5 |\n| b |  |"
    )


def test_a_result_says_when_on_what_and_from_which_commit(tmp_path: Path) -> None:
    path = write_result("area-name", {"seeds": 1}, [{"a": 1}], {"figure": None, "why": "no such machine"}, tmp_path)
    value = json.loads(path.read_text())
    assert path.name == "area-name.json"
    assert set(value) == {"made", "commit", "host", "settings", "rows", "summary"}
    assert value["summary"] == {"figure": None, "why": "no such machine"}
    assert value["host"]["cores"] >= 1
    assert "torch" in value["host"]["versions"]


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.json").write_text('{"figure": 2}')
    monkeypatch.setattr(readme, "TABLES", {"x": ("x", lambda result: f"new {result['figure']}\n")})
    text = "before\n<!-- x -->\nold\nlines\n<!-- /x -->\nafter\n"
    assert readme.fill(text, tmp_path) == "before\n<!-- x -->\nnew 2\n<!-- /x -->\nafter\n"


def test_the_readme_quotes_what_the_results_say() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert readme.fill(text) == text, "run `make benchmarks-readme`"
