"""What is fine-tuned on what: the default pipeline, the same on tweets, and a tiny random model for smoke runs.

Super-networks are trained in the wide space, and nothing is tuned for a benchmark.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instatune_deploy.config import PipelineSettings
from instatune_deploy.files import write_text
from instatune_deploy.pipeline.inputs import load_pipeline

MOVIES, TWEETS, TINY = "movies", "tweets", "tiny"
SUBJECTS = (MOVIES, TWEETS)
SPACE = {"preset": "wide"}
TWEETS_DATA = {"split": {"test": 800, "validation": 500, "seed": 0}}
MOVIE_FILE, TWEET_FILE = "movieReviewSnippets_GroundTruth.txt", "tweets_GroundTruth.txt"
# the full network has one step of them, then all the rest of the recipe is reached
TINY_FINETUNE = {"max_steps": 8, "batch_size": 8, "full_epochs": 0.1, "importance_rows": 16, "checkpoint_steps": 100}
TINY_ROWS, TINY_WORDS = 120, 40


def pipeline(subject: str, changes: Mapping[str, Any], work: Path) -> PipelineSettings:
    """The settings of a subject; ``changes`` are to its fine-tuning. The tiny one's files are made in ``work``."""
    value = _tiny(work) if subject == TINY else load_pipeline("sentiment").model_dump(exclude_none=True)
    if subject == TWEETS:
        value["data"] = {
            **value["data"],
            **TWEETS_DATA,
            "reference": value["data"]["reference"].replace(MOVIE_FILE, TWEET_FILE),
        }
    value["space"] = SPACE
    value["finetune"] = {**value["finetune"], **changes}
    return PipelineSettings.model_validate(value)


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
