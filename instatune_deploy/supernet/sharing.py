"""What the networks of one training step have in common, computed once: the embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from instatune_deploy.supernet.network import SuperNetwork


@contextmanager
def shared_embeddings(network: SuperNetwork) -> Iterator[None]:
    """Inside, the embeddings that the first network computes serve the others, and have one gradient for all of them.

    They are the same in all sub-networks that take inputs of one size, as the embedding width is not elastic. The gradient of a
    vocabulary is as large as the vocabulary, whatever the rows: for a small network that is most of a step. Dropout is that of
    the first one.
    """
    module = network.embeddings
    own = module.__dict__.get("forward")  # another's wrapper
    module.__dict__["forward"] = _Remembering(module.forward, lambda: getattr(module, "image_size_now", None))
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if own is not None:
            module.__dict__["forward"] = own


class _Remembering:
    """A ``forward`` that gives for the same arguments what it gave before, with the graph of its gradient.

    size: says, when it is called, for which size of images
    """

    def __init__(self, compute: Callable[..., Any], size: Callable[[], int | None]) -> None:
        self.compute = compute
        self.size = size
        self.before: dict[int | None, tuple[tuple[Any, ...], dict[str, Any], list[int], Any]] = {}

    def __call__(self, *positional: Any, **named: Any) -> Any:
        """What ``compute`` gives."""
        if not torch.is_grad_enabled():  # has no graph
            return self.compute(*positional, **named)
        size = self.size()
        if size not in self.before or not self._same(size, positional, named):
            output = self.compute(*positional, **named)
            self.before[size] = positional, named, _versions([*positional, *named.values(), output]), output
        return self.before[size][-1]

    def _same(self, size: int | None, positional: tuple[Any, ...], named: dict[str, Any]) -> bool:
        first, first_named, versions, output = self.before[size]
        if len(first) != len(positional) or first_named.keys() != named.keys():
            return False
        pairs = [*zip(first, positional, strict=True), *((value, named[name]) for name, value in first_named.items())]
        # by identity: to compare what lies on a GPU would wait for it
        equal = (one is other or (isinstance(one, int) and one == other) for one, other in pairs)
        return all(equal) and versions == _versions([*positional, *named.values(), output])


def _versions(values: Iterable[Any]) -> list[int]:
    """How often each tensor was changed in place; those of inference mode do not say, and nobody trains with them."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return [0 if value.is_inference() else value._version for value in tensors]
