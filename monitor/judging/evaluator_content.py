"""Declared content to evaluators: every mistake is told with its file, its field and what would be right.

`schemas/evaluator.v1.json` states the same rules for editors; tests hold the two together.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from monitor.domain.errors import InvalidSettings
from monitor.domain.verdict import FAITHFULNESS
from monitor.judging.evaluators import (
    Evaluator,
    Kind,
    PairwiseEvaluator,
    PredicateEvaluator,
    ReferenceUse,
    RubricEvaluator,
    content_digest,
    slots_of,
)
from monitor.judging.prompts.scoring import LEVELS, PREDICATE_SLOTS

CONTRACT = "evaluator.v1"

LONGEST_LINE = 200
LONGEST_TEXT = 2000
LONGEST_PREDICATE = 8000
LEAST_TOKENS = 64
MOST_TOKENS = 2000
DEFAULT_TOKENS = 400

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_COMMON = ("schema", "name", "kind", "description", "max_tokens")
FIELDS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        Kind.PREDICATE: (*_COMMON, "intent", "predicate"),
        Kind.RUBRIC: (*_COMMON, "criterion", "levels", "reference", "documents"),
        Kind.PAIRWISE: (*_COMMON, "criterion", "documents"),
    }
)
"""The fields of each kind."""


def evaluator_of(content: Any, *, source: str) -> Evaluator:
    """Make an evaluator of one declaration.

    Args:
        content: JSON-like values, as a YAML file holds them.
        source: the file's name, for messages.

    Raises:
        InvalidSettings: one line a mistake.
    """
    if not isinstance(content, Mapping):
        raise InvalidSettings(f"{source}: is not a mapping of fields; begin with `schema: {CONTRACT}`")
    fields = _Fields(content, source)
    fields.word("schema", (CONTRACT,))
    kind = fields.word("kind", tuple(Kind))
    if kind is None:
        raise fields.refusal()
    fields.only(FIELDS[Kind(kind)])
    common = {
        "name": fields.name(),
        "description": fields.text("description", LONGEST_LINE),
        "max_tokens": fields.whole("max_tokens", LEAST_TOKENS, MOST_TOKENS, DEFAULT_TOKENS),
    }
    make: Callable[..., Evaluator]
    make, own = {Kind.PREDICATE: _predicate, Kind.RUBRIC: _rubric, Kind.PAIRWISE: _pairwise}[Kind(kind)](fields)
    if fields.problems:
        raise fields.refusal()
    return make(**common, **own, digest=content_digest({"kind": kind, **common, **own}))


def _predicate(fields: "_Fields") -> tuple[Callable[..., Evaluator], dict[str, Any]]:
    predicate = fields.template("predicate", LONGEST_PREDICATE)
    own = {"intent": fields.text("intent", LONGEST_TEXT), "predicate": predicate}
    return PredicateEvaluator, {**own, "reads_documents": "{documents}" in predicate}


def _rubric(fields: "_Fields") -> tuple[Callable[..., Evaluator], dict[str, Any]]:
    own = {
        "criterion": fields.text("criterion", LONGEST_TEXT),
        "levels": fields.levels(),
        "reference": ReferenceUse(fields.word("reference", tuple(ReferenceUse), ReferenceUse.NONE) or "none"),
        "reads_documents": fields.flag("documents"),
    }
    return RubricEvaluator, own


def _pairwise(fields: "_Fields") -> tuple[Callable[..., Evaluator], dict[str, Any]]:
    own = {"criterion": fields.text("criterion", LONGEST_TEXT), "reads_documents": fields.flag("documents")}
    return PairwiseEvaluator, own


class _Fields:
    """Reads fields one by one and collects what is wrong; what a wrong field gives is never used."""

    def __init__(self, content: Mapping[Any, Any], source: str) -> None:
        self._content = content
        self._source = source
        self.problems: list[str] = []

    def refusal(self) -> InvalidSettings:
        return InvalidSettings("\n".join(self.problems))

    def only(self, known: Sequence[str]) -> None:
        for key in self._content:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
                self._problem(str(key)[:64], f"no such field of this kind; {hint}")

    def name(self) -> str:
        value = self.text("name", LONGEST_LINE)
        if value and not _NAME.match(value):
            self._problem("name", f"{value!r}: use a lower-case letter, then letters, digits and _, 64 at most")
        if value == FAITHFULNESS:
            self._problem("name", f"{value!r} is built in; choose another name")
        return value

    def text(self, field: str, most: int) -> str:
        return self._as_text(field, self._content.get(field), most)

    def template(self, field: str, most: int) -> str:
        value = self.text(field, most)
        allowed = ", ".join(f"{{{slot}}}" for slot in PREDICATE_SLOTS)
        try:
            slots = slots_of(value)
        except ValueError:
            self._problem(field, f"has an unpaired brace; the slots are {allowed}, and {{{{ or }}}} writes a brace")
            return value
        for slot in slots:
            if slot not in PREDICATE_SLOTS:
                self._problem(field, f"{{{slot}}} is no slot; there are {allowed}, and {{{{ or }}}} writes a brace")
        if value and "answer" not in slots:
            self._problem(field, "does not show the answer; put {answer} where it shall stand")
        if len(slots) > len(set(slots)):
            self._problem(field, "fills a slot twice; name each slot once")
        return value

    def levels(self) -> tuple[str, ...]:
        value = self._content.get("levels")
        if not isinstance(value, Mapping) or {str(key) for key in value} != {str(level) for level in LEVELS}:
            self._problem("levels", "describe each of 1, 2, 3, 4 and 5, as `1: …` to `5: …`")
            return ()
        texts = {str(key): text for key, text in value.items()}
        return tuple(self._as_text(f"levels.{level}", texts[str(level)], LONGEST_TEXT) for level in LEVELS)

    def word(self, field: str, words: Sequence[str], default: str | None = None) -> str | None:
        value = self._content.get(field, default)
        if isinstance(value, str) and value in tuple(map(str, words)):
            return value
        choice = " or ".join(f"`{word}`" for word in words)
        self._problem(field, f"is missing; write {choice}" if value is None else f"{_shown(value)}: write {choice}")
        return None

    def whole(self, field: str, low: int, high: int, default: int) -> int:
        value = self._content.get(field, default)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self._problem(field, f"{_shown(value)}: write a whole number from {low} to {high}")
        return default

    def flag(self, field: str) -> bool:
        value = self._content.get(field, False)
        if not isinstance(value, bool):
            self._problem(field, f"{_shown(value)}: write true or false")
        return value is True

    def _as_text(self, field: str, value: Any, most: int) -> str:
        if value is None:
            self._problem(field, "is missing; write a text")
        elif not isinstance(value, str):
            self._problem(field, f"{_shown(value)} is no text; put it in quotation marks")
        elif not value.strip():
            self._problem(field, "is blank; write a text")
        elif len(value) > most:
            self._problem(field, f"has {len(value)} characters; {most} at most")
        else:
            return value.strip()
        return ""

    def _problem(self, field: str, problem: str) -> None:
        self.problems.append(f"{self._source}: {field}: {problem}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"
