"""Batches of rows of like length, or of images, the same in every process and after a continued training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler


class GroupedByLength(LengthGroupedSampler):
    """Batches of rows of like length, in an order that follows from seed and epoch alone.

    So a training continued in a later epoch sees the rows it would have seen.

    rows: with ``input_ids``; those without are images, which are all of one size. Rows that have ``set_epoch`` are told the
    epoch. batch_size: rows of a whole step, over all its batches and processes
    """

    def __init__(self, rows: Sequence[dict[str, Any]], batch_size: int, seed: int) -> None:
        super().__init__(batch_size, lengths=_lengths(rows), generator=torch.Generator())
        self.rows = rows
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of every epoch."""
        self.generator.manual_seed((self.seed << 20) + epoch)
        # a data loader tells its data set nothing when its sampler wants to know
        if hasattr(self.rows, "set_epoch"):
            self.rows.set_epoch(epoch)


def _lengths(rows: Sequence[dict[str, Any]]) -> list[int]:
    if "input_ids" not in rows[0]:
        return [1] * len(rows)
    return [len(row["input_ids"]) for row in rows]


class LengthGroupedMixin:
    """Before a Trainer: it takes its rows from `GroupedByLength`."""

    args: Any
    train_dataset: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedByLength:
        rows = self.train_dataset if train_dataset is None else train_dataset
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return GroupedByLength(rows, size, self.args.seed)
