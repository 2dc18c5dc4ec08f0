"""Tiny random models, a tokenizer of sixty words, a checkpoint folder and data that a tiny model can learn.

Heavy libraries are imported by the fixtures that need them. Session-scoped folders are shared: copy them before changing them.
"""

from __future__ import annotations

import csv
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

# before torch is imported, and for processes that tests start: on tiny models more threads only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a busy machine is no failure
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD = ["good", "great", "fine", "fresh", "funny", "warm", "clever", "lovely", "bright", "moving"]
BAD = ["bad", "awful", "dull", "stale", "boring", "cold", "silly", "ugly", "grim", "flat"]
# fmt: off
NEUTRAL = [
    "the", "a", "this", "that", "film", "movie", "story", "plot", "actor", "scene", "music", "ending", "was", "is",
    "and", "but", "very", "quite", "rather", "with", "of", "in", "to", "it", "he", "she", "they", "we", "said", "saw",
    "long", "short", "new", "old", "first", "last", "every", "one", "two", ".", ",",
]
# fmt: on
VOCABULARY = [*SPECIAL, *GOOD, *BAD, *NEUTRAL]
LABELS = ["negative", "positive"]
LAYERS, HEADS, HIDDEN, MLP, VOCABULARY_SIZE = 4, 4, 32, 64, 100


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Any]:
    """A tiny Hugging Face configuration of a model type: 4 layers, hidden 32, 4 heads, MLP 64, 100 tokens or 12 patches."""

    def make(model_type: str = "bert", **changes: Any) -> Any:
        from transformers import AutoConfig

        sizes: dict[str, Any] = {
            "num_hidden_layers": LAYERS,
            "hidden_size": HIDDEN,
            "num_attention_heads": HEADS,
            "intermediate_size": MLP,
            "vocab_size": VOCABULARY_SIZE,
            "max_position_embeddings": 40,
            "type_vocab_size": 2,
            "num_labels": 2,
        }
        if model_type == "electra":
            sizes["embedding_size"] = 16
        if model_type in ("vit", "deit"):  # 4 x 3 patches
            for name in ("vocab_size", "max_position_embeddings", "type_vocab_size"):
                del sizes[name]
            # DeiT has several classes with a head
            architectures = {"vit": "ViTForImageClassification", "deit": "DeiTForImageClassification"}
            sizes |= {"image_size": [16, 12], "patch_size": 4, "architectures": [architectures[model_type]]}
        return AutoConfig.for_model(model_type, **{**sizes, **changes})

    return make


@pytest.fixture(scope="session")
def make_model(make_config: Callable[..., Any]) -> Callable[..., Any]:
    """A tiny Hugging Face model, float32, evaluation mode, the same for the same arguments.

    All parameters are random and large, biases and norms too: networks that differ anywhere give other logits.
    """

    def make(model_type: str = "bert", seed: int = 0, **changes: Any) -> Any:
        import torch

        from instatune_deploy.supernet.load import model_from_config

        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            model = model_from_config(make_config(model_type, **changes))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                is_norm = "norm" in name.lower() and name.endswith(".weight")
                parameter.copy_(1 + 0.2 * noise if is_norm else 0.25 * noise)
        return model.eval()

    return make


@pytest.fixture
def tiny_config(make_config: Callable[..., Any]) -> Any:
    """BERT: 4 layers, hidden 32, 4 heads, MLP 64, 100 tokens, two labels."""
    return make_config()


@pytest.fixture
def tiny_model(make_model: Callable[..., Any]) -> Any:
    """A model of `tiny_config`, a new one for every test."""
    return make_model()


@pytest.fixture
def tiny_network(tiny_model: Any) -> Any:
    """The super-network of `tiny_model`."""
    from instatune_deploy.supernet.network import SuperNetwork

    return SuperNetwork(tiny_model)


@pytest.fixture(scope="session")
def tiny_space() -> Any:
    """Depths 1 to 4, heads 1, 2 and 4, MLP 16, 48 and 64: the space of `tiny_network`."""
    from instatune_deploy.supernet.space import SearchSpace

    return SearchSpace(LAYERS, (1, 2, 3, 4), (1, 2, 4), (16, 48, 64))


@pytest.fixture(scope="session")
def any_architecture() -> st.SearchStrategy[Any]:
    """Any sub-network of the tiny models, in whatever space: any layers, 0 to 4 heads, 0 to 64 neurons; somewhere a head."""
    from instatune_deploy.supernet.architecture import Architecture

    def of(layers: set[int]) -> st.SearchStrategy[Any]:
        # often enough 0, which is a case of its own
        sizes = st.tuples(st.just(0) | st.integers(0, HEADS), st.just(0) | st.integers(0, MLP)).filter(any)
        per_layer = st.tuples(*[sizes] * len(layers)).filter(lambda drawn: any(heads for heads, _ in drawn))
        return per_layer.map(lambda drawn: Architecture(tuple(sorted(layers)), *zip(*drawn, strict=True)))

    return st.sets(st.integers(0, LAYERS - 1), min_size=1).flatmap(of)


@pytest.fixture(scope="session")
def tiny_rows() -> list[tuple[str, str]]:
    """120 different sentences of 5 to 11 words and their labels, half and half: good words make them positive."""
    draw = random.Random(0)
    rows: dict[str, str] = {}
    labels = itertools.cycle(LABELS)
    while len(rows) < 120:
        label = next(labels)
        words = [*draw.choices(NEUTRAL, k=draw.randint(3, 9)), *draw.sample(GOOD if label == "positive" else BAD, k=2)]
        draw.shuffle(words)
        rows[" ".join(words)] = label
    return list(rows.items())


@pytest.fixture(scope="session")
def tiny_sentences(tiny_rows: list[tuple[str, str]]) -> list[str]:
    """The texts of `tiny_rows`."""
    return [text for text, _ in tiny_rows]


@pytest.fixture(scope="session")
def tiny_csv(tiny_rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_rows` as a file with the columns text and label."""
    path = tmp_path_factory.mktemp("data") / "sentences.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(tiny_rows)
    return path


@pytest.fixture(scope="session")
def tiny_checkpoint(make_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT checkpoint without classifier: config.json, model.safetensors, tokenizer.json, vocab.txt and its settings."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny-bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(make_config(vocab_size=len(VOCABULARY), initializer_range=0.1)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, model_max_length=40).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_checkpoint: Path) -> Any:
    """The tokenizer of `tiny_checkpoint`."""
    from instatune_deploy.tasks.text_inputs import load_tokenizer

    return load_tokenizer(tiny_checkpoint)
