"""Why a verdict: written after it, as a JSON list under a grammar, and read back as lines."""

import json

from monitor.inference.gguf.model import Model
from monitor.inference.gguf.writing import Grammar, GreedyWriter
from monitor.judging.prompts import PromptFamily

MOST_TOKENS = 200
"""Longest reasoning, with the words that open it."""

_POINTS = r"""root ::= point ("\", \"" point){0,3} "\"]}"
point ::= first char*
first ::= [^"\\ \x00-\x1F\x7F]
char ::= [^"\\\x00-\x1F\x7F] | "\\" ["\\/bfnrt]
"""


class Reasoning:
    """One reasoning being written.

    Args:
        model: who writes.
        prompt: names the key; a family of bare words gets one too, for the form's sake.
        word: the verdict to be explained: it is forced, for the score has been read already.
        most: tokens it may come to.
    """

    def __init__(self, model: Model, prompt: PromptFamily, word: str, *, most: int = MOST_TOKENS) -> None:
        opening = f'{word}", "{prompt.json_keys[0]}": ["' if prompt.json_keys else f'{word}\n{{"REASONING": ["'
        self.writer = GreedyWriter(model, model.tokens(opening), most=most, grammar=Grammar(model, _POINTS))

    def lines(self) -> str | None:
        """The points that were written, a line each; the last may be cut off. None where there are none."""
        written = self.writer.text()
        for end in ("", '"]', "]"):
            try:
                points = json.loads(f'["{written.removesuffix("}")}{end}')
            except ValueError:
                continue
            return "\n".join(point.strip() for point in points if point.strip()) or None
        return written.strip(' \n"') or None
