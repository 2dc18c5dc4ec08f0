"""The shape of results, the README's tables, and the arithmetic of the benchmarks of fine-tuning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import readme
from benchmarks.finetune import ablation, cost, macs, peers, sharing
from benchmarks.finetune.alone import best, phases, ways_of
from benchmarks.finetune.choice import (
    at_target,
    best_within,
    expected_ms,
    first_layers,
    irregular,
    smallest_losing,
    spread_members,
)
from benchmarks.finetune.harness import command
from benchmarks.finetune.latency import Latencies
from benchmarks.finetune.pruning import from_above, weights_path
from benchmarks.finetune.rebuild import pruned_network
from benchmarks.finetune.subjects import TINY, pipeline
from benchmarks.finetune.trainings import Made, Need, Pruning, Training, Workshop, changed
from benchmarks.finetune.turns import StepTimes, in_turns
from benchmarks.results import markdown, write_result
from instatune_deploy.config import FinetuneSettings
from instatune_deploy.supernet.architecture import Architecture


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


def test_a_table_without_a_result_stays_as_it_is(tmp_path: Path) -> None:
    text = "<!-- finetune-cost -->\nto come\n<!-- /finetune-cost -->\n"
    assert readme.fill(text, tmp_path) == text


# --- fine-tuning: which networks are looked at -------------------------------------------------------------------------


def of(depth: int, heads: int = 4, width: int = 64) -> Architecture:
    """All layers alike."""
    return Architecture(tuple(range(depth)), (heads,) * depth, (width,) * depth)


def test_at_a_target_the_deepest_and_the_shallowest_within_three_percent() -> None:
    # of a full latency of 20 ms, 0.5 is 10 ms: from 9.7 to 10.3
    latencies = {of(6, 1): 10.3, of(6, 2): 10.1, of(4): 10.0, of(3): 9.8, of(2): 9.6, of(5): 10.31}
    assert at_target(latencies, 20.0, 0.5) == [of(6, 2), of(3)]


def test_at_a_target_one_member_may_be_both_or_simply_the_nearest() -> None:
    assert at_target({of(3): 10.0, of(6): 12.0}, 20.0, 0.5) == [of(3)]
    assert at_target({of(3): 8.0, of(6): 11.0}, 20.0, 0.5) == [of(6)]


def test_first_layers_are_as_many_as_come_nearest() -> None:
    latencies = {of(1): 4.0, of(2): 7.0, of(3): 10.4, of(4): 13.5}
    assert first_layers(latencies, 20.0, 0.5) == of(3)
    assert first_layers(latencies, 20.0, 0.35) == of(2)


def test_the_best_member_is_never_slower_than_the_limit() -> None:
    accuracies = {of(6): 0.9, of(4): 0.85, of(3): 0.85, of(2): 0.8}
    latencies = {of(6): 20.0, of(4): 12.0, of(3): 10.0, of(2): 7.0}
    assert best_within(accuracies, latencies, 12.0) == of(3)  # as good as 4 layers, and faster
    assert best_within(accuracies, latencies, 9.99) == of(2)
    assert best_within(accuracies, latencies, 5.0) is None


def test_the_smallest_member_that_loses_at_most_so_many_points() -> None:
    accuracies = {of(6): 0.86, of(4): 0.861, of(3): 0.855, of(2): 0.849}
    sizes = {of(6): 6.0, of(4): 4.0, of(3): 3.0, of(2): 2.0}
    assert smallest_losing(accuracies, sizes, 0.86, 0.0) == of(4)
    assert smallest_losing(accuracies, sizes, 0.86, 0.5) == of(3)  # 0.5 points exactly
    assert smallest_losing(accuracies, sizes, 0.86, 1.0) == of(3)
    assert smallest_losing(accuracies, sizes, 0.9, 1.0) is None


def test_members_that_are_looked_at_belong_to_the_space(tiny_network: Any, tiny_space: Any) -> None:
    spread = spread_members(tiny_space, tiny_network.shape, 16, 10)
    assert len(set(spread)) == 10
    assert tiny_space.largest() in spread
    assert all(item in tiny_space for item in spread)


def test_a_member_is_irregular_when_its_layers_differ_and_a_sub_layer_is_gone() -> None:
    assert irregular(Architecture((0, 1, 3), (4, 0, 1), (64, 32, 16)))
    assert irregular(Architecture((0, 1, 3), (4, 2, 1), (64, 0, 16)))
    assert not irregular(Architecture((0, 1, 3), (4, 2, 1), (64, 32, 16)))  # nothing is gone
    assert not irregular(Architecture((0, 1, 3), (4, 4, 4), (64, 0, 16)))  # heads are alike
    assert not irregular(of(3))


def test_what_a_member_takes_is_expected_from_its_size() -> None:
    known = {
        item: 3 + 0.5 * item.depth + 0.1 * sum(item.heads) + 0.01 * sum(item.mlp_widths)
        for item in (of(6), of(4, 2, 32), of(3, 1, 64), of(2, 4, 16), of(5, 3, 48))
    }
    mixed = Architecture((0, 2, 5), (4, 0, 1), (0, 64, 16))
    assert expected_ms(known, [mixed]) == {mixed: pytest.approx(3 + 1.5 + 0.5 + 0.8)}


# --- fine-tuning: networks alone ----------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 120), st.floats(0, 1), st.integers(0, 3))
def test_both_phases_together_see_every_row_equally_often(count: int, total: int, share: float, seed: int) -> None:
    cut = int(share * total)
    first, rest = phases(list(range(count)), total, cut, seed)
    seen = [[*first, *rest].count(row) for row in range(count)]
    assert (len(first), len(rest)) == (cut, total - cut)
    assert max(seen) - min(seen) <= (1 if total % count else 0)
    assert phases(list(range(count)), total, cut, seed) == (first, rest)


def test_no_row_is_seen_twice_before_all_are_seen_once() -> None:
    first, rest = phases("abcdefghij", 20, 4, seed=0)
    assert sorted([*first, *rest[:6]]) == list("abcdefghij")
    assert sorted(rest[6:]) == list("abcdefghij")
    assert first != list("abcd")  # drawn


def test_eight_ways_of_fine_tuning_alone_and_the_most_accurate_is_taken() -> None:
    ways = ways_of(2e-4, has_dropout=True)
    assert len(set(ways)) == 8
    assert {way.learning_rate for way in ways} == {1e-4, 2e-4}
    assert best({way: 0.8 + 0.01 * (index == 5) for index, way in enumerate(ways)}) == ways[5]
    assert best(dict.fromkeys(ways, 0.8)) == ways[0]


def test_a_model_without_dropout_is_not_trained_with_it() -> None:
    assert ways_of(2e-4, has_dropout=False) == tuple(way for way in ways_of(2e-4, has_dropout=True) if way.dropout == "none")


@given(st.floats(0.3, 0.9), st.floats(0.7, 3.0))
def test_a_pruning_ratio_comes_near_its_target_and_never_below(share: float, power: float) -> None:
    def latency_ms(ratio: float) -> float:
        return 20 * (1 - ratio) ** power

    found_ms = latency_ms(from_above(latency_ms, 20 * share, 20.0, steps=20))
    assert 20 * share <= found_ms <= 20 * share * 1.021


def test_latency_in_steps_is_approached_from_above() -> None:
    # whole heads: one of twelve at a time, so that nothing lies within two percent of the target
    ratio = from_above(lambda ratio: 24.0 - 2 * int(12 * ratio), 13.0, 24.0)
    assert 24.0 - 2 * int(12 * ratio) == 14.0


def test_no_pruning_ratio_for_a_target_above_the_full_model() -> None:
    with pytest.raises(ValueError, match="unpruned it takes 20"):
        from_above(lambda ratio: 1.0, 21.0, 20.0)


# --- fine-tuning: trainings ---------------------------------------------------------------------------------------------


def test_a_training_is_read_back_as_it_was_written() -> None:
    for training in (
        Training("super-network", TINY, 1, (("alpha", 1.0),)),
        Training("alone", TINY, 0, architecture=of(3)),
        Training("alone", TINY, 0, (("dropout", "none"),), of(3), start="full-first"),
        Training("pruned", TINY, 2, pruning=Pruning("taylor", True, 0.25), start="full-first"),
    ):
        assert Training.from_json(json.loads(json.dumps(training.to_json()))) == training


def test_a_key_says_what_a_result_depends_on_and_nothing_else(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    key = workshop.key(Training("super-network", TINY, 0))
    default = FinetuneSettings().alpha
    assert workshop.key(Training("super-network", TINY, 0, (("alpha", default),))) == key
    assert workshop.key(Training("super-network", TINY, 0, (("alpha", 1.0),))) != key
    assert workshop.key(Training("super-network", TINY, 1)) != key
    alone = workshop.key(Training("alone", TINY, 0, architecture=of(3)))
    # how super-networks are trained is nothing to it
    assert workshop.key(Training("alone", TINY, 0, (("alpha", 1.0), ("sampler", "uniform")), of(3))) == alone
    assert workshop.key(Training("alone", TINY, 0, (("learning_rate", 0.1),), of(3))) != alone
    assert workshop.key(Training("alone", TINY, 0, architecture=of(2))) != alone
    assert workshop.key(Training("alone", TINY, 0, (("dropout", "model"),), of(3))) != alone
    assert workshop.key(Training("alone", TINY, 0, (("full_epochs", 0.7),), of(3))) == alone
    begun = workshop.key(Training("alone", TINY, 0, (), of(3), start="full-first"))
    assert begun != alone
    assert workshop.key(Training("alone", TINY, 0, (("full_epochs", 0.7),), of(3), start="full-first")) != begun


def test_a_key_depends_on_how_trainings_compute_and_on_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop, other, training = Workshop(tmp_path), Workshop(tmp_path / "other"), Training("alone", TINY, 0, architecture=of(3))
    keys = {workshop.key(training), Workshop(tmp_path / "same").key(training)}
    assert len(keys) == 1  # where it is made is nothing to it
    training.settings(other.work)
    (other.work / "tiny-model" / "notes.txt").write_text("other weights")
    keys.add(other.key(training))
    monkeypatch.setattr("benchmarks.finetune.trainings.computes_in_bf16", lambda: "changed")
    keys.add(workshop.key(training))
    monkeypatch.setattr("instatune_deploy.pipeline.training.TRAINING_REVISION", -1)
    keys.add(workshop.key(training))
    assert len(keys) == 4


def test_pruned_weights_are_told_apart_by_what_was_pruned(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    pruning = Pruning("taylor", False, 0.25)
    raw = Training("pruned", TINY, 0, pruning=pruning)
    begun = Training("pruned", TINY, 0, pruning=pruning, start="full-first")
    others = [
        begun,
        Training("pruned", TINY, 0, (("learning_rate", 0.1),), pruning=pruning, start="full-first"),
        Training("pruned", TINY, 1, pruning=pruning),
        Training("pruned", TINY, 0, pruning=Pruning("taylor", True, 0.25)),
    ]
    assert len({weights_path(workshop, item) for item in [raw, *others]}) == 5
    # how what is left is fine-tuned does not change what the raw checkpoint is pruned to
    assert weights_path(workshop, Training("pruned", TINY, 0, (("learning_rate", 0.1),), pruning=pruning)) == weights_path(
        workshop, raw
    )


def test_latencies_of_other_graphs_and_protocols_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {Latencies(tmp_path).path, Latencies(tmp_path, quick=True).path}
    monkeypatch.setattr("benchmarks.finetune.latency.GRAPHS_REVISION", -1)
    paths.add(Latencies(tmp_path).path)
    monkeypatch.setattr("benchmarks.finetune.latency.version_for", lambda run: "0.0")
    paths.add(Latencies(tmp_path).path)
    assert len(paths) == 4


def test_pooled_accuracy_counts_every_row_once(tmp_path: Path) -> None:
    rows = {"validation": 100, "test": 300}
    (tmp_path / "result.json").write_text(json.dumps({"rows": rows, "accuracy": {"validation": 0.5, "test": 0.9}}))
    (tmp_path / "accuracies.json").write_text(json.dumps({"validation": {of(2).digest: 0.6}, "test": {of(2).digest: 0.8}}))
    assert Made(tmp_path).pooled() == pytest.approx((50 + 270) / 400)
    assert Made(tmp_path).pooled(of(2)) == pytest.approx((60 + 240) / 400)


def test_a_pruned_model_comes_back_from_its_weights(make_model: Callable[..., Any], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from instatune_deploy.supernet.network import SuperNetwork

    architecture = Architecture((0, 1, 2, 3), (1, 4, 2, 3), (16, 64, 7, 30))
    small = SuperNetwork(make_model()).extract(architecture)
    save_file(small.state_dict(), tmp_path / "small.safetensors")
    network, found = pruned_network(make_model(seed=1), tmp_path / "small.safetensors")
    assert found == architecture
    tokens = torch.arange(24).view(2, 12)
    with torch.no_grad():
        assert torch.equal(network.eval().extract(found)(tokens).logits, small(tokens).logits)


def test_a_pruned_model_may_have_a_narrower_residual_stream(make_model: Callable[..., Any], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from instatune_deploy.supernet.network import SuperNetwork

    architecture = Architecture((0, 1, 2, 3), (1, 4, 2, 3), (16, 64, 7, 30))
    state = SuperNetwork(make_model()).extract(architecture).state_dict()
    reads = (
        "query.weight",
        "key.weight",
        "value.weight",
        "intermediate.dense.weight",
        "pooler.dense.weight",
        "embeddings.weight",
    )
    writes = ("output.dense.weight", "output.dense.bias", "LayerNorm.weight", "LayerNorm.bias")
    for name, value in state.items():
        if name.endswith(reads):
            state[name] = value[:, :24].contiguous()
        elif name.endswith(writes):
            state[name] = value[:24].contiguous()
    save_file(state, tmp_path / "narrow.safetensors")
    network, found = pruned_network(make_model(seed=1), tmp_path / "narrow.safetensors")
    assert (network.shape.hidden_size, found) == (24, architecture)
    narrow = network.eval().extract(found)
    assert {name: value.shape for name, value in narrow.state_dict().items()} == {
        name: value.shape for name, value in state.items()
    }
    assert all(torch.equal(value, state[name]) for name, value in narrow.state_dict().items())
    assert narrow(torch.arange(24).view(2, 12)).logits.shape == (2, 2)


# --- fine-tuning: figures -----------------------------------------------------------------------------------------------


def test_steps_are_taken_in_turns_until_each_has_had_its_own() -> None:
    taken: list[str] = []

    def training(name: str, steps: int) -> Callable[[StepTimes], None]:
        def train(watch: StepTimes) -> None:
            for _ in range(steps):
                watch.on_step_begin(None, None, None)
                taken.append(name)
                watch.on_step_end(None, None, None)

        return train

    seconds = in_turns([training("a", 3), training("b", 1), training("c", 3)])
    assert "".join(taken) == "abcacac"
    assert [len(found) for found in seconds] == [3, 1, 3]


def test_a_training_that_fails_does_not_keep_the_others_waiting() -> None:
    def fails(watch: StepTimes) -> None:
        raise RuntimeError("no memory")

    def goes_on(watch: StepTimes) -> None:
        watch.on_step_begin(None, None, None)
        watch.on_step_end(None, None, None)

    with pytest.raises(RuntimeError, match="no memory"):
        in_turns([goes_on, fails, goes_on])


def test_step_times_are_compared_on_the_same_batches() -> None:
    own, ordinary = [[3.0, 3.0], [1.0, 2.0]], [[2.0, 2.0], [1.0, 1.0]]
    assert cost.block_ratios(own, ordinary) == [1.5, 1.5]
    assert cost.total_ratio([[4.0], [1.0]], [[1.0], [1.0]]) == 2.5  # not the mean of the ratios


def test_what_is_the_default_already_is_not_ablated() -> None:
    recipes, teachers = ablation.variants(FinetuneSettings(sampler="uniform", teacher=None))
    without = {f"without {name}" for name in ("distillation", "ordering", "the full network first")}
    assert set(recipes) == {"default", *without, "with correction", "teacher first epoch", "teacher throughout"}
    assert teachers == {"never": "default", "first epoch": "teacher first epoch", "throughout": "teacher throughout"}


def test_points_lost_are_medians_of_differences_within_a_subject_and_a_seed() -> None:
    teachers = {"never": "default", "first epoch": "teacher first epoch", "throughout": "teacher throughout"}
    half = {
        ("a", "default"): [0.80, 0.82, 0.84],
        ("a", "without distillation"): [0.79, 0.80, 0.85],
        ("a", "without ordering"): [0.70, 0.72, 0.74],
        ("a", "with correction"): [0.79, 0.84, 0.86],
        ("a", "without the full network first"): [0.78, 0.80, 0.81],
        ("a", "teacher first epoch"): [0.81, 0.82, 0.84],
        ("a", "teacher throughout"): [0.82, 0.85, 0.84],
    }
    summary = ablation.summarised(half, teachers)
    lost = summary["points_lost_without"]
    expected = {"distillation": 1.0, "ordering": 10.0, "the full network first": 2.0}
    assert lost == {**expected, "sandwich": None, "teacher": None}
    assert summary["points_brought_with"] == {"correction": 2.0}
    assert summary["teacher_brings_points"] == {"first epoch": 0.0, "throughout": 2.0}
    assert summary["why"] == "the default recipe has none: sandwich, teacher"
    # the second subject is twenty points worse with everything, and loses nothing without ordering
    other = {("b", name): [value - 0.2 for value in half["a", name]] for _, name in half}
    other["b", "without ordering"] = other["b", "default"]
    lost = ablation.summarised({**half, **other}, teachers)["points_lost_without"]
    assert lost == {**expected, "ordering": 5.0, "sandwich": None, "teacher": None}


def test_macs_saved_are_medians_over_seeds() -> None:
    def found(saved: float, test: float) -> list[macs.Found]:
        losing = [macs.Found(label, of(2), 0.9, test, saved, saved / 2, 0.9 - test) for label in macs.LOSING]
        faster = [macs.Found(f"{times}x less latency", of(1), 0.7, 0.7, 0.9, 1 - 1 / times, 0.2) for times in macs.FASTER]
        return [macs.Found("reference", None, 0.9, 0.9, 0.0, 0.0), *losing, *faster]

    summary = macs.summarised({("a", 0): found(0.2, 0.89), ("a", 1): found(0.4, 0.88), ("a", 2): found(0.6, 0.9)})
    assert summary["macs_saved_at_0_5_points"] == 0.4
    assert summary["latency_saved_at_0_5_points"] == 0.2
    assert summary["spread"]["macs_saved_at_1_point"] == [0.2, 0.6]
    assert summary["test_points_lost"]["loses nothing"] == 1.0
    assert summary["far_end"]["3"] == {"test_points": 70.0, "test_points_lost": 20.0, "latency_saved": 0.6667}


def test_what_is_inherited_is_compared_with_both_ways_of_training_alone() -> None:
    def cell(subject: str, target: float, ordinary: list[float], strongest: list[float]) -> dict[str, Any]:
        differences = {sharing.ORDINARY: ordinary, sharing.STRONGEST: strongest}
        return {"subject": subject, "target": target, "network": "n", "differences": differences}

    cells = [
        cell("a", 0.75, [0.01, 0.02, 0.03], [0.0, 0.0, 0.0]),
        cell("b", 0.75, [-0.01, -0.02, 0.05], [-0.01, -0.01, -0.01]),
        cell("a", 0.5, [0.0, 0.0, 0.0], [-0.03, -0.01, 0.0]),
        cell("b", 0.35, [0.001, 0.0, 0.002], [0.0, 0.0, 0.01]),
    ]
    summary = sharing.summarised(cells)
    assert summary["inherited_minus_standalone_points"] == {"0.75": 1.5, "0.5": 0.0, "0.35": 0.1}
    assert summary["inherited_minus_strongest_points"] == {"0.75": -0.5, "0.5": -1.0, "0.35": 0.0}
    assert summary["spread_points"]["inherited_minus_standalone_points"]["0.75"] == [-2.0, 5.0]
    assert summary["worst_median"]["inherited_minus_standalone_points"] == {
        "subject": "b",
        "target": 0.75,
        "network": "n",
        "points": -1.0,
    }
    assert summary["worst_median"]["inherited_minus_strongest_points"]["subject"] in {"a", "b"}


def test_the_strongest_way_may_be_left_out() -> None:
    differences = {sharing.ORDINARY: [0.01, 0.03]}
    cells = [{"subject": "a", "target": target, "network": "n", "differences": differences} for target in (0.75, 0.5, 0.35)]
    summary = sharing.summarised(cells)
    assert summary["inherited_minus_standalone_points"] == {"0.75": 2.0, "0.5": 2.0, "0.35": 2.0}
    assert summary["inherited_minus_strongest_points"] is None
    assert summary["why"] == "not asked for: --strongest"
    assert {way.start for way in ways_of(2e-4, has_dropout=True, starts=("pre-trained",))} == {"pre-trained"}


def test_a_pair_without_a_member_of_ours_is_counted() -> None:
    rivals = {
        ("movies", seed): [
            peers.Rival(peers.FIRST_LAYERS, target, (Training("alone", "movies", seed),), 5.0, "x") for target in peers.TARGETS
        ]
        for seed in (0, 1)
    }
    ours = {(run, rival): None if rival.target == 0.35 else of(2) for run, items in rivals.items() for rival in items}
    counted = peers.without_ours(ours)
    assert counted["minus_first_layers_points"] == {"0.5": 0, "0.35": 2}
    assert counted["minus_torch_pruning_points"] == {"0.5": 0, "0.35": 0}


# --- fine-tuning: smoke runs --------------------------------------------------------------------------------------------

KEYS = {
    "cost": {"step_time_ratio_low_cost", "step_time_ratio_high_cost"},
    "sharing": {"inherited_minus_standalone_points", "inherited_minus_strongest_points", "worst_median"},
    "peers": {"minus_torch_pruning_points", "minus_first_layers_points", "pairs_without_ours"},
    "macs": {"macs_saved_at_0_points", "macs_saved_at_0_5_points", "macs_saved_at_1_point", "latency_saved_at_0_5_points"},
    "ablation": {"points_lost_without"},
}
SCRIPTS = {"cost": cost.cost, "sharing": sharing.sharing, "peers": peers.peers, "macs": macs.macs, "ablation": ablation.ablation}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, as by people: what one script made is not made again for another."""
    return tmp_path_factory.mktemp("work")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_smoke_run_has_every_figure_of_the_real_one(name: str, work: Path, tmp_path: Path) -> None:
    arguments = ["--quick", "--work", str(work), "--results", str(tmp_path)]
    done = CliRunner().invoke(command(SCRIPTS[name]), arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / f"finetune-{name}.json").read_text())["summary"]
    assert KEYS[name] <= set(summary)
    assert done.stdout.startswith("| ")


