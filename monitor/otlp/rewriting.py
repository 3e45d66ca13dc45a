"""An export with other texts and numbers in it: what stands for a part, in either encoding."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewriting:
    """What becomes of a part.

    Attributes:
        text: what stands in the place of a text.
        number: the text that stands in the place of a number of an attribute; None where the number stays.
    """

    text: Callable[[str], str]
    number: Callable[[float], str | None]

    def binary(self, value: bytes) -> bytes:
        """Bytes are taken for text, in UTF-8 or else in Latin-1."""
        try:
            return self.text(value.decode()).encode(errors="surrogatepass")
        except UnicodeDecodeError:
            return self.text(value.decode("latin-1")).encode("latin-1", errors="replace")
