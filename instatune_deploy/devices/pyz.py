"""One Python file that runs anywhere: a zip application of those of our modules that need nothing of ours installed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import instatune_deploy
from instatune_deploy.zips import zip_of

PACKAGE = "instatune_deploy"
ROOT = Path(instatune_deploy.__file__).parent
ALLOWED = ("numpy", "onnxruntime", "openvino")
"""What a module may import beside ours and the standard library."""
OLDEST = (3, 10)
MAIN = """\
# made by instatune-deploy
import sys

if sys.version_info < {oldest}:
    sys.stderr.write("Error: Python {oldest[0]}.{oldest[1]} or newer is needed; this is " + sys.version.split()[0] + "\\n")
    sys.exit(2)

from {module} import main

sys.exit(main())
"""


def build_pyz(main_module: str, modules: Sequence[str] = ()) -> bytes:
    """A zip application (`python FILE.pyz`) that calls ``main() -> exit code`` of ``main_module``; always the same bytes.

    modules: what is loaded by its name while it runs; whatever the modules import of ours comes along by itself

    ValueError when a module imports what need not be there: neither ours, the standard library's nor `ALLOWED`.
    """
    sources = {}
    for name in modules_of([main_module, *modules]):
        path = _path(name)
        source = path.read_text(encoding="utf-8")
        foreign = sorted(set(_imported(source)) - {PACKAGE, *ALLOWED} - sys.stdlib_module_names)
        if foreign:
            raise ValueError(f"{name} imports {', '.join(foreign)}, which a device need not have")
        sources[path.relative_to(ROOT.parent).as_posix()] = source
    sources["__main__.py"] = MAIN.format(module=main_module, oldest=OLDEST)
    return zip_of({name: text.encode() for name, text in sources.items()})


def modules_of(names: Sequence[str]) -> list[str]:
    """These modules, all of ours that they import, and the packages around them, sorted."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        package = name.rpartition(".")[0]
        waiting += [package] if package else []
        waiting += _ours(_path(name).read_text(encoding="utf-8"))
    return sorted(found)


def _path(name: str) -> Path:
    path = ROOT.parent / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _ours(source: str) -> Iterator[str]:
    """Modules of this package that a source imports when it runs, whether at once or inside a function."""
    for node in _imports(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == PACKAGE)
        elif node.module and node.module.partition(".")[0] == PACKAGE:
            # `from package import name`: of a module, or the module itself
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if _path(name).is_file() else node.module for name in inner)


def _imported(source: str) -> Iterator[str]:
    """Top names of everything a source imports when it runs."""
    for node in _imports(source):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        yield from (name.partition(".")[0] for name in names)


def _imports(source: str) -> Iterator[ast.Import | ast.ImportFrom]:
    waiting: list[ast.AST] = [ast.parse(source, feature_version=OLDEST)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