def test_a_smoke_run_reaches_sub_networks_ordering_and_correction(work: Path) -> None:
    from instatune_deploy.pipeline.supernet import load_supernet

    workshop = Workshop(work / "quick", jobs=0)
    changes: list[dict[str, Any]] = [
        {},
        {"importance_rows": 0},
        {"correct_prefixes": True},
        {"sampler": "uniform"},
        {"alpha": 1.0},
        {"full_epochs": 0.0},
    ]
    recipes = [Training("super-network", TINY, 0, changed(change)) for change in changes]
    workshop.make([Need(recipe) for recipe in recipes])
    weights = {load_supernet(Path(workshop.made(recipe).result["supernet"])).weights for recipe in recipes}
    # what an ingredient does is reached, or leaving it out would change nothing
    assert len(weights) == len(changes)


def test_what_is_cut_out_is_corrected_for_its_own_size(work: Path) -> None:
    import torch

    from benchmarks.finetune.standalone import cut_out
    from instatune_deploy.pipeline.inputs import load_inputs
    from instatune_deploy.supernet.load import load_pretrained
    from instatune_deploy.supernet.network import SuperNetwork

    inputs = load_inputs(pipeline(TINY, {}, work / "quick"))
    tokens = torch.tensor([row["input_ids"][:8] for row in inputs.task.training_rows(0)])

    def hidden(architecture: Architecture, correct: bool) -> torch.Tensor:
        network = SuperNetwork(load_pretrained(inputs.model_folder, inputs.task.label_names, seed=0)).eval()
        model = cut_out(network, architecture, inputs, 0, correct)
        with torch.no_grad():
            found: torch.Tensor = model(tokens, output_hidden_states=True).hidden_states[1]
        return found

    full = hidden(of(6, 4, 128), correct=True)  # nothing is cut
    small = of(6, 2, 64)
    # what the first layer gives is nearer to what the full one gives; both have the same heads and neurons
    assert (hidden(small, True) - full).norm() < 0.99 * (hidden(small, False) - full).norm()


