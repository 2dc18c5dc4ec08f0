"""What is fine-tuned on what: the families' pipelines, the default one also on tweets, and tiny random models for smoke runs.

Super-networks of texts are trained in the wide space, all others in their pipeline's. Nothing is tuned for a benchmark.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.families import FAMILIES
from benchmarks.vision.tiny import tiny_images
from instatune_deploy.config import PipelineSettings
from instatune_deploy.files import write_text

MOVIES, TWEETS, TINY, TINY_IMAGES = "movies", "tweets", "tiny", "tiny-images"
SUBJECTS = tuple(subject for family in FAMILIES.values() for subject in family.subjects)
SPACE = {"preset": "wide"}
TWEETS_DATA = {"split": {"test": 800, "validation": 500, "seed": 0}}
MOVIE_FILE, TWEET_FILE = "movieReviewSnippets_GroundTruth.txt", "tweets_GroundTruth.txt"
# the full network has one step of them, then all the rest of the recipe is reached
TINY_FINETUNE = {"max_steps": 8, "batch_size": 8, "full_epochs": 0.1, "importance_rows": 16, "checkpoint_steps": 100}
TINY_ROWS, TINY_WORDS = 120, 40


def pipeline(subject: str, changes: Mapping[str, Any], work: Path) -> PipelineSettings:
    """The settings of a subject; ``changes`` are to its fine-tuning. A tiny one's files are made in ``work``."""
    value = MADE[subject](work) if subject in MADE else _shipped(subject)
    value["finetune"] = {**value.get("finetune", {}), **changes}
    return PipelineSettings.model_validate(value)


def _shipped(subject: str) -> dict[str, Any]:
    family = next(family for family in FAMILIES.values() if subject in family.subjects)
    value = family.settings().model_dump(exclude_unset=True)
    if subject in (MOVIES, TWEETS):
        value["space"] = SPACE
    if subject == TWEETS:
        reference = value["data"]["reference"].replace(MOVIE_FILE, TWEET_FILE)
        value["data"] = {**value["data"], **TWEETS_DATA, "reference": reference}
    return value


def _tiny(work: Path) -> dict[str, Any]:
    """A BERT of 6 layers with random weights, and sentences in which one of two words tells the label."""
    folder, table = work / "tiny-model", work / "tiny.csv"
    words = [f"word{index}" for index in range(TINY_WORDS)]
    if not table.is_file():
        _make_tiny_model(folder, words)
        draw = random.Random(0)
        rows = [f"{' '.join(draw.choices(words, k=6))} {label},{label}" for label in draw.choices(["good", "bad"], k=TINY_ROWS)]
        write_text(table, "\n".join(["text,label", *rows, ""]))
    return {
        "task": "text-classification",
        "model": {"reference": str(folder)},
        "data": {"reference": str(table), "split": {"test": 24, "validation": 24, "seed": 0}},
        "space": SPACE,
        "finetune": TINY_FINETUNE,
    }


def _tiny_images(work: Path) -> dict[str, Any]:
    model, data = tiny_images(work)
    return {
        "task": "image-classification",
        "model": {"reference": str(model)},
        # larger than the checkpoint's: its positions are interpolated, as those of a real one are
        "data": {
            "reference": str(data),
            "format": "idx",
            "labels": ["dark", "light"],
            "split": {"validation": 24},
            "image_size": 48,
        },
        "space": SPACE,
        "finetune": TINY_FINETUNE,
    }


def _make_tiny_model(folder: Path, words: list[str]) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer, BertConfig

    from instatune_deploy.supernet.load import quiet_transformers

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", *words]
    write_text(folder / "vocab.txt", "\n".join([*vocabulary, ""]))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    write_text(folder / "tokenizer_config.json", '{"tokenizer_class": "BertTokenizer", "model_max_length": 128}')
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)


MADE: dict[str, Callable[[Path], dict[str, Any]]] = {TINY: _tiny, TINY_IMAGES: _tiny_images}
"""What is made on the spot."""
