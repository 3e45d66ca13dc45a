"""What calls to a priced model come to, and what a tenant may spend in a day: exact sums, in whole numbers.

Money is counted in millionths of a US dollar, which is what one token costs at one dollar per million tokens. A
cost is rounded up, so that no sum of costs is less than what was paid.
"""

import math
from dataclasses import dataclass

FRAME_TOKENS = 256
"""Room for what a server's chat template puts around the messages: turns, and some models' own system message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Tokens of one or more calls.

    Attributes:
        prompt: read, from a prefix cache or not.
        cached: those of `prompt` that a prefix cache held.
        completion: written.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """Read and written."""
        return self.prompt + self.completion

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            prompt=self.prompt + other.prompt,
            cached=self.cached + other.cached,
            completion=self.completion + other.completion,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What a model costs, in USD per million tokens."""

    prompt: float = 0.0
    cached_prompt: float = 0.0
    completion: float = 0.0

    def micro_usd(self, tokens: Tokens) -> float:
        """The exact cost, in millionths of a dollar."""
        cached = min(tokens.cached, tokens.prompt)
        read = (tokens.prompt - cached) * self.prompt + cached * self.cached_prompt
        return read + tokens.completion * self.completion

    def spend(self, tokens: Tokens) -> "Spend":
        """What these tokens come to."""
        # Thousandths of what is counted are noise of the multiplication, not a price.
        return Spend(tokens=tokens.total, micro_usd=math.ceil(round(self.micro_usd(tokens), 3)))

    def most(self, tokens: Tokens) -> "Spend":
        """What these tokens come to at most, whatever of them a cache holds."""
        dear = max(self.prompt, self.cached_prompt)
        return Price(prompt=dear, cached_prompt=dear, completion=self.completion).spend(tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spend:
    """An amount of tokens, and of money in millionths of a US dollar."""

    tokens: int = 0
    micro_usd: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What may be spent in a day; None is no limit."""

    tokens: int | None = None
    micro_usd: int | None = None

    def exceeded_by(self, spend: Spend) -> str | None:
        """Which limit that much would exceed, in words; None when it fits."""
        if self.tokens is not None and spend.tokens > self.tokens:
            return f"{self.tokens:,} tokens"
        if self.micro_usd is not None and spend.micro_usd > self.micro_usd:
            return f"{self.micro_usd / 1e6:,.2f} USD"
        return None

    def __str__(self) -> str:
        limits = [f"{self.tokens:,} tokens"] if self.tokens is not None else []
        limits += [f"{self.micro_usd / 1e6:,.2f} USD"] if self.micro_usd is not None else []
        return " and ".join(limits) or "no limit"


def most_tokens(*, prompt_bytes: int, completion: int) -> Tokens:
    """The most tokens that one call can take.

    Args:
        prompt_bytes: of the messages in UTF-8. In a byte-level vocabulary (BPE, or SentencePiece with byte fallback)
            every token stands for at least one byte, so that there are never more tokens than bytes.
        completion: the most that the server may write.
    """
    return Tokens(prompt=prompt_bytes + FRAME_TOKENS, completion=completion)


def likely_tokens(*, prompt_bytes: int, completion_bytes: int) -> Tokens:
    """About as many tokens as a call took, where the server does not say: four bytes a token, as in English."""
    return Tokens(prompt=math.ceil(prompt_bytes / 4), completion=math.ceil(completion_bytes / 4))
