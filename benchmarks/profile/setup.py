"""What the profiler's benchmarks measure: a pre-trained model's super-network, and architectures spread over its space.

Latency does not depend on what the weights say, so the pre-trained model is taken as it is, with a new classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.families import TEXT
from instatune_deploy.config import PipelineSettings
from instatune_deploy.devices.host import this_host
from instatune_deploy.devices.profile import Device, load_profile, resolve
from instatune_deploy.graphs.template import Template
from instatune_deploy.graphs.variants import Variant, make_variant, variant_of
from instatune_deploy.pipeline.inputs import PipelineInputs, load_inputs
from instatune_deploy.search.design import spread_over_cost
from instatune_deploy.supernet.architecture import Architecture
from instatune_deploy.supernet.network import SuperNetwork
from instatune_deploy.supernet.space import SearchSpace
from instatune_deploy.tasks.tables import Split

TOKENS = 128
"""Of a text; an image has as many as it is trained with."""
CALIBRATION_ROWS = 128


@dataclass(frozen=True)
class Subject:
    """A model as a super-network, and one real row as its input."""

    inputs: PipelineInputs
    network: SuperNetwork
    space: SearchSpace

    @cached_property
    def example(self) -> dict[str, np.ndarray]:
        """One validation row: of texts (1, 128) int64 each, padded."""
        return self.rows("validation", 1)

    def rows(self, split: Split, count: int) -> dict[str, np.ndarray]:
        """The first rows of a split, (count, ...) each."""
        return self.inputs.task.arrays(split, self.inputs.task.size_on(TOKENS), range(count))

    @property
    def tokens(self) -> int:
        """Of one row."""
        return self.inputs.task.tokens(self.inputs.task.size_on(TOKENS))

    def macs(self, architecture: Architecture) -> float:
        """Multiply-accumulates of one row."""
        return float(self.network.shape.macs_of(architecture, self.tokens))

    @cached_property
    def plain(self) -> Template:
        """The one export of the full network."""
        import torch

        from instatune_deploy.graphs.export import export_template

        return export_template(self.network, {name: torch.from_numpy(value) for name, value in self.example.items()})

    def template(self, runtime: str, precision: str = "fp32") -> Template:
        """What is carved for a way of running; made once."""
        return self._variant(variant_of(runtime, precision))

    def _variant(self, variant: Variant) -> Template:
        if variant.before is None:
            return self.plain
        if variant not in self._templates:
            before = self._variant(variant.before)
            self._templates[variant] = make_variant(variant, before, self.network.family, self._calibration)
        return self._templates[variant]

    def architectures(self, count: int, seed: int = 0) -> list[Architecture]:
        """Different ones, spread over MACs; the full and the smallest network among them."""
        shape, space = self.network.shape, self.space
        chosen = spread_over_cost(
            space,
            lambda genotypes: space.macs(genotypes, shape, self.tokens),
            count,
            np.random.default_rng(seed),
            include=np.array([space.encode(space.largest()), space.encode(space.smallest())]),
            prefer=np.empty((0, len(space.choices)), dtype=np.int64),
        )
        return [space.decode(row) for row in chosen]

    def _calibration(self) -> list[dict[str, np.ndarray]]:
        rows = self.rows("train", CALIBRATION_ROWS)
        return [{name: values[index : index + 1] for name, values in rows.items()} for index in range(CALIBRATION_ROWS)]

    @cached_property
    def _templates(self) -> dict[Variant, Template]:
        return {}


def subject(settings: PipelineSettings | None = None) -> Subject:
    """A pipeline's model, not fine-tuned; the default one's when none is given."""
    from instatune_deploy.pipeline.training import load_model

    settings = settings or TEXT.settings()
    inputs = load_inputs(settings)
    network = SuperNetwork(load_model(inputs, seed=0)).eval()
    return Subject(inputs, network, SearchSpace.of(network.shape, settings.space))


def device(name: str, threads: int | None = None) -> Device:
    """A hardware profile on this host; another number of threads when asked."""
    profile = load_profile(name)
    if threads is not None:
        profile = profile.model_copy(update={"threads": threads})
    return resolve(profile, this_host())
