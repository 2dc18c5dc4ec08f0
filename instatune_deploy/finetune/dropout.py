"""Switch a model's dropout off and on again between two passes of one step."""

from __future__ import annotations

from torch import nn


class Dropout:
    """All dropout of a model, attention's too: Hugging Face keeps its probability in a Dropout module as well."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = [(module, module.p) for module in model.modules() if isinstance(module, nn.Dropout)]

    def switch(self, on: bool) -> None:
        """Each module at its own probability, or at 0."""
        for module, probability in self.modules:
            module.p = probability if on else 0.0
