"""Each pattern, one by one: what it finds, what it leaves, and that no text makes it slow."""

from collections import Counter

import pytest

from monitor.redaction.builtin import BUILT_IN
from monitor.redaction.redactor import Redactor, mask

ENCRYPTED = (
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,3F17-F531\n\nMIIB+/=\n"
    "-----END RSA PRIVATE KEY-----"
)
PGP = '-----BEGIN PGP PRIVATE KEY BLOCK-----\nComment: "J" (j@x)\n\nlQdG\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----'
FOUND = [
    ("email", "write to jane.doe+bills@mail.example.co.uk today", "write to [EMAIL] today"),
    ("email", "<a@b.io>", "<[EMAIL]>"),
    ("email", "jürgen@müller.example", "[EMAIL]"),
    ("email", "/user?mail=jane%40example.org&x", "/user?mail=[EMAIL]&x"),
    ("phone", "call +49 30 901820 now", "call [PHONE] now"),
    ("phone", "+1-202-555-0143", "[PHONE]"),
    ("phone", "(202) 555-0143 or 202.555.0143", "[PHONE] or [PHONE]"),
    ("phone", "0044 20 7946 0018", "[PHONE]"),
    ("card", "4111 1111 1111 1111", "[CARD]"),
    ("card", "card:5500-0055-5555-5559.", "card:[CARD]."),
    ("card", "378282246310005", "[CARD]"),
    ("card", "4111 1111 1111 1111 12/29", "[CARD] 12/29"),
    ("card", "4111-1111-1111-1111 123", "[CARD] 123"),
    ("card", "4111111111111111 12/29 123", "[CARD] 12/29 123"),
    ("card", "12 4111 1111 1111 1111", "12 [CARD]"),
    ("card", "5500 0055 5555 5559 4111 1111 1111 1111", "[CARD] [CARD]"),
    ("card", "3782 822463 10005 and 3056 930902 5904", "[CARD] and [CARD]"),
    ("card", "4111.1111.1111.1111", "[CARD]"),
    ("card", "4111\u00a01111\u00a01111\u00a01111", "[CARD]"),
    ("card", "4111 \u2013 1111 \u2013 1111 \u2013 1111", "[CARD]"),
    ("card", "41 11 11 11 11 11 11 11", "[CARD]"),
    ("card", r"paid\n4111111111111111\nby", r"paid\n[CARD]\nby"),
    ("card", "%B4111111111111111^ROE/JANE^2912", "%B[CARD]^ROE/JANE^2912"),
    ("card", "4111111111111111.0", "[CARD].0"),
    ("iban", "DE89 3704 0044 0532 0130 00", "[IBAN]"),
    ("iban", "BE68 5390 0754 7034 KRED", "[IBAN] KRED"),
    ("iban", "DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000 12", "[IBAN] 12"),
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
    ("secret", f"before {ENCRYPTED} behind", "before [SECRET] behind"),
    ("secret", ENCRYPTED[:-20], "[SECRET]"),
    ("secret", f'{{"key": "{ENCRYPTED[:-40]}", "by": 1}}', '{"key": "[SECRET]", "by": 1}'),
    ("secret", f"{PGP} behind", "[SECRET] behind"),
    ("secret", "ghp_" + "a1B2" * 100, "[SECRET]"),
    ("secret", "glpat-abcdefghij0123456789", "[SECRET]"),
    ("secret", "eyJhbGciOiJkaXIifQ..aXZpdml2aXY.Y2lwaGVydGV4dA.dGFn", "[SECRET]"),
    (
        "secret",
        "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX.",
        "https://hooks.slack.com/[SECRET].",
    ),
    ("secret", "Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [SECRET]"),
    ("secret", 'headers: ["authorization", "Basic dXNlcjpwYXNz"]', 'headers: ["authorization", "Basic [SECRET]"]'),
    ("secret", '{"Authorization":"Bearer short"}', '{"Authorization":"Bearer [SECRET]"}'),
    ("secret", "Authorization: 0123abcd", "Authorization: [SECRET]"),
    ("secret", "Bearer s3cr3t", "Bearer [SECRET]"),
    ("secret", "Bearer " + "a" * 5000 + ".", "Bearer [SECRET]"),
    ("secret", "redis://:hunter2@cache:6379", "redis://[SECRET]@cache:6379"),
    ("secret", "https://app:p@ss@host/x", "https://[SECRET]@host/x"),
    ("secret", "password=" + "x" * 1000, "password=[SECRET]"),
    ("secret", 'password="correct horse battery"', 'password="[SECRET]"'),
    ("secret", r"{\"password\": \"correct \\\"horse\", \"x\": 1}", r"{\"password\": \"[SECRET]\", \"x\": 1}"),
    ("secret", r'"password":"ab\"cd","x":1', '"password":"[SECRET]","x":1'),
    ("secret", "password='cut sho", "password='[SECRET]"),
    ("secret", "Password=ab;cd,ef;Database=x", "Password=[SECRET];Database=x"),
    ("secret", "/login?password=ab&user=y", "/login?password=[SECRET]&user=y"),
    ("secret", "pwd=a", "pwd=[SECRET]"),
    ("secret", "password: abcd", "password: [SECRET]"),
    ("secret", "'password' => 'a b'", "'password' => '[SECRET]'"),
    ("secret", "PGPASSWORD=hunter2 clientSecret:'x'", "PGPASSWORD=[SECRET] clientSecret:'[SECRET]'"),
]
LEFT = [
    ("email", "see @handle, a@b, user@localhost and 3 @ 4.50"),
    ("phone", "on 2026-05-01 at 12:00, order 12345678, 3.14159265, 10.0.0.1, EUR 1 200 300"),
    ("card", "4111 1111 1111 1112"),
    ("card", "0000000000000000 and 123456789012 and 3.4111111111111111"),
    ("card", "4111111111111111a"),
    ("card", "1714521600000000014 and 1714521600007"),  # times, whose check digit holds
    ("card", "9111 1111 1111 1110 and 411111111111116"),  # of no issuer, or not of the issuer's length
    ("card", "4111111111111111.53"),
    ("iban", "DE89 3704 0044 0532 0130 01"),
    ("iban", "AB12 CDEF"),
    ("iban", "ZZ89 3704 0044 0532 0130 00"),
    ("secret", "Basic research, basic responsibilities, the bearer of it, bearer token, authorization: required"),
    ("secret", 'if password == x, password: yes, \'password=\' is what it says, "password": "",'),
    ("secret", '{"url":"http://host:80","mail":"a@b.c"}'),
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
    "4111 " * 200_000,
    "4-" * 500_000,
    "4   " * 250_000,
    "DE89 3704 " * 100_000,
    "password=a;" * 90_000,
    'password="' * 100_000,
    "password='" + "\\" * 1_000_000,
    "password=" + ";a" * 500_000,
    "authorization: basic " * 50_000,
    "basic " * 160_000,
    '-----BEGIN PRIVATE KEY-----"' * 36_000,
    "-----BEGIN PGP PRIVATE KEY BLOCK-----" + "-" * 1_000_000,
    "hooks.slack.com/services/" * 40_000,
    "ghp_" * 250_000,
    "://:" + "@" * 1_000_000,
    "a%40b." * 160_000,
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


@pytest.mark.parametrize(("name", "text", "expected"), FOUND)
def test_what_was_redacted_is_left_alone(name: str, text: str, expected: str) -> None:
    counts: Counter[str] = Counter()
    assert Redactor(BUILT_IN[name], mask).text(expected, counts) == expected
    assert counts == {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", BUILT_IN)
def test_no_text_of_a_megabyte_keeps_a_pattern_busy(name: str) -> None:
    for text in HOSTILE:
        redacted(name, text)
