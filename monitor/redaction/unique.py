"""Two names that differed stay two where redaction has made them alike."""

from collections.abc import Container


def unique(name: str, taken: Container[str], longest: int | None = None) -> str:
    """The name, or else with the first of `-2`, `-3`, … that is not taken; cut to `longest` characters before it."""
    kept, number = name[:longest], 1
    while kept in taken:
        number += 1
        suffix = f"-{number}"
        kept = name[: None if longest is None else longest - len(suffix)] + suffix
    return kept
