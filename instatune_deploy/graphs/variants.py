"""Which graph a way of running is given: the plain export, one with a runtime's own operators, or a quantised one.

A new runtime with operators of its own is one line in `FUSED`; a new quantisation one in `quantise.QUANTISERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from instatune_deploy.graphs.calibration import Rows
from instatune_deploy.graphs.fuse import fuse_template
from instatune_deploy.graphs.quantise import is_quantised, quantise_template
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.families.base import Family

FUSED: dict[str, Callable[[Template, Family], Template]] = {"onnxruntime": fuse_template}
"""By runtime, how it is given operators of its own; the others take the plain graph."""
WITHOUT_OWN_OPERATORS = {("onnxruntime", "tensorrt")}
"""Runtime and provider that know only ONNX's operators."""
PLAIN = "plain"


class Variant(NamedTuple):
    """A template that every architecture's graph, for some ways of running, is carved from.

    graph:     ``plain``, or the name of the runtime whose own operators it has
    quantised: runtime and precision it was quantised for; None for fp32
    """

    graph: str
    quantised: tuple[str, str] | None = None

    def __str__(self) -> str:
        return "-".join([self.graph, *(self.quantised or ())])

    @property
    def before(self) -> Variant | None:
        """The variant that this one is made from; None for the plain export."""
        if self.quantised is not None:
            return Variant(self.graph)
        return None if self.graph == PLAIN else Variant(PLAIN)


def variant_of(runtime: str, precision: str, provider: str = "cpu") -> Variant:
    """The variant for a way of running; ways that are given the same graph share it."""
    graph = runtime if runtime in FUSED and (runtime, provider) not in WITHOUT_OWN_OPERATORS else PLAIN
    return Variant(graph, (runtime, precision) if is_quantised(precision) else None)


def make_variant(
    variant: Variant, before: Template, family: Family, rows: Callable[[], Rows], narrow_weights: bool = False
) -> Template:
    """``variant`` from the template of ``variant.before``.

    rows:           gives the calibration rows, each at the template's shapes; asked for only when they are needed
    narrow_weights: see `quantise.quantise_template`
    """
    if variant.quantised is not None:
        return quantise_template(before, *variant.quantised, rows(), narrow_weights)
    if variant.graph == PLAIN:
        return before
    return FUSED[variant.graph](before, family)
