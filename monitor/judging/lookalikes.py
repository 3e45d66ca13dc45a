"""Characters that are drawn like an ASCII one: `str.translate(FOLD)` undoes such disguises, one for one."""

import unicodedata
from collections.abc import Iterator, Mapping
from types import MappingProxyType

# Where NFKC turns one character into one ASCII character: other spaces, super- and subscripts, letter-like, enclosed,
# small, full-width and mathematical forms.
_BLOCKS = (
    (0x00A0, 0x00A1),
    (0x2000, 0x209F),
    (0x2100, 0x214F),
    (0x2460, 0x24FF),
    (0x3000, 0x3001),
    (0xFE10, 0xFE6F),
    (0xFF00, 0xFFEF),
    (0x1D400, 0x1D7FF),
    (0x1F130, 0x1F18F),
)

# What NFKC leaves alone. After Unicode TR 39's confusables, as far as the words need it that are looked for.
_DRAWN_ALIKE = {
    # Cyrillic capitals
    "\u0410\u0412\u0421\u0415\u0406\u0408\u041a\u041c": "ABCEIJKM",
    "\u041d\u041e\u0420\u0405\u0422\u0425\u051c\u050c": "HOPSTXWG",
    # Cyrillic small letters
    "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u051d\u04cf\u0443\u0501": "aceijopsxwlyd",
    # Greek capitals
    "\u0391\u0392\u0395\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u03a5\u0396": "ABEIKMNOPTXYZ",
    # Greek small letters
    "\u03b1\u03bf\u03bd\u03b9\u03c1\u03c5": "aovipu",
    # angles
    "\u2039\u27e8\u02c2\u276e\u3008": "<<<<<",
    # angles
    "\u203a\u27e9\u02c3\u276f\u3009": ">>>>>",
    # bars
    "\u2223\u01c0\u2502\u2758": "||||",
    # colons
    "\u2236\ua789\u02d0\u0589\u05c3": ":::::",
    # hyphens, the en dash, the minus sign
    "\u2010\u2011\u2012\u2013\u2212": "-----",
    # brackets and blanks
    "\u3010\u3011\u3164\u2800\uffa0": "[]   ",
}


def _folds() -> Iterator[tuple[int, str]]:
    for first, end in _BLOCKS:
        for code in range(first, end):
            plain = unicodedata.normalize("NFKC", chr(code))
            if len(plain) == 1 and plain.isascii() and plain.isprintable():
                yield code, plain
    for drawn, meant in _DRAWN_ALIKE.items():
        yield from ((ord(letter), plain) for letter, plain in zip(drawn, meant, strict=True))


FOLD: Mapping[int, str] = MappingProxyType(dict(_folds()))
"""ASCII character by code point."""
