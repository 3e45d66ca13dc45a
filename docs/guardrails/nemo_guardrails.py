"""NeMo Guardrails with an output rail that lets supported answers pass: the rail and its action are in `nemo/`.

SIDECAR_URL=http://127.0.0.1:8710 python nemo_guardrails.py
"""

import os
import sys
from pathlib import Path

from nemoguardrails import LLMRails, RailsConfig

# NeMo Guardrails reports its use to NVIDIA unless it is told not to.
os.environ.setdefault("DO_NOT_TRACK", "1")

QUESTION = "When does the office open?"
DOCUMENTS = ["The office opens at nine in the morning, and closes at five."]
ANSWERS = ("The office opens at nine in the morning.", "The office opens at noon on Sundays.")

rails = LLMRails(RailsConfig.from_path(str(Path(__file__).with_name("nemo"))))


def guarded(question: str, documents: list[str], answer: str) -> str:
    """The answer, or what the rail says in its place. With `models` in the config, NeMo would write the answer, too."""
    messages = [
        {"role": "context", "content": {"documents": documents}},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    said = rails.generate(messages=messages, options={"rails": ["output"]})
    return str(said.response[0]["content"])


if __name__ == "__main__":
    for answer in ANSWERS:
        sys.stdout.write(guarded(QUESTION, DOCUMENTS, answer) + "\n")
