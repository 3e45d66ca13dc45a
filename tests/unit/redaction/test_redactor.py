import json
from collections import Counter
from typing import Any

import pytest

from monitor.redaction.builtin import BUILT_IN
from monitor.redaction.redactor import Redactor, hashed, mask

EMAIL = "jane@example.com"
REDACTOR = Redactor([*BUILT_IN["email"], *BUILT_IN["card"]], mask)


def text(value: str) -> tuple[str, Counter[str]]:
    counts: Counter[str] = Counter()
    return REDACTOR.text(value, counts), counts


def escaped(value: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in value)


def test_counts_by_pattern() -> None:
    assert text(f"{EMAIL} {EMAIL} 4111111111111111")[1] == {"email": 2, "card": 1}


def test_what_holds_nothing_comes_back_as_it_was() -> None:
    plain = 'C:\\new\\table "quoted" {not json}'
    assert text(plain) == (plain, Counter())


@pytest.mark.parametrize(
    "hidden",
    [
        f'{{"a": "{escaped(EMAIL)}"}}',
        f'["{escaped(EMAIL[:4])}{EMAIL[4:]}"]',
        json.dumps({"a": json.dumps({"b": json.dumps([EMAIL + "\n"])})}),
        f'{{"a": "{escaped(EMAIL)}", "cut": "sho',
        f"said {escaped(EMAIL)} to me",
        f'{{"{escaped(EMAIL)}": 1}}',
        json.dumps(f'{{"a": "{escaped(EMAIL)}"}}'),
    ],
)
def test_escapes_hide_nothing(hidden: str) -> None:
    found, counts = text(hidden)
    assert counts == {"email": 1}
    assert "[EMAIL]" in found
    while found != (found := found.replace("\\\\", "\\")):
        pass
    assert "example" not in found
    assert escaped("example") not in found


def test_json_stays_json_with_its_other_texts() -> None:
    found, _ = text(json.dumps({"question": 'Who is "J"?\n', "by": "ä", "mail": EMAIL + "\\"}))
    assert json.loads(found) == {"question": 'Who is "J"?\n', "by": "ä", "mail": "[EMAIL]\\"}


def test_values_are_walked_with_their_keys_however_deep() -> None:
    deep: Any = EMAIL
    for _ in range(5000):
        deep = [deep]
    counts: Counter[str] = Counter()
    found = REDACTOR.value({EMAIL: [1, None, True, {"a": EMAIL}], "deep": deep}, counts)
    assert found["[EMAIL]"] == [1, None, True, {"a": "[EMAIL]"}]
    assert counts == {"email": 3}


def test_a_hash_tells_values_apart_and_needs_its_key() -> None:
    one, other = Redactor(BUILT_IN["email"], hashed(b"k" * 16)), Redactor(BUILT_IN["email"], hashed(b"l" * 16))
    first, again, second = (one.text(value, Counter()) for value in (EMAIL, EMAIL, "joe@example.com"))
    assert first == again != second
    assert first.startswith("[EMAIL:")
    assert other.text(EMAIL, Counter()) != first


def test_half_a_surrogate_pair_is_no_trouble() -> None:
    assert text(f"\ud800 {EMAIL}")[0] == "\ud800 [EMAIL]"
