"""Templates of tiny networks: each is exported once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from instatune_deploy.graphs.export import export_template
from instatune_deploy.graphs.fuse import fuse_template
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.network import SuperNetwork

ROWS, TOKENS = 2, 12
PIXELS = 3, 16, 12
INPUTS = {
    "bert": ("input_ids", "attention_mask", "token_type_ids"),
    "roberta": ("input_ids", "attention_mask"),
    "electra": ("input_ids", "attention_mask", "token_type_ids"),
    "vit": ("pixel_values",),
    "deit": ("pixel_values",),
}
TEXT_INPUTS = {name: inputs for name, inputs in INPUTS.items() if "input_ids" in inputs}
ALL_INPUTS = {**INPUTS, "xlm-roberta": INPUTS["roberta"], "camembert": INPUTS["roberta"]}


@dataclass(frozen=True)
class Case:
    """A network and its templates, for inputs of two rows and twelve tokens unless their shapes are open."""

    network: SuperNetwork
    names: tuple[str, ...]
    plain: Template
    fused: Template

    def inputs(self, seed: int, padded: bool = True, rows: int = ROWS, tokens: int = TOKENS) -> dict[str, np.ndarray]:
        """Random tokens, rows of random length when padded; or pixels."""
        rng = np.random.default_rng(seed)
        if "pixel_values" in self.names:
            return {"pixel_values": rng.standard_normal((rows, *PIXELS), dtype=np.float32)}
        lengths = rng.integers(1, tokens + 1, (rows, 1)) if padded else np.full((rows, 1), tokens)
        mask = np.arange(tokens) < lengths
        ids = np.where(mask, rng.integers(5, 90, (rows, tokens)), self.network.config.pad_token_id)
        types = rng.integers(0, 2, (rows, tokens))
        values = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": types}
        return {name: values[name] for name in self.names}

    def logits(self, architecture: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Of the extracted network, in PyTorch: (rows, 2)."""
        small = self.network.extract(architecture)
        with torch.no_grad():
            result = small(**{name: torch.from_numpy(value) for name, value in inputs.items()}).logits
        return np.asarray(result)


def make_case(network: SuperNetwork, names: tuple[str, ...], open_shapes: bool = False) -> Case:
    example = {name: torch.ones(ROWS, TOKENS, dtype=torch.int64) for name in names}
    if "pixel_values" in names:
        example = {"pixel_values": torch.zeros(ROWS, *PIXELS)}
    plain = export_template(network, example, open_shapes)
    return Case(network, names, plain, fuse_template(plain, network.family))


@pytest.fixture(scope="session")
def cases(make_model: Callable[..., Any]) -> dict[str, Case]:
    """One case a model type."""
    return {model_type: make_case(SuperNetwork(make_model(model_type)), names) for model_type, names in INPUTS.items()}


@pytest.fixture(scope="session")
def open_cases(make_model: Callable[..., Any]) -> dict[str, Case]:
    """One case with open shapes for every model type there is."""
    return {name: make_case(SuperNetwork(make_model(name)), inputs, open_shapes=True) for name, inputs in ALL_INPUTS.items()}


@pytest.fixture(scope="session")
def bert(cases: dict[str, Case]) -> Case:
    """BERT's case."""
    return cases["bert"]
