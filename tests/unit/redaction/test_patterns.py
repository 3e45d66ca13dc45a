"""Each pattern, one by one: what it finds, what it leaves, and that no text makes it slow."""

from collections import Counter

import pytest

from monitor.redaction.builtin import BUILT_IN
from monitor.redaction.redactor import Redactor, mask

FOUND = [
    ("email", "write to jane.doe+bills@mail.example.co.uk today", "write to [EMAIL] today"),
    ("email", "<a@b.io>", "<[EMAIL]>"),
    ("email", "jürgen@müller.example", "[EMAIL]"),
    ("phone", "call +49 30 901820 now", "call [PHONE] now"),
    ("phone", "+1-202-555-0143", "[PHONE]"),
    ("phone", "(202) 555-0143 or 202.555.0143", "[PHONE] or [PHONE]"),
    ("phone", "0044 20 7946 0018", "[PHONE]"),
    ("card", "4111 1111 1111 1111", "[CARD]"),
    ("card", "card:5500-0055-5555-5559.", "card:[CARD]."),
    ("card", "378282246310005", "[CARD]"),
    ("iban", "DE89 3704 0044 0532 0130 00", "[IBAN]"),
    ("iban", "to GB82WEST12345698765432, please", "to [IBAN], please"),
    ("iban", "NO9386011117947", "[IBAN]"),
    ("secret", "key AKIAIOSFODNN7EXAMPLE.", "key [SECRET]."),
    ("secret", "ghp_" + "a1B2" * 9, "[SECRET]"),
    ("secret", "xoxb-123456789012-abcdefABCDEF", "[SECRET]"),
    ("secret", "sk-proj-abcdefghij0123456789", "[SECRET]"),
    ("secret", "AIza" + "b" * 35, "[SECRET]"),
    ("secret", "gw_" + "c" * 43, "[SECRET]"),
    ("secret", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "[SECRET]"),
    ("secret", "Authorization: Bearer abcdefgh.ijklmnop", "Authorization: Bearer [SECRET]"),
    ("secret", "postgresql://app:hunter2@db:5432/x", "postgresql://[SECRET]@db:5432/x"),
    ("secret", 'password = "correct-horse"', 'password = "[SECRET]"'),
    ("secret", '{"api_key":"0123456789"}', '{"api_key":"[SECRET]"}'),
    ("secret", "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----", "[SECRET]"),
    ("secret", "-----BEGIN PRIVATE KEY-----\nMIIBcut", "[SECRET]"),
]
LEFT = [
    ("email", "see @handle, a@b, user@localhost and 3 @ 4.50"),
    ("phone", "on 2026-05-01 at 12:00, order 12345678, 3.14159265, 10.0.0.1, EUR 1 200 300"),
    ("card", "4111 1111 1111 1112"),
    ("card", "0000000000000000 and 123456789012 and 3.4111111111111111"),
    ("card", "4111111111111111a"),
    ("iban", "DE89 3704 0044 0532 0130 01"),
    ("iban", "AB12 CDEF"),
    ("secret", "the secret of success: work; a password is wanted; sk-1 and ghp_short; https://example.com/a@b"),
]
HOSTILE = [
    "a" * 1_000_000,
    "a@" * 500_000,
    "a." * 500_000,
    "1 " * 500_000,
    "1" * 1_000_000,
    "AA11" * 250_000,
    "-----BEGIN PRIVATE KEY-----" * 40_000,
    "eyJ" * 333_000,
    "eyJaaaaaaaaa." * 80_000,
    "password=" * 110_000,
    "://a:" * 200_000,
    "+1" * 500_000,
    "bearer " * 140_000,
    "\\" * 1_000_000,
    '{"a":"' * 100_000,
]


def redacted(name: str, text: str) -> str:
    return Redactor(BUILT_IN[name], mask).text(text, Counter())


@pytest.mark.parametrize(("name", "text", "expected"), FOUND)
def test_finds(name: str, text: str, expected: str) -> None:
    assert redacted(name, text) == expected


@pytest.mark.parametrize(("name", "text"), LEFT)
def test_leaves(name: str, text: str) -> None:
    assert redacted(name, text) == text


@pytest.mark.parametrize(("name", "text", "expected"), FOUND)
def test_what_is_found_was_held_possible(name: str, text: str, expected: str) -> None:
    assert any(pattern.possible(b"\x07" + text.encode() + b"\x12") for pattern in BUILT_IN[name])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BUILT_IN)
def test_no_text_of_a_megabyte_keeps_a_pattern_busy(name: str) -> None:
    for text in HOSTILE:
        redacted(name, text)
