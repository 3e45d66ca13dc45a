"""Text from a language model: what is asked, what comes back, and the port of whatever writes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from monitor.domain.judgement import CouldNotJudge


class Role(StrEnum):
    """Who speaks, in the words of chat APIs and of chat templates."""

    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message of a prompt."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """What a model wrote.

    Attributes:
        text: the reply.
        prompt_tokens, completion_tokens: what it took, as the engine counts; 0 where it does not tell.
        cost_usd: what it cost; 0 for engines that nobody is paid for.
        cut_off: whether `max_tokens` ended it before the model did.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    cut_off: bool = False


class Generator(Protocol):
    """The port of engines that write text, greedily: the same prompt gives the same text."""

    @property
    def model(self) -> str:
        """The model's name and revision, for the record."""

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None,
        deadline_seconds: float,
    ) -> Generated | CouldNotJudge:
        """Answer one prompt within the deadline; raises nothing for the prompt's sake.

        Args:
            messages: a system message or none, then one user message.
            max_tokens: longest reply.
            json_schema: the reply's form, enforced where the engine can; else only the prompt asks for it, so
                that a reply is to be parsed with care in any case.
            deadline_seconds: for everything, attempts and pauses included.
        """
