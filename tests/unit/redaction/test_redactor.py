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


@pytest.mark.parametrize("space", ["", " "])
def test_json_stays_json_where_a_number_in_it_is_one_to_hide(space: str) -> None:
    found, counts = text(f'{{"card":{space}4111111111111111, "at": [1714521600000000014, 0.5], "question": "Who?"}}')
    assert json.loads(found) == {"card": "[CARD]", "at": [1714521600000000014, 0.5], "question": "Who?"}
    assert counts == {"card": 1}


@pytest.mark.parametrize(
    "hidden", ["4111\\u00a01111\\u00a01111\\u00a01111", '["4111\\u20131111\\u20131111\\u20131111"]']
)
def test_escaped_spaces_and_dashes_hide_no_card(hidden: str) -> None:
    assert "[CARD]" in text(hidden)[0]
    assert REDACTOR.narrowed(hidden.encode()) is not None
    assert REDACTOR.narrowed(json.dumps(hidden).encode()) is not None


def test_only_what_a_message_can_hold_is_looked_for() -> None:
    assert REDACTOR.narrowed(b"nothing at all") is None
    narrowed = REDACTOR.narrowed(b"4111 1111 1111 1111")
    assert narrowed is not None
    counts: Counter[str] = Counter()
    assert narrowed.text("4111 1111 1111 1111 [EMAIL]", counts) == "[CARD] [EMAIL]"
    assert counts == {"card": 1}
    assert REDACTOR.narrowed(b"4111 1111 1111 1111 @") is REDACTOR


def test_numbers_of_values_are_hidden_and_others_stay() -> None:
    counts: Counter[str] = Counter()
    value = {"a": 4111111111111111, "b": [4111111111111111.0, 0.4111111111111111, 17, True, None], "c": 10**400}
    assert REDACTOR.value(value, counts) == {
        "a": "[CARD]",
        "b": ["[CARD]", 0.4111111111111111, 17, True, None],
        "c": 10**400,
    }
    assert counts == {"card": 2}


def test_keys_that_become_alike_stay_two() -> None:
    found = REDACTOR.value({EMAIL: 1, "joe@example.com": 2, "[EMAIL]": 3}, Counter())
    assert found == {"[EMAIL]": 1, "[EMAIL]-2": 2, "[EMAIL]-3": 3}


def test_escapes_that_are_none_of_pythons_are_undone_without_a_warning() -> None:
    assert text(f"C:\\pa\\777 {escaped(EMAIL)}") == ("C:pa777 [EMAIL]", Counter(email=1))


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
