"""Read a YAML file into a validated model, with errors that name the key, the line and the nearest right word."""

from __future__ import annotations

import difflib
import re
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from instatune_deploy.errors import BadInput, reason

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]

LONGEST_FOUND = 60
"""Of a value, in a message; what is longer is seen in the file."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, reading ``1e-5`` as the number it is (YAML 1.2) and refusing a key given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key}' stands here twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_float(loader: _Loader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    return float(text)


_EXPONENT = r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"
_Loader.add_implicit_resolver("!exponent", re.compile(_EXPONENT), list("-+0123456789"))
_Loader.add_constructor("!exponent", _read_float)


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read ``path`` as ``model``. ``BadInput`` says file, line, key and what would be right."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {reason(error)}") from error
    return parse_yaml(text, model, str(path))


def top_keys(path: Path) -> set[str]:
    """The keys at the top of a YAML file, however they are written; none of a file that `load_yaml` cannot read."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader: makes plain values only
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return set()
    return set(map(str, value)) if isinstance(value, dict) else set()


def parse_yaml(text: str, model: type[Model], where: str) -> Model:
    """Validate YAML ``text`` as ``model``; ``where`` names it in errors."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = yaml.load(text, Loader=_Loader)  # a SafeLoader: makes plain values only
    except yaml.MarkedYAMLError as error:
        line = f"{error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise BadInput(f"{where}:{line} {error.problem or 'not valid YAML'}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of a date or a number that is none
        raise BadInput(f"{where}: not valid YAML: {reason(error)}") from error
    except RecursionError as error:
        raise BadInput(f"{where}: not valid YAML: nested too deeply") from error
    if value is None:
        raise BadInput(f"{where}: the file is empty; it needs at least the keys {_required(model)}")
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected keys and values such as '{_required(model)}: ...', found a {type(value).__name__}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # a misspelt key is also a missing one: the misspelling is what helps
        first = min(error.errors(), key=lambda item: (item["type"] != "extra_forbidden", _line(node, item["loc"])))
        raise BadInput(_message(where, node, model, first)) from error


def place(path: Path, location: Location) -> str:
    """``file:line: key`` of a part of a YAML file that was read before, for a message."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    return f"{path}:{_line(node, location)}: {'.'.join(map(str, location))}"


def _required(model: type[BaseModel]) -> str:
    return ", ".join(name for name, field in model.model_fields.items() if field.is_required()) or "of the documentation"


def _message(where: str, node: Any, model: type[BaseModel], item: Any) -> str:
    location: Location = tuple(part for part in item["loc"])
    line = _line(node, location)
    key = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys here: {', '.join(known)}"
        return f"{where}:{line}: unknown key '{key}'; {hint}"
    if item["type"] == "missing":
        return f"{where}:{line}: key '{key}' is missing"
    text = item["msg"].removeprefix("Value error, ")
    found = repr(item["input"])
    shown = f" (found {found})" if len(found) <= LONGEST_FOUND else ""
    return f"{where}:{line}: {key}: {text[0].lower() + text[1:]}{shown}"


def _known_keys(model: Any, location: Location) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue
        model = _submodel(model.model_fields[str(part)].annotation)
        if model is None:
            return []
    return list(model.model_fields)


def _submodel(annotation: Any) -> Any:
    """The pydantic model inside an annotation such as ``X | None`` or ``list[X]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in typing.get_args(annotation):
        found = _submodel(part)
        if found is not None:
            return found
    return None


def _line(node: Any, location: Location) -> int:
    """The 1-based line of the deepest part of ``location`` that the file has."""
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(part):
                    line, node = key_node.start_mark.line + 1, value_node
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line
