from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instatune_deploy.config import SpaceSettings
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.shape import ModelShape
from instatune_deploy.supernet.space import SearchSpace

BERT_BASE = ModelShape(layers=12, heads=12, mlp_width=3072, hidden_size=768, head_size=64, fixed_parameters=0, layer_parameters=0)


def choices(most: int, count: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.integers(1, most), min_size=1, max_size=count).map(lambda values: tuple(sorted(values)))


@st.composite
def spaces(draw: st.DrawFn, most_layers: int = 8) -> SearchSpace:
    layers = draw(st.integers(1, most_layers))
    keep = draw(st.sampled_from(["even", "first", "importance"]))
    order = tuple(draw(st.permutations(range(layers)))) if keep == "importance" else ()
    heads, widths = ((0,) * draw(st.booleans()) + draw(choices(most)) for most in (12, 100))
    edges = draw(st.just(()) | choices(9))
    return SearchSpace(layers, draw(choices(layers)), heads, widths, keep, order, edges)


def genotypes(space: SearchSpace) -> st.SearchStrategy[np.ndarray]:
    return st.tuples(*(st.integers(0, int(count) - 1) for count in space.choices)).map(np.array)


@given(spaces(), st.data())
def test_encode_and_decode_undo_each_other(space: SearchSpace, data: st.DataObject) -> None:
    genotype = data.draw(genotypes(space))
    architecture = space.decode(genotype)
    assert architecture in space
    assert space.decode(space.encode(architecture)) == architecture
    np.testing.assert_array_equal(space.encode(architecture), space.canonical(genotype[None])[0])


@given(spaces(), st.data())
def test_canonical_keeps_the_network_and_is_the_same_twice(space: SearchSpace, data: st.DataObject) -> None:
    rows = np.array([data.draw(genotypes(space)) for _ in range(5)])
    before = rows.copy()
    canonical = space.canonical(rows)
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_array_equal(space.canonical(canonical), canonical)
    assert [space.decode(row) for row in canonical] == [space.decode(row) for row in rows]


@given(spaces(), st.data())
def test_genes_of_absent_layers_say_nothing(space: SearchSpace, data: st.DataObject) -> None:
    genotype = data.draw(genotypes(space))
    kept = space.kept_layers(space.depths[genotype[0]])
    other = np.array(data.draw(genotypes(space)))
    other[0] = genotype[0]
    for layer in kept:
        other[[1 + layer, 1 + space.layers + layer]] = genotype[[1 + layer, 1 + space.layers + layer]]
    other[1 + 2 * space.layers :] = genotype[1 + 2 * space.layers :]
    one, two = space.decode(genotype), space.decode(other)
    assert one == two
    assert len({one, two}) == 1
    np.testing.assert_array_equal(space.canonical(genotype[None]), space.canonical(other[None]))


def all_genotypes(space: SearchSpace) -> np.ndarray:
    return np.array(list(itertools.product(*(range(count) for count in space.choices))))


@given(spaces(most_layers=2))
def test_count_is_the_number_of_different_architectures(space: SearchSpace) -> None:
    every = all_genotypes(space)
    assert space.count() == len({space.decode(row) for row in every}) == len(np.unique(space.canonical(every), axis=0))


@pytest.mark.parametrize("keep", ["even", "first", "importance"])
@pytest.mark.parametrize(("heads", "widths"), [((0, 1), (0, 2)), ((0, 3), (2,)), ((1,), (0, 2)), ((0, 1), (0, 2, 4))])
@pytest.mark.parametrize("depths", [(3, 4, 5), (2, 5)])
def test_count_where_depths_share_layers(
    keep: Any, heads: tuple[int, ...], widths: tuple[int, ...], depths: tuple[int, ...]
) -> None:
    """Of five layers, evenly: two are 0 and 4, three 0, 2 and 4, four 0, 1, 2 and 4."""
    space = SearchSpace(5, depths, heads, widths, keep, (3, 1, 4, 0, 2) if keep == "importance" else ())
    drawn = np.random.default_rng(0).integers(0, space.choices, (20, space.genes))
    for row in drawn:
        np.testing.assert_array_equal(space.canonical(row[None])[0], space.encode(space.decode(row)))
    every = all_genotypes(space) if len(widths) < 3 else drawn
    networks = {row.tobytes() for row in np.concatenate(space.sizes(every), axis=1)}
    assert len(np.unique(space.canonical(every), axis=0)) == len(networks)
    if len(widths) < 3:
        assert space.count() == len(networks)


