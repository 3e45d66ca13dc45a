"""A LangChain runnable that has answers checked by the sidecar, `POST /v1/check`: it annotates them, or refuses them.

SIDECAR_URL=http://127.0.0.1:8710 python langchain_runnable.py
"""

import json
import logging
import os
import sys
from typing import Any

import httpx
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda

SIDECAR = os.environ.get("SIDECAR_URL", "http://127.0.0.1:8710")
TOKEN = os.environ.get("SIDECAR_TOKEN", "")
BUDGET_MS = 500

# Open: an answer on which there is no verdict is given. Closed, an outage of the check would be one of the chain, too;
# choose that (GUARDRAIL_FAILS=closed) where a wrong answer costs more than none.
FAILS_OPEN = os.environ.get("GUARDRAIL_FAILS", "open") != "closed"

Answered = dict[str, Any]
"""What goes through the chain: `question`, `documents`, `answer`; behind `annotated` also `check`."""


class UnsupportedAnswer(Exception):
    """The documents do not support the answer, or nobody could say and the guardrail fails closed."""


def annotate(answered: Answered) -> Answered:
    """The same with what the sidecar says in `check`: see docs/check.md. Never raises for the check's sake."""
    check = {
        "question": answered["question"],
        "documents": [
            {"id": document.id or str(number), "text": document.page_content}
            for number, document in enumerate(answered["documents"])
        ],
        "answer": answered["answer"],
        "budget_ms": BUDGET_MS,
    }
    headers = {"authorization": f"Bearer {TOKEN}"} if TOKEN else {}
    try:
        # The sidecar keeps to the budget; the client's own limit is for a sidecar that is not there.
        response = httpx.post(f"{SIDECAR}/v1/check", json=check, headers=headers, timeout=BUDGET_MS / 1000 + 1)
        said = response.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        logging.getLogger(__name__).warning("no check: %r", error)
        said = {"verdict": None, "complete": False, "reason": "not_checked"}
    return {**answered, "check": said}


def refuse(answered: Answered) -> Answered:
    """The same, where it may be given; raises UnsupportedAnswer."""
    verdict = answered["check"]["verdict"]
    if verdict is None and not FAILS_OPEN:
        raise UnsupportedAnswer(answered["check"]["reason"])
    # A verdict whose `complete` is false is that of the cheap judges alone: taken as it is here.
    if verdict is not None and verdict["label"] == "hallucinated":
        raise UnsupportedAnswer(f"hallucinated with probability {verdict['hallucination_probability']:.2f}")
    return answered


annotated = RunnableLambda(annotate)
guarded = annotated | RunnableLambda(refuse)

# Behind a chain of your own: `chain | guarded`. What a user gets in place of a refused answer is a fallback.
polite = guarded.with_fallbacks(
    [RunnableLambda(lambda answered: {**answered, "answer": "I cannot tell that from what I have read."})],
    exceptions_to_handle=(UnsupportedAnswer,),
)

if __name__ == "__main__":
    pages = [Document(id="handbook-12", page_content="The office opens at nine in the morning, and closes at five.")]
    for answer in ("The office opens at nine in the morning.", "The office opens at noon on Sundays."):
        given = polite.invoke({"question": "When does the office open?", "documents": pages, "answer": answer})
        sys.stdout.write(json.dumps({"answer": given["answer"], "check": given.get("check")}) + "\n")
