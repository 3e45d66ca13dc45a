"""Reading a language model's reply: tolerant of form, strict about the verdict.

Small and quantised models wrap JSON in prose or fences, drop quotes, write a list where a string was asked for
and run out of tokens. A reply without one of the offered verdicts, at its proper key, is no verdict at all; a number
outside of its scale is none either, and is never clamped into it.
"""

from monitor.judging.parsing.claims import ClaimVerdict, unsupported_claims
from monitor.judging.parsing.scores import ParsedScore, Preference, parse_level, parse_preference, parse_share
from monitor.judging.parsing.verdicts import MAX_REPLY_CHARACTERS, ParsedReply, parse_reply

__all__ = [
    "MAX_REPLY_CHARACTERS",
    "ClaimVerdict",
    "ParsedReply",
    "ParsedScore",
    "Preference",
    "parse_level",
    "parse_preference",
    "parse_reply",
    "parse_share",
    "unsupported_claims",
]