def test_count_of_crossing_depths() -> None:
    # six layers: depth 4 keeps 0 2 3 5, depth 5 keeps 0 1 2 4 5; both 0 2 5. A layer: 3 choices and none; the last: one head
    space = SearchSpace(6, (4, 5), (0, 1), (0, 2))
    assert space.kept_layers(4) == (0, 2, 3, 5)
    assert space.kept_layers(5) == (0, 1, 2, 4, 5)
    assert space.count() == 2 * (4**3 + 4**4 - 4**2)
    assert len(np.unique(space.canonical(all_genotypes(space)), axis=0)) == space.count()


def test_layers_without_anything_are_dropped() -> None:
    space = SearchSpace(4, (2, 3, 4), (0, 1, 2), (0, 8, 16))
    depth_4 = np.array([2, 0, 1, 0, 2, 0, 0, 1, 0])
    architecture = Architecture((1, 2, 3), (1, 0, 2), (0, 8, 0))
    assert space.decode(depth_4) == architecture
    # without the second and the third layer it is what depth 2 builds, too
    assert space.decode(np.array([2, 1, 0, 0, 2, 1, 0, 0, 0])) == Architecture((0, 3), (1, 2), (8, 0))
    assert space.encode(Architecture((0, 3), (1, 2), (8, 0))).tolist() == [0, 1, 2, 2, 2, 1, 2, 2, 0]
    # depth 3 keeps 0, 1 and 3; only depth 4 keeps the third
    assert space.encode(architecture)[0] == 2
    assert space.encode(Architecture((3,), (1,), (8,))).tolist() == [0, 0, 2, 2, 1, 0, 2, 2, 1]


def test_the_last_layer_always_has_attention() -> None:
    space = SearchSpace(4, (2, 3), (0, 1, 2), (0, 8, 16))
    nothing = np.zeros(9, dtype=np.int64)
    assert space.decode(nothing) == Architecture((3,), (1,), (0,))
    headless = np.array([1, 0, 0, 0, 0, 1, 2, 0, 0])
    assert space.decode(headless) == Architecture((0, 1, 3), (0, 0, 1), (8, 16, 0))
    # with attention elsewhere: the last layer's is there all the same
    assert space.decode(np.array([1, 2, 2, 2, 0, 1, 1, 1, 2])) == Architecture((0, 1, 3), (2, 2, 1), (8, 8, 16))
    assert Architecture((0, 3), (0, 0), (8, 8)) not in space
    assert Architecture((0, 3), (2, 0), (8, 8)) not in space
    assert Architecture((0, 1), (2, 2), (8, 8)) not in space  # the last layer dropped
    assert Architecture((0, 3), (0, 1), (8, 0)) in space
    heads_only = SearchSpace(2, (2,), (0, 4), (8,))
    assert heads_only.decode(np.zeros(5, dtype=np.int64)) == Architecture((0, 1), (0, 4), (8, 8))
    assert heads_only.count() == 2


def test_count_by_hand() -> None:
    # two heads times three widths, in one layer and in three: 6 + 6^3
    space = SearchSpace(3, (1, 3), (1, 2), (4, 5, 6))
    assert space.count() == 222 == len({space.decode(row) for row in all_genotypes(space)})
    assert space.genes == 7
    assert space.choices.tolist() == [2, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("layers", "depth", "kept"),
    [
        (6, 1, (5,)),
        (6, 2, (0, 5)),
        (6, 3, (0, 2, 5)),  # 2.5 rounds down
        (6, 4, (0, 2, 3, 5)),  # 5/3, 10/3
        (6, 5, (0, 1, 2, 4, 5)),  # 1.25, 2.5, 3.75
        (6, 6, (0, 1, 2, 3, 4, 5)),
        (12, 6, (0, 2, 4, 7, 9, 11)),  # 2.2, 4.4, 6.6, 8.8
        (12, 3, (0, 5, 11)),
        (1, 1, (0,)),
    ],
)
def test_even_layers(layers: int, depth: int, kept: tuple[int, ...]) -> None:
    assert SearchSpace(layers, (depth,), (1,), (1,)).kept_layers(depth) == kept


def test_first_layers() -> None:
    assert SearchSpace(6, (3,), (1,), (1,), "first").kept_layers(3) == (0, 1, 2)


