"""A NeMo Guardrails action: is the bot's answer supported by its documents? It asks the sidecar, `POST /v1/check`."""

import logging
import os
from typing import Any

import httpx
from nemoguardrails.actions import action

SIDECAR = os.environ.get("SIDECAR_URL", "http://127.0.0.1:8710")
TOKEN = os.environ.get("SIDECAR_TOKEN", "")
BUDGET_MS = 500

# Open: an answer on which there is no verdict is given. Closed, an outage of the check would be one of the bot, too;
# choose that (GUARDRAIL_FAILS=closed) where a wrong answer costs more than none.
FAILS_OPEN = os.environ.get("GUARDRAIL_FAILS", "open") != "closed"


@action(name="check_groundedness")
async def check_groundedness(context: dict[str, Any] | None = None) -> bool:
    """Whether the answer may be given."""
    known = context or {}
    check = {
        "question": known.get("last_user_message") or "",
        "documents": documents(known),
        "answer": known.get("bot_message") or "",
        "budget_ms": BUDGET_MS,
    }
    try:
        said = await ask(check)
    except (httpx.HTTPError, ValueError) as error:
        logging.getLogger(__name__).warning("no check: %r", error)
        return FAILS_OPEN
    if said["verdict"] is None:  # said["reason"] has it: no_verdict_in_time, or could_not_judge and why
        return FAILS_OPEN
    # A verdict with said["complete"] false is that of the cheap judges alone: the time was over before the GGUF judge
    # had spoken. It is taken as it is here; you may want to count it as none.
    return bool(said["verdict"]["label"] == "faithful")


async def ask(check: dict[str, Any]) -> dict[str, Any]:
    """The sidecar's answer; raises httpx.HTTPError."""
    headers = {"authorization": f"Bearer {TOKEN}"} if TOKEN else {}
    # The sidecar keeps to the budget; the client's own limit is for a sidecar that is not there.
    async with httpx.AsyncClient(timeout=BUDGET_MS / 1000 + 1, headers=headers) as client:
        response = await client.post(f"{SIDECAR}/v1/check", json=check)
    response.raise_for_status()
    said: dict[str, Any] = response.json()
    return said


def documents(context: dict[str, Any]) -> list[dict[str, str]]:
    """What the answer rests on: `documents` of the context message, else what NeMo's own knowledge base has found."""
    found = context.get("documents") or context.get("relevant_chunks_sep") or context.get("relevant_chunks") or []
    texts = [found] if isinstance(found, str) else found
    return [{"id": str(number), "text": text} for number, text in enumerate(texts)]