def test_both_phases_have_the_steps_of_a_super_network(work: Path) -> None:
    from benchmarks.finetune.standalone import phase_rows
    from instatune_deploy.pipeline.inputs import load_inputs

    inputs = load_inputs(pipeline(TINY, {"max_steps": None, "epochs": 2.0, "full_epochs": 0.4}, work / "quick"))
    assert [len(rows) for rows in phase_rows(inputs, 0)] == [4 * 8, 2 * 72 - 4 * 8]  # 0.4 of 9 steps are 4 whole ones
    inputs = load_inputs(pipeline(TINY, {}, work / "quick"))
    assert [len(rows) for rows in phase_rows(inputs, 0)] == [1 * 8, 7 * 8]


def test_accuracy_is_that_of_float32(make_model: Callable[..., Any]) -> None:
    import torch

    from benchmarks.finetune.worker import in_float32

    model, tokens = make_model().eval(), torch.arange(12).view(1, 12)
    with in_float32(model):
        model(tokens)
    with pytest.raises(RuntimeError, match="bfloat16"), in_float32(model), torch.autocast("cpu", torch.bfloat16):
        model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        model(tokens)  # nothing is left of the look


def test_a_training_is_made_once_in_a_process_of_its_own(work: Path) -> None:
    workshop = Workshop(work / "quick", jobs=1)
    training = Training("alone", TINY, 5, (("max_steps", 1),), of(1, 2, 32))
    assert workshop.lacks(Need(training))
    workshop.make([Need(training)])
    path = workshop.made(training).folder / "result.json"
    made = path.stat().st_mtime_ns
    assert set(workshop.made(training).result["accuracy"]) == {"validation", "test"}
    workshop.make([Need(training), Need(training)])
    assert path.stat().st_mtime_ns == made
