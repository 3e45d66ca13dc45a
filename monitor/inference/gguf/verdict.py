"""Where a model's verdict is read: at the first token in which the two verdict words differ."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.domain.errors import JudgeUnavailable
from monitor.inference.gguf.model import Model
from monitor.judging.prompts import PromptFamily


@dataclass(frozen=True, slots=True)
class Reading:
    """What the logits at the verdict's place say.

    Attributes:
        log_odds: of the hallucinated verdict's word over the faithful one's.
        share: probability that the model gives to the two words together, of all that it could say next.
    """

    log_odds: float
    share: float


@dataclass(frozen=True, slots=True)
class VerdictPlace:
    """What is forced before the verdict, and the tokens with which the two go on.

    Attributes:
        forced: tokens of the reply's beginning, as far as the two verdicts share it.
    """

    forced: tuple[int, ...]
    faithful: int
    hallucinated: int

    def read(self, logits: NDArray[np.float32]) -> Reading:
        """Read a verdict off the logits that follow `forced`."""
        faithful, hallucinated = float(logits[self.faithful]), float(logits[self.hallucinated])
        highest = float(logits.max())
        total = float(np.exp(logits - highest).sum())
        both = np.exp(faithful - highest) + np.exp(hallucinated - highest)
        return Reading(log_odds=hallucinated - faithful, share=float(both) / total)


def verdict_place(model: Model, prompt: PromptFamily) -> VerdictPlace:
    """Find the place for one model's vocabulary.

    Raises:
        JudgeUnavailable: the vocabulary does not tell the two words apart.
    """
    faithful = model.tokens(prompt.forced_prefix + prompt.faithful)
    hallucinated = model.tokens(prompt.forced_prefix + prompt.hallucinated)
    for position, (one, other) in enumerate(zip(faithful, hallucinated, strict=False)):
        if one != other:
            return VerdictPlace(tuple(faithful[:position]), one, other)
    raise JudgeUnavailable(f"the model's tokens do not tell {prompt.faithful} from {prompt.hallucinated}")
