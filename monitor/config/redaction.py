"""Settings of what a sidecar must not keep."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from monitor.config.section import Section
from monitor.redaction.builtin import BUILT_IN


def _known(name: str) -> str:
    if name not in BUILT_IN:
        raise ValueError(f"Input should be one of {', '.join(BUILT_IN)}")
    return name


def _compiles(expression: str) -> str:
    try:
        found = re.compile(expression)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    if found.search(""):
        raise ValueError("matches the empty text, and so everywhere")
    return expression


class RedactionRuleSettings(Section):
    """One rule of your own."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    """What it is called, in lower case: in the text as its mark, in counts and metrics."""
    regex: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_compiles)]
    """Python's syntax. A group named `value`, where there is one, is all that is replaced."""


class RedactionSettings(Section):
    """What is replaced before anything is written or sent."""

    patterns: tuple[Annotated[str, AfterValidator(_known)], ...] = ("secret", "card", "iban")
    """Of secret, card, iban, email and phone. The last two are off by default: questions are often about them."""
    rules: Annotated[tuple[RedactionRuleSettings, ...], Field(max_length=64)] = ()
    """Rules of your own, `{name, regex}`; they come first."""
    action: Literal["mask", "hash"] = "mask"
    """`mask` leaves `[EMAIL]`; `hash` leaves `[EMAIL:9f2c1a03b7de]`: two values stay two."""
    hash_key: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Key of the hashes, for `hash`: the same at every sidecar, and secret."""

    @model_validator(mode="after")
    def _keyed(self) -> Self:
        if self.action == "hash" and self.hash_key is None:
            raise ValueError("action hash also needs hash_key")
        return self