def test_most_important_layers() -> None:
    space = SearchSpace(5, (1, 3), (1,), (1,), "importance", (3, 0, 4, 2, 1))
    assert (space.kept_layers(1), space.kept_layers(3)) == ((3,), (0, 3, 4))


@pytest.mark.parametrize("order", [None, [0, 1], [0, 1, 2, 3, 4, 4]])
def test_importance_needs_an_order_of_all_layers(order: list[int] | None) -> None:
    shape = ModelShape(6, 4, 64, 32, 8, 0, 0)
    settings = SpaceSettings(keep_layers="importance")
    with pytest.raises(BadInput, match=r"^space.keep_layers: 'importance' needs the order of the model's 6 layers"):
        SearchSpace.of(shape, settings, order)
    assert SearchSpace.of(shape, settings, [5, 0, 1, 2, 3, 4]).kept_layers(3) == (0, 1, 5)
    # the others do not ask, and forget it
    assert SearchSpace.of(shape, SpaceSettings(), [5, 0, 1, 2, 3, 4]) == SearchSpace.of(shape, SpaceSettings())


@given(spaces(), st.integers(1, 64))
def test_restricted_to_multiples(space: SearchSpace, multiple: int) -> None:
    small = space.restricted(multiple)
    assert all(width % multiple == 0 for width in small.mlp_widths[:-1])
    assert set(small.mlp_widths) == {*(width for width in space.mlp_widths if width % multiple == 0), space.mlp_widths[-1]}
    assert small.largest() == space.largest()
    assert all(small.decode(row) in space for row in small.sample(np.random.default_rng(0), 10))
    assert space.restricted(None) is space


VIT = ModelShape(
    layers=2, heads=2, mlp_width=8, hidden_size=4, head_size=2, fixed_parameters=100, layer_parameters=10,
    family="vit", head_biases=3, patch_macs=50, class_tokens=1, image_size=56, patch_size=14,
)  # fmt: skip


def test_image_sizes_are_a_gene_like_others() -> None:
    space = SearchSpace.of(VIT, SpaceSettings(depths=[2], heads=[2], mlp_widths=[4], image_sizes=[28, 42]))
    assert space.image_sizes == (28, 42, 56)  # the model's own belongs to them
    assert space.choices.tolist() == [1, 1, 1, 2, 2, 3]
    assert space.count() == 2 * 2 * 3
    genotype = np.array([[0, 0, 0, 1, 0, 1]])
    assert space.decode(genotype[0]) == Architecture((0, 1), (2, 2), (8, 4), 42)
    assert (space.largest().image_size, space.smallest().image_size) == (56, 28)
    assert [item.image_size for item in space.uniform()] == [28, 42, 56] * 2
    assert space.tokens(genotype, VIT, 7).tolist() == [10]
    # by hand: two layers of 4 projections and 2 products, MLPs of 8 and 4 neurons, 9 patches
    assert space.macs(genotype, VIT, 7).tolist() == [2 * (4 * 10 * 4 * 4 + 2 * 100 * 4) + 2 * 10 * 4 * 12 + 9 * 50]
    # 4 x 4 patches' positions, less those of 3 x 3
    assert space.parameters(genotype, VIT) == VIT.parameters(*space.sizes(genotype)) - 7 * 4
    assert Architecture((0, 1), (2, 2), (8, 4)) not in space
    assert Architecture((0, 1), (2, 2), (8, 4), 14) not in space
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_a_space_for_images_of_one_size() -> None:
    space = SearchSpace.of(VIT, SpaceSettings(image_sizes=[28, 42])).restricted(None, 14)
    assert space.image_sizes == (14,)
    assert space.genes == 5
    assert space.largest() == Architecture((0, 1), (2, 2), (8, 8), 14)
    assert space.tokens(space.encode(space.largest())[None], VIT, 7).tolist() == [2]
    plain = SearchSpace.of(VIT, SpaceSettings())
    assert (plain.edges(np.zeros((2, 5), int)), plain.tokens(np.zeros((2, 5), int), VIT, 7).tolist()) == (None, [7, 7])


