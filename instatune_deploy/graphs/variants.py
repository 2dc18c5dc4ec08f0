"""Which template a runtime is given: the plain one, or one with operators of its own. A line a runtime that has some."""

from __future__ import annotations

from collections.abc import Callable

from instatune_deploy.graphs.fuse import fuse_template
from instatune_deploy.graphs.template import Template
from instatune_deploy.supernet.families.base import Family

PLAIN = "plain"
FUSED: dict[str, Callable[[Template, Family], Template]] = {"onnxruntime": fuse_template}


def variant_of(runtime: str) -> str:
    """The name under which the runtime's template is kept; runtimes without operators of their own share one."""
    return runtime if runtime in FUSED else PLAIN


def make_variant(plain: Template, family: Family, runtime: str) -> Template:
    """The template that ``runtime`` is given."""
    return FUSED[runtime](plain, family) if runtime in FUSED else plain
