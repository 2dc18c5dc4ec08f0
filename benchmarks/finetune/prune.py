"""Run by Torch-Pruning's own environment: prune a pipeline's model, by any ratio that is asked for.

A line of JSON in, a line out, until the input ends: ``{"ratio": 0.4, "out": "pruned.safetensors"}`` is answered with the path
when the file is written. MODEL is a checkpoint of the model that has been trained; the pre-trained one when not given.
``python -m benchmarks.finetune.prune SETTINGS.json SEED taylor|magnitude hidden|fixed ROWS [MODEL]``
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from instatune_deploy.config import PipelineSettings
from instatune_deploy.finetune.ordering import batches_for_importance
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs
from instatune_deploy.supernet.load import load_pretrained

BATCH = 32


def main(settings: Path, seed: int, importance: str, hidden: bool, rows: int, begun: Path | None = None) -> None:
    """Load once, gather gradients once, prune a copy for every request."""
    inputs = load_inputs(PipelineSettings.model_validate_json(settings.read_text(encoding="utf-8")))
    model = load_pretrained(begun or inputs.model_folder, inputs.task.label_names, seed)
    model.set_attn_implementation("eager")  # its graph of gradients names every operation, from which dependencies are read
    if importance == "taylor":
        _gather_gradients(model, inputs, rows, seed)
    for line in sys.stdin:
        request = json.loads(line)
        pruned = _pruned(model, importance, hidden, request["ratio"])
        save_file({name: value.contiguous() for name, value in pruned.state_dict().items()}, request["out"])
        print(json.dumps(request["out"]), flush=True)


def _gather_gradients(model: Any, inputs: PipelineInputs, rows: int, seed: int) -> None:
    """On the very rows that order a super-network's heads and neurons."""
    batches = batches_for_importance(inputs.task.training_rows(seed), inputs.task.collator(), rows, BATCH, seed)
    for batch in batches:
        (model(**batch).loss / len(batches)).backward()


def _pruned(model: Any, importance: str, hidden: bool, ratio: float) -> Any:
    """A copy with whole heads and MLP neurons removed, ranked over all layers; with ``hidden`` the residual stream as well."""
    import torch_pruning

    small = copy.deepcopy(model)
    for own, original in zip(small.parameters(), model.parameters(), strict=True):
        own.grad = None if original.grad is None else original.grad.clone()  # copies of parameters come without
    attentions = [layer.attention.self for layer in small.base_model.encoder.layer]
    heads = {getattr(item, name): item.num_attention_heads for item in attentions for name in ("query", "key", "value")}
    kept = [small.base_model.pooler, small.classifier]
    if not hidden:
        kept.append(small.base_model.embeddings)
        kept += [part.output.dense for layer in small.base_model.encoder.layer for part in (layer.attention, layer)]
    criteria = {
        "taylor": torch_pruning.importance.GroupTaylorImportance,
        "magnitude": torch_pruning.importance.GroupMagnitudeImportance,
    }
    example = {"input_ids": torch.ones(1, 16, dtype=torch.long), "attention_mask": torch.ones(1, 16, dtype=torch.long)}
    pruner = torch_pruning.pruner.BasePruner(
        small,
        example,
        importance=criteria[importance](),
        global_pruning=True,
        isomorphic=True,  # heads, neurons and the residual stream are ranked apart: their scores are on scales of their own
        pruning_ratio=ratio,
        max_pruning_ratio=0.95,  # never a whole layer: what is left would not be a network any more
        num_heads=heads,
        prune_num_heads=True,
        prune_head_dims=False,
        round_to=16,  # what a CPU's vectors hold: what is left costs no less with a neuron less
        head_pruning_ratio=ratio,
        ignored_layers=kept,
        output_transform=lambda output: output.logits,
        root_module_types=[torch.nn.Linear],
    )
    pruner.step()
    return small


if __name__ == "__main__":
    model_folder = Path(sys.argv[6]) if len(sys.argv) > 6 else None
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4] == "hidden", int(sys.argv[5]), model_folder)