@pytest.mark.parametrize(
    ("shape", "sizes", "said"),
    [
        (VIT, [28, 40], "space.image_sizes: 40 px are no multiple of the model's patch of 14 px; 28 or 42 are"),
        (VIT, [70], "space.image_sizes: 70 is more than the model has (56)"),
        (VIT, [7], "space.image_sizes: 7 is too few; the model has 56 pixels along an image's edge: give numbers from 14 to 56"),
        (VIT, [], "space.image_sizes: the list is empty"),
        (BERT_BASE, [28], "space.image_sizes: for models of square images of square patches only; leave it out"),
    ],
)
def test_image_sizes_that_a_model_cannot_have(shape: ModelShape, sizes: list[int], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        SearchSpace.of(shape, SpaceSettings(image_sizes=sizes))
    assert caught.value.message.startswith(said)


@pytest.mark.parametrize("layers", range(1, 25))
def test_kept_layers_of_every_depth(layers: int) -> None:
    even = SearchSpace(layers, tuple(range(1, layers + 1)), (1,), (1,), "even")
    first = SearchSpace(layers, tuple(range(1, layers + 1)), (1,), (1,), "first")
    for depth in range(1, layers + 1):
        kept = even.kept_layers(depth)
        assert len(kept) == depth
        assert list(kept) == sorted(set(kept))
        assert kept[-1] == layers - 1
        assert kept[0] == (0 if depth > 1 else layers - 1)
        gaps = np.diff(kept)
        assert depth == 1 or gaps.max() - gaps.min() <= 1
        assert first.kept_layers(depth) == tuple(range(depth))
    assert even.kept_layers(layers) == first.kept_layers(layers) == tuple(range(layers))


@given(spaces(), st.integers(0, 99))
def test_sizes_and_mask_are_those_of_the_decoded(space: SearchSpace, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, space.choices, (6, space.genes))
    heads, widths = space.sizes(rows)
    mask = space.keep_mask()
    for index, row in enumerate(rows):
        architecture = space.decode(row)
        expected = np.zeros((2, space.layers), dtype=int)
        expected[0, list(architecture.layers)] = architecture.heads
        expected[1, list(architecture.layers)] = architecture.mlp_widths
        np.testing.assert_array_equal(heads[index], expected[0])
        np.testing.assert_array_equal(widths[index], expected[1])
        kept = tuple(np.flatnonzero(mask[row[0]]))
        assert set(architecture.layers) <= set(kept) if space.drops_layers else architecture.layers == kept


@given(spaces(), st.integers(0, 99))
def test_samples_are_canonical_members_and_follow_the_seed(space: SearchSpace, seed: int) -> None:
    rows = space.sample(np.random.default_rng(seed), 20)
    assert rows.shape == (20, space.genes)
    np.testing.assert_array_equal(rows, space.sample(np.random.default_rng(seed), 20))
    for row in rows:
        np.testing.assert_array_equal(space.encode(space.decode(row)), row)


def test_samples_reach_every_choice(tiny_space: SearchSpace) -> None:
    rows = tiny_space.sample(np.random.default_rng(0), 400)
    # of layers that are always there: 3, the last one
    for gene in (0, 1 + 3, 1 + 4 + 3):
        counts = np.bincount(rows[:, gene], minlength=tiny_space.choices[gene])
        assert counts.min() > 0.7 * 400 / tiny_space.choices[gene]


@given(spaces())
def test_largest_smallest_and_uniform(space: SearchSpace) -> None:
    deep, shallow = space.depths[-1], space.depths[0]
    edges = space.image_sizes or (None,)
    widest = (space.heads[-1],) * deep, (space.mlp_widths[-1],) * deep
    assert space.largest() == Architecture(space.kept_layers(deep), *widest, edges[-1])
    heads, widths = ([size for size in sizes if size] for sizes in (space.heads, space.mlp_widths))
    assert space.smallest() == Architecture(space.kept_layers(shallow), (heads[0],) * shallow, (widths[0],) * shallow, edges[0])
    assert space.smallest() in space
    uniform = space.uniform()
    assert len(set(uniform)) == len(uniform) == len(space.depths) * len(heads) * len(widths) * len(edges)
    assert space.largest() in uniform
    assert all(member in space and len(set(member.heads)) == len(set(member.mlp_widths)) == 1 for member in uniform)


@given(spaces())
def test_json_both_ways(space: SearchSpace) -> None:
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


@pytest.mark.parametrize(
    "stranger",
    [
        Architecture((0, 1), (4, 4), (64, 64)),  # depth 2 keeps 0 and 3
        Architecture((3,), (3,), (64,)),
        Architecture((3,), (4,), (63,)),
        Architecture((0, 1, 2, 3, 4), (4,) * 5, (64,) * 5),
    ],
)
def test_strangers_are_refused(tiny_space: SearchSpace, stranger: Architecture) -> None:
    assert stranger not in tiny_space
    with pytest.raises(BadInput, match=r"architecture \(\d layers?, heads .*\) is not in the search space"):
        tiny_space.encode(stranger)


def test_of_bert_base_is_the_papers() -> None:
    space = SearchSpace.of(BERT_BASE, SpaceSettings())
    assert space.depths == (6, 7, 8, 9, 10, 11, 12)
    assert space.heads == (6, 8, 10, 12)
    assert space.mlp_widths == (1024, 2048, 3072)
    assert space.keep_layers == "even"
    assert space.count() == sum(12**depth for depth in range(6, 13))


def test_of_settings_always_has_the_full_network() -> None:
    settings = SpaceSettings(depths=[4, 2, 2], heads=[3], mlp_widths=[100], keep_layers="first")
    space = SearchSpace.of(BERT_BASE, settings)
    assert space == SearchSpace(12, (2, 4, 12), (3, 12), (100, 3072), "first")
    assert space.largest() == BERT_BASE.full()


@given(st.integers(1, 24), st.integers(1, 16), st.integers(1, 4096))
def test_of_any_shape_has_the_full_network_and_nothing_larger(layers: int, heads: int, width: int) -> None:
    shape = ModelShape(layers, heads, width, 64, 8, 0, 0)
    space = SearchSpace.of(shape, SpaceSettings())
    assert space.largest() == shape.full()
    assert min(space.heads) >= 1
    assert min(space.mlp_widths) >= 1
    assert max(space.mlp_widths) == width


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depths": [6, 13]}, r"space\.depths: 13 is more than the model has \(12\)"),
        ({"heads": [16]}, r"space\.heads: 16 is more than the model has \(12\)"),
        ({"mlp_widths": [4096, 1]}, r"space\.mlp_widths: 4096 is more than the model has \(3072\)"),
        ({"depths": [0, 6]}, r"^space\.depths: 0 is too few; the model has 12 layers: give numbers from 1 to 12$"),
        ({"heads": [6, -1]}, r"^space\.heads: -1 is too few; the model has 12 heads in a layer: give numbers from 0 to 12$"),
        ({"mlp_widths": [0, 0]}, r"^space\.mlp_widths: there is only 0; the model has 3072 MLP neurons in a layer: "),
        ({"heads": [0]}, r"^space\.heads: there is only 0; the model has 12 heads in a layer: give a number from 1 "),
        ({"depths": []}, r"^space\.depths: the list is empty; the model has 12 layers: "),
        ({"heads": []}, r"^space\.heads: the list is empty; the model has 12 heads in a layer: "),
        ({"mlp_widths": []}, r"^space\.mlp_widths: the list is empty; the model has 3072 MLP neurons in a layer: "),
    ],
)
def test_of_choices_the_model_lacks(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        SearchSpace.of(BERT_BASE, SpaceSettings(**settings))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (((0, 4), (1,), (16,)), r"space\.depths: increasing whole numbers from 1 to 4 \(found \[0, 4\]\)"),
        (((2, 5), (1,), (16,)), r"space\.depths: increasing whole numbers from 1 to 4"),
        (((4, 2), (1,), (16,)), r"space\.depths: increasing"),
        (((4,), (), (16,)), r"space\.heads: increasing whole numbers of at least 0 \(found \[\]\)"),
        (((4,), (1, 1), (16,)), r"space\.heads: increasing"),
        (((4,), (1,), (-1, 16)), r"space\.mlp_widths: increasing"),
    ],
)
def test_a_space_made_by_hand_is_checked(choices: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        SearchSpace(4, *choices)


def test_the_wide_space_reaches_a_sixth_of_the_work() -> None:
    """MiniLM's shape at 128 tokens, attention and MLP in every layer; in latency: `finetune-macs`, fastest_times."""
    shape = ModelShape(layers=6, heads=12, mlp_width=1536, hidden_size=384, head_size=32, fixed_parameters=0, layer_parameters=0)
    space = SearchSpace.of(shape, SpaceSettings(preset="wide"))
    full, smallest = (shape.macs_of(network, 128) for network in (space.largest(), space.smallest()))
    assert full / smallest > 6
