from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.elastic import ElasticAttention, ElasticLayers, ElasticLinear, NoHeads
from instatune_deploy.supernet.families import FAMILIES, vit
from instatune_deploy.supernet.network import SuperNetwork

MODEL_TYPES = [model_type for family in FAMILIES for model_type in family.model_types]
VISION = vit.FAMILY.model_types
MIXED = Architecture((0, 2, 3), (3, 1, 4), (64, 5, 33))


@pytest.fixture(scope="module")
def networks(make_model: Callable[..., Any]) -> dict[str, SuperNetwork]:
    return {model_type: SuperNetwork(make_model(model_type)).eval() for model_type in MODEL_TYPES}


def inputs(seed: int = 0, rows: int = 3, tokens: int = 9, padded: bool = True) -> dict[str, torch.Tensor]:
    """Ids of ordinary tokens; rows of different length, the rest masked."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 90, (rows, tokens), generator=generator)
    lengths = torch.randint(1, tokens + 1, (rows, 1), generator=generator) if padded else torch.full((rows, 1), tokens)
    return {"input_ids": ids, "attention_mask": (torch.arange(tokens) < lengths).long()}


def inputs_of(model_type: str, seed: int = 0, rows: int = 3, padded: bool = True) -> dict[str, torch.Tensor]:
    """Of a model that reads, or of one that sees: 4 x 3 patches."""
    if model_type not in VISION:
        return inputs(seed, rows=rows, padded=padded)
    return {"pixel_values": torch.randn((rows, 3, 16, 12), generator=torch.Generator().manual_seed(seed))}


def logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch).logits


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@settings(max_examples=25)
@given(data=st.data(), seed=st.integers(0, 99), padded=st.booleans())
def test_extracted_computes_what_is_activated(
    networks: dict[str, SuperNetwork], any_architecture: Any, model_type: str, data: st.DataObject, seed: int, padded: bool
) -> None:
    network, architecture = networks[model_type], data.draw(any_architecture)
    batch = inputs_of(model_type, seed, padded=padded)
    small = network.extract(architecture)
    network.activate(architecture)
    torch.testing.assert_close(logits(small, batch), logits(network, batch), rtol=0, atol=1e-5)
    assert sum(parameter.numel() for parameter in small.parameters()) == network.shape.parameters_of(architecture)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_full_network_is_the_model(make_model: Callable[..., Any], model_type: str) -> None:
    network = SuperNetwork(make_model(model_type))
    network.activate(MIXED)
    network.activate(network.shape.full())
    batch = inputs_of(model_type)
    torch.testing.assert_close(logits(network, batch), logits(make_model(model_type), batch), rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_takes_over_the_mode(make_model: Callable[..., Any], training: bool) -> None:
    network = SuperNetwork(make_model().train(training))
    assert {module.training for module in network.modules()} == {training}


def test_every_part_of_an_architecture_matters(tiny_network: SuperNetwork) -> None:
    members = [
        Architecture((0, 1, 2, 3), (4, 4, 4, 4), (64, 64, 64, 64)),
        Architecture((0, 1, 3), (4, 4, 4), (64, 64, 64)),
        Architecture((0, 2, 3), (4, 4, 4), (64, 64, 64)),
        Architecture((0, 1, 2, 3), (4, 4, 3, 4), (64, 64, 64, 64)),
        Architecture((0, 1, 2, 3), (4, 4, 4, 4), (63, 64, 64, 64)),
        Architecture((0, 1, 2, 3), (4, 0, 4, 4), (64, 64, 64, 64)),
        Architecture((0, 1, 2, 3), (4, 4, 4, 4), (64, 0, 64, 64)),
    ]
    outputs = [logits(tiny_network.extract(member), inputs()) for member in members]
    for one, other in itertools.combinations(outputs, 2):
        assert (one - other).abs().max() > 1e-4


def test_one_layer_alone_by_torch(tiny_network: SuperNetwork) -> None:
    """The sub-network of layer 2 with 2 heads and 5 neurons, written out in plain torch."""
    architecture = Architecture((2,), (2,), (5,))
    weights = tiny_network.model.state_dict()
    batch = inputs(padded=False)

    def linear(hidden: torch.Tensor, name: str, rows: int | None = None, columns: int | None = None) -> torch.Tensor:
        return hidden @ weights[f"{name}.weight"][:rows, :columns].T + weights[f"{name}.bias"][:rows]

    def norm(hidden: torch.Tensor, name: str) -> torch.Tensor:
        return nn.functional.layer_norm(hidden, (32,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)

    embeddings, layer = "bert.embeddings", "bert.encoder.layer.2"
    hidden = weights[f"{embeddings}.word_embeddings.weight"][batch["input_ids"]]
    hidden = hidden + weights[f"{embeddings}.position_embeddings.weight"][:9]
    hidden = norm(hidden + weights[f"{embeddings}.token_type_embeddings.weight"][0], f"{embeddings}.LayerNorm")
    query, key, value = (
        linear(hidden, f"{layer}.attention.self.{name}", 16).view(3, 9, 2, 8).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    context = (query @ key.transpose(2, 3) / 8**0.5).softmax(-1) @ value
    context = context.transpose(1, 2).reshape(3, 9, 16)
    attended = linear(context, f"{layer}.attention.output.dense", None, 16)
    hidden = norm(hidden + attended, f"{layer}.attention.output.LayerNorm")
    neurons = nn.functional.gelu(linear(hidden, f"{layer}.intermediate.dense", 5))
    hidden = norm(hidden + linear(neurons, f"{layer}.output.dense", None, 5), f"{layer}.output.LayerNorm")
    pooled = torch.tanh(linear(hidden[:, 0], "bert.pooler.dense"))
    torch.testing.assert_close(logits(tiny_network.extract(architecture), batch), linear(pooled, "classifier"), rtol=0, atol=1e-5)


def _count_calls(module: nn.Module, called: list[str], name: str) -> None:
    module.register_forward_hook(lambda *_: called.append(name))


@pytest.mark.parametrize("extracted", [False, True])
def test_what_is_gone_is_its_output_bias_and_is_not_computed(tiny_network: SuperNetwork, extracted: bool) -> None:
    architecture = Architecture((1, 2, 3), (0, 2, 3), (5, 0, 64))
    tiny_network.activate(architecture)
    model = tiny_network.extract(architecture) if extracted else tiny_network.model
    layers = model.bert.encoder.layer
    first, second = (layers[0], layers[1]) if extracted else (layers[1], layers[2])
    called: list[str] = []
    seen: dict[str, torch.Tensor] = {}
    for layer, name in ((first, "first"), (second, "second")):
        for path, module in layer.named_modules():
            if path in ("attention.self.query", "attention.self.key", "attention.self.value"):
                _count_calls(module, called, f"{name} {path}")
    for module, name in ((first.attention, "attention"), (second.output, "mlp")):
        module.register_forward_hook(lambda _, given, result, name=name: seen.update({name: (given[-1], result)}))
    first.attention.register_forward_pre_hook(lambda module, given: seen.update(x=given[0]))
    logits(model, inputs())
    assert called == ["second attention.self.query", "second attention.self.key", "second attention.self.value"]
    weights = tiny_network.model.state_dict()

    def left(hidden: torch.Tensor, name: str) -> torch.Tensor:
        norm = (weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"])
        return nn.functional.layer_norm(hidden + weights[f"{name}.dense.bias"], (32,), *norm, 1e-12)

    torch.testing.assert_close(seen["attention"][1][0], left(seen["x"], "bert.encoder.layer.1.attention.output"))
    torch.testing.assert_close(seen["mlp"][1], left(seen["mlp"][0], "bert.encoder.layer.2.output"))


def test_extracted_without_heads(tiny_network: SuperNetwork) -> None:
    small = tiny_network.extract(Architecture((0, 1), (0, 4), (64, 0)))
    first, second = small.bert.encoder.layer
    assert type(first.attention.self) is NoHeads
    assert type(second.attention.self).__name__ == "BertSelfAttention"
    names = {name for name in small.state_dict() if "layer.0.attention." in name}
    assert names == {f"bert.encoder.layer.0.attention.output.{end}" for end in (
        "dense.weight", "dense.bias", "LayerNorm.weight", "LayerNorm.bias")}  # fmt: skip
    assert first.attention.output.dense.weight.shape == (32, 0)
    assert (second.intermediate.dense.weight.shape, second.output.dense.weight.shape) == ((0, 32), (32, 0))
    # the super-network still has all of them
    assert all(isinstance(layer.attention.self, ElasticAttention) for layer in tiny_network.layers)
    torch.testing.assert_close(logits(copy.deepcopy(small), inputs()), logits(small, inputs()))


def test_training_without_heads_and_neurons_in_bf16(tiny_network: SuperNetwork) -> None:
    tiny_network.train()
    tiny_network.activate(Architecture((0, 1, 3), (0, 2, 4), (9, 0, 64)))
    with torch.autocast("cpu", torch.bfloat16):
        loss = tiny_network(**inputs(), labels=torch.tensor([0, 1, 0])).loss
    loss.backward()
    assert torch.isfinite(loss)
    first, second = tiny_network.layers[0], tiny_network.layers[1]
    assert all(parameter.grad is None for parameter in first.attention.self.parameters())
    assert not first.attention.output.dense.weight.grad.any()
    assert not second.output.dense.weight.grad.any()
    for linear in (first.attention.output.dense, second.output.dense):
        assert linear.bias.grad.abs().min() > 0


def test_extracted_is_an_ordinary_model(tiny_network: SuperNetwork, make_model: Callable[..., Any]) -> None:
    small = tiny_network.extract(MIXED)
    assert type(small) is type(make_model())
    assert not [module for module in small.modules() if isinstance(module, ElasticLinear | ElasticLayers | ElasticAttention)]
    layers = small.bert.encoder.layer
    assert type(layers) is nn.ModuleList
    assert len(layers) == 3
    assert [type(layer.attention.self.query) for layer in layers] == [nn.Linear] * 3
    assert [layer.attention.self.value.weight.shape for layer in layers] == [(24, 32), (8, 32), (32, 32)]
    assert [layer.attention.output.dense.weight.shape for layer in layers] == [(32, 24), (32, 8), (32, 32)]
    assert [layer.output.dense.in_features for layer in layers] == [64, 5, 33]
    assert not small.training


def test_extracted_configuration(tiny_network: SuperNetwork) -> None:
    mixed = tiny_network.extract(MIXED)
    assert (mixed.config.num_hidden_layers, mixed.config.intermediate_size) == (3, 64)
    uniform = tiny_network.extract(Architecture((0, 3), (2, 4), (48, 48)))
    assert (uniform.config.num_hidden_layers, uniform.config.intermediate_size) == (2, 48)
    assert uniform.bert.encoder.layer[0].attention.self.config is uniform.config
    assert (tiny_network.config.num_hidden_layers, tiny_network.config.intermediate_size) == (4, 64)


def test_extract_leaves_what_was_active(tiny_network: SuperNetwork) -> None:
    other = Architecture((1,), (2,), (7,))
    tiny_network.activate(other)
    before = logits(tiny_network, inputs())
    tiny_network.extract(MIXED)
    assert tiny_network.architecture == other
    torch.testing.assert_close(logits(tiny_network, inputs()), before, rtol=0, atol=0)


def test_extracted_shares_no_memory(tiny_network: SuperNetwork) -> None:
    small = tiny_network.extract(tiny_network.shape.full())
    places = {tensor.untyped_storage().data_ptr() for tensor in (*tiny_network.parameters(), *tiny_network.buffers())}
    assert not [name for name, tensor in small.named_parameters() if tensor.untyped_storage().data_ptr() in places]
    before = logits(small, inputs())
    with torch.no_grad():
        for parameter in tiny_network.parameters():
            parameter.zero_()
    torch.testing.assert_close(logits(small, inputs()), before, rtol=0, atol=0)


def test_activate_changes_no_weight_and_no_name(tiny_network: SuperNetwork, make_model: Callable[..., Any]) -> None:
    tiny_network.activate(MIXED)
    state, original = tiny_network.model.state_dict(), make_model().state_dict()
    assert list(state) == list(original)
    assert all(torch.equal(state[name], original[name]) for name in state)


def test_active_ends_with_its_block_even_after_an_error(tiny_network: SuperNetwork) -> None:
    tiny_network.activate(MIXED)
    before = logits(tiny_network, inputs())
    # none of the inputs the model takes: the forward pass fails
    with pytest.raises(ValueError, match="input_ids"), tiny_network.active(Architecture((0,), (1,), (1,))):
        tiny_network()
    assert tiny_network.architecture == MIXED
    torch.testing.assert_close(logits(tiny_network, inputs()), before, rtol=0, atol=0)


def test_inactive_parts_get_no_gradient(tiny_network: SuperNetwork) -> None:
    tiny_network.activate(MIXED)
    tiny_network(**inputs()).logits.square().sum().backward()
    layers = tiny_network.layers
    assert all(parameter.grad is None for parameter in layers[1].parameters())
    for index, inner, width in ((0, 24, 64), (2, 8, 5), (3, 32, 33)):
        layer = layers[index]
        for linear in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value):
            assert linear.weight.grad[:inner].abs().min() > 0
            assert not linear.weight.grad[inner:].any()
            assert not linear.bias.grad[inner:].any()
        assert layer.attention.output.dense.weight.grad[:, :inner].any(dim=0).all()
        assert not layer.attention.output.dense.weight.grad[:, inner:].any()
        assert layer.intermediate.dense.weight.grad[:width].any(dim=1).all()
        assert not layer.intermediate.dense.weight.grad[width:].any()
        assert not layer.output.dense.weight.grad[:, width:].any()


@pytest.mark.parametrize("model_type", ["bert", "vit"])
@settings(max_examples=10)
@given(heads=st.permutations(range(4)), neurons=st.permutations(range(64)), layer=st.integers(0, 3))
def test_reorder_keeps_the_full_network(
    make_model: Callable[..., Any], model_type: str, heads: list[int], neurons: list[int], layer: int
) -> None:
    network, batch = SuperNetwork(make_model(model_type)), inputs_of(model_type)
    before = logits(network, batch)
    network.reorder(layer, heads, neurons)
    torch.testing.assert_close(logits(network, batch), before, rtol=0, atol=1e-5)


def test_reorder_puts_the_first_given_first(tiny_network: SuperNetwork, make_model: Callable[..., Any]) -> None:
    original = make_model().bert.encoder.layer[1]
    tiny_network.reorder(1, [2, 0, 3, 1], [*range(63, -1, -1)])
    tiny_network.activate(Architecture((0, 1), (4, 2), (64, 3)))
    layer = tiny_network.extract(tiny_network.architecture).bert.encoder.layer[1]
    kept = [*range(16, 24), *range(8)]
    for name in ("query", "key", "value"):
        old, new = original.attention.self.get_submodule(name), layer.attention.self.get_submodule(name)
        assert torch.equal(new.weight, old.weight[kept])
        assert torch.equal(new.bias, old.bias[kept])
    assert torch.equal(layer.attention.output.dense.weight, original.attention.output.dense.weight[:, kept])
    assert torch.equal(layer.attention.output.dense.bias, original.attention.output.dense.bias)
    assert torch.equal(layer.intermediate.dense.bias, original.intermediate.dense.bias[[63, 62, 61]])
    assert torch.equal(layer.output.dense.weight, original.output.dense.weight[:, [63, 62, 61]])


def test_shape_is_read_from_the_model(networks: dict[str, SuperNetwork]) -> None:
    for network in networks.values():
        shape = network.shape
        assert (shape.layers, shape.heads, shape.mlp_width, shape.hidden_size, shape.head_size) == (4, 4, 64, 32, 8)
        # biases of the two output matrices, and two norms: 6 * 32
        assert shape.layer_parameters == 192
    bert = networks["bert"]
    # words, positions, types, norm; pooler; classifier
    assert bert.shape.fixed_parameters == (100 + 40 + 2 + 2) * 32 + 33 * 32 + 33 * 2


def test_another_model_is_refused() -> None:
    from transformers import GPT2Config, GPT2ForSequenceClassification

    model = GPT2ForSequenceClassification(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, n_positions=8))
    with pytest.raises(BadInput, match="model type 'gpt2' is not supported; supported are: bert, "):
        SuperNetwork(model)
