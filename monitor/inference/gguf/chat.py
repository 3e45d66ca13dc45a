"""A GGUF model's chat template, as tokens around a slot for hostile text.

The template's own text is tokenised with its control tokens; what goes into the slot is tokenised without, so
that `<|im_start|>` in a judged document is ten ordinary characters and never a turn of the conversation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from monitor.domain.errors import JudgeUnavailable
from monitor.inference.gguf.context import Tokens
from monitor.inference.gguf.model import Model

_SLOT = "GROUNDWATCH-USER-MESSAGE"


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """The tokens before and after one user message, system message and generation prompt included."""

    head: tuple[int, ...]
    tail: tuple[int, ...]

    def around(self, model: Model, message: str, reply: Sequence[int] = ()) -> Tokens:
        """The whole prompt for one user message, up to where the model's reply begins, or has begun."""
        return np.array([*self.head, *model.tokens(message), *self.tail, *reply], dtype=np.int32)

    def __len__(self) -> int:
        return len(self.head) + len(self.tail)


def chat_frame(model: Model, system: str | None = None) -> ChatFrame:
    """The frame of the model's own chat template; bare text for a model without one.

    Args:
        model: whose template.
        system: a system message, ours and never judged text; it goes before the user's where the template
            refuses the role.

    Raises:
        JudgeUnavailable: the template fails, or does not put the user's message in verbatim.
    """
    template = model.chat_template
    if template is None:
        opening = model.tokens(f"{system}\n\n" if system else "")
        return ChatFrame(head=_with_bos(model, opening), tail=tuple(model.tokens("\n")))
    rendered = _rendered(model, template, system)
    head, *tails = rendered.split(_SLOT)
    if len(tails) != 1:
        raise JudgeUnavailable("the model's chat template does not hold the user's message exactly once")
    return ChatFrame(
        head=_with_bos(model, model.tokens(head, control=True)), tail=tuple(model.tokens(tails[0], control=True))
    )


def _rendered(model: Model, template: str, system: str | None) -> str:
    formatter = Jinja2ChatFormatter(
        template=template,
        bos_token=_control_text(model, llama_cpp.llama_vocab_bos(model.vocabulary)),
        eos_token=_control_text(model, llama_cpp.llama_vocab_eos(model.vocabulary)),
    )
    user = {"role": "user", "content": _SLOT}
    turns: list[list[Any]] = (
        [[user]]
        if system is None
        else [
            [{"role": "system", "content": system}, user],
            [{"role": "user", "content": f"{system}\n\n{_SLOT}"}],
        ]
    )
    failure: Exception | None = None
    for messages in turns:
        try:
            return formatter(messages=messages).prompt
        except Exception as error:  # noqa: BLE001 - a template is a program from the model's file
            failure = error
    raise JudgeUnavailable(f"the model's chat template fails: {failure}") from failure


def _with_bos(model: Model, tokens: Sequence[int]) -> tuple[int, ...]:
    # Some templates write the beginning-of-text token themselves; two of them would be off the trained path.
    wanted = llama_cpp.llama_vocab_get_add_bos(model.vocabulary)
    bos = llama_cpp.llama_vocab_bos(model.vocabulary)
    return (bos, *tokens) if wanted and (not tokens or tokens[0] != bos) else tuple(tokens)


def _control_text(model: Model, token: int) -> str:
    return "" if token < 0 else model.piece(token, control=True).decode(errors="replace")
