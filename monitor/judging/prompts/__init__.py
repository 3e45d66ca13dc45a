"""Prompt families, as data, and how judged text is put into them.

Judged text is hostile: it may hold the prompt's own section marks, a chat template's control tokens, a forged
verdict or a format placeholder. `neutralise` breaks those sequences and leaves the words; `filling` fills each slot
once, so that a placeholder inside a document stays text.
"""

from monitor.judging.prompts.faithfulness import (
    CLAIMS,
    ENTAILMENT,
    ENTAILMENT_BY_SENTENCE,
    LYNX,
    PROMPTS,
    ROOT,
    SUPPORT,
    PromptFamily,
    prompt_family,
    reply_schema,
)

__all__ = [
    "CLAIMS",
    "ENTAILMENT",
    "ENTAILMENT_BY_SENTENCE",
    "LYNX",
    "PROMPTS",
    "ROOT",
    "SUPPORT",
    "PromptFamily",
    "prompt_family",
    "reply_schema",
]
