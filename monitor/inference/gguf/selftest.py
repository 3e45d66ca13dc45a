"""What a model is asked before it may judge: questions that leave no doubt."""

from dataclasses import dataclass
from datetime import UTC, datetime

from monitor.domain.trace import Document, Trace

LEAST_SHARE = 0.01
"""Probability that the two verdicts must get together, on average over the examples. A model that was tuned to judge
gives them nearly all; one that continues with anything else than a verdict gives them next to nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One question, and whether its answer is made up."""

    trace: Trace
    hallucinated: bool


def _example(question: str, document: str, answer: str, *, hallucinated: bool) -> Example:
    trace = Trace(
        trace_id="self-test",
        event_time=datetime(2000, 1, 1, tzinfo=UTC),
        tenant="self-test",
        service="self-test",
        environment="self-test",
        question=question,
        documents=(Document(id="1", text=document),),
        answer=answer,
    )
    return Example(trace=trace, hallucinated=hallucinated)


_BRIDGE = "The bridge over the Aln was opened in 1932. It is 210 metres long and carries two lanes of road traffic."
_TEA = "Zanvoort Tea closed its shop in Leiden on 4 May. The shops in Delft and Gouda stay open until nine."

EXAMPLES = (
    _example("When was the bridge opened?", _BRIDGE, "It was opened in 1932.", hallucinated=False),
    _example("Which shops of Zanvoort are open?", _TEA, "Zanvoort has a shop in Utrecht.", hallucinated=True),
    _example("How long is the bridge?", _BRIDGE, "The bridge is 480 metres long.", hallucinated=True),
    _example("Did the shop in Leiden close?", _TEA, "Yes, it closed on 4 May.", hallucinated=False),
)
