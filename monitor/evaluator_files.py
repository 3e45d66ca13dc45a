"""Evaluators from a folder of YAML files: the one home of YAML, read as if a stranger had written it."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from monitor.domain.errors import InvalidSettings
from monitor.judging.evaluator_content import evaluator_of
from monitor.judging.evaluators import Evaluator

MAX_FILE_BYTES = 64 * 1024
MAX_FILES = 500
"""More files than this in one folder are taken for the wrong folder."""

MAX_LEVELS = 8
"""How deep a declaration may be nested; it needs three levels."""

MAX_NODES = 200
"""Keys and values of one declaration, together; it needs about thirty."""


def load_evaluators(directory: Path) -> Mapping[str, Evaluator]:
    """Every evaluator that a folder's `*.yaml` and `*.yml` files declare, by name, in the names' order.

    Raises:
        InvalidSettings: a line for each mistake in any of the files, with file, field and what would be right.
    """
    found: dict[str, Evaluator] = {}
    declared_in: dict[str, str] = {}
    problems: list[str] = []
    for path in _files(directory):
        try:
            evaluator = evaluator_of(read_declaration(_bytes_of(path), source=path.name), source=path.name)
        except InvalidSettings as error:
            problems.append(str(error))
            continue
        if evaluator.name in found:
            problems.append(f"{path.name}: name: {evaluator.name!r} is declared in {declared_in[evaluator.name]} too")
        found[evaluator.name] = evaluator
        declared_in[evaluator.name] = path.name
    if problems:
        raise InvalidSettings("\n".join(problems))
    return MappingProxyType(dict(sorted(found.items())))


def read_declaration(raw: bytes, *, source: str) -> Any:
    """One YAML document as JSON-like values.

    Raises:
        InvalidSettings: it is no YAML, or more of it than a declaration needs: too large, nested too deep, with
            anchors, tags, several documents or a key twice.
    """
    if len(raw) > MAX_FILE_BYTES:
        raise InvalidSettings(f"{source}: has {len(raw)} bytes; {MAX_FILE_BYTES} at most")
    try:
        text = raw.decode()
        _check_shape(text, source)
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise InvalidSettings(f"{source}: {_located(error)}") from None
    except ValueError as error:
        # Not UTF-8; or a scalar that looks like a number or a date and is none.
        raise InvalidSettings(f"{source}: cannot be read: {error}") from None


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice: plain YAML would take the last and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - the base class's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep=deep)


def _check_shape(text: str, source: str) -> None:
    """Walk the parser's events, before anything is built of them: aliases and depth are how YAML bombs grow."""
    levels = nodes = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            levels -= 1
        if not isinstance(event, yaml.NodeEvent):
            continue
        nodes += 1
        levels += isinstance(event, yaml.CollectionStartEvent)
        if event.anchor is not None:
            problem = "anchors and aliases are not allowed; write the text out"
        elif (tag := getattr(event, "tag", None)) is not None:
            problem = f"the tag {tag} is not allowed; write plain values"
        elif levels > MAX_LEVELS:
            problem = f"is nested deeper than {MAX_LEVELS} levels"
        elif nodes > MAX_NODES:
            problem = f"has more than {MAX_NODES} keys and values"
        else:
            continue
        line = event.start_mark.line + 1 if event.start_mark else 1
        raise InvalidSettings(f"{source}: line {line}: {problem}")


def _located(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).replace("\n", " ")
    return f"line {mark.line + 1}: {problem}" if mark else f"is no YAML: {problem}"


def _files(directory: Path) -> list[Path]:
    try:
        found = sorted(path for path in directory.iterdir() if path.suffix in {".yaml", ".yml"})
    except OSError as error:
        raise InvalidSettings(f"evaluators.directory: {directory}: {error.strerror}") from None
    if len(found) > MAX_FILES:
        raise InvalidSettings(f"evaluators.directory: {directory}: {len(found)} files; {MAX_FILES} at most")
    return found


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # One byte more than allowed tells a file that is too large without reading it all.
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidSettings(f"{path.name}: {error.strerror}") from None
