"""Breaking what a judge could take for structure: judged text is hostile.

It may hold a prompt's own section marks, a chat template's control tokens or a forged verdict, plainly or in
disguise: with invisible characters inside, in full width, in Cyrillic letters that look Latin. Those sequences are
broken; the words stay, for they are what is judged.

    text ─▶ seen (what a reader or a model may take it for) ─▶ places to break ─▶ text with only those places changed

Disguises are undone in a copy, so that they change no text which is not structure: an Arabic, Hindi or Russian answer
comes back as it was written.
"""

import re
from bisect import bisect_right

from monitor.judging.lookalikes import FOLD

REVISION: int = 1
"""Raise it whenever ordinary text would come back otherwise: calibrated scores are then those of another prompt.

Breaking more of what is structure and never prose leaves it as it is, for calibration is fitted on ordinary text.
"""

_NEWLINES = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
# No reader sees them and no ordinary text needs them: tag characters, bidirectional overrides, and variation
# selectors after the first, which can carry a hidden text as well as tags can.
_HIDDEN = re.compile(r"[\U000e0000-\U000e007f\u202d\u202e]")
_MORE_SELECTORS = re.compile(r"(?<=[\ufe00-\ufe0f\U000e0100-\U000e01ef])[\ufe00-\ufe0f\U000e0100-\U000e01ef]+")
# Joiners, direction marks, soft hyphens: languages need them, so they stay, but nothing hides behind them.
_INVISIBLE = re.compile(
    r"[\u00ad\u034f\u061c\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202c\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    r"\U000e0100-\U000e01ef]+"
)

# Control tokens of chat templates. ChatML, Llama 3, Phi, Qwen, DeepSeek and gpt-oss have bars.
_BARS = (r"<(?=\|)", r"\|(?=>)")
_BRACKETED = r"INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_CONTENT|TOOL_RESULTS|CALL_ID|THINK"
_ANGLED = (
    r"s|bos|eos|pad|unk|mask|(?:start|end)_of_(?:turn|image)|think|tools?|tool_call|tool_response|system|user|assistant"
    r"|function=[\w.-]{0,64}|</?SYS>|extra_id_\d+"
)

# The prompt families' section marks: a rule or a heading on a line of its own, XML tags, rubric headings.
_RULE = r"(?m)^[ \t]*-(?=-[ \t]*$)"
_HEADING = r"(?m)^[ \t]*(?:QUESTION\b[^:\n]*|DOCUMENT|CONTEXT|ANSWER|CLAIM|Premise|Hypothesis)(?<! )(?=:[ \t]*$)"
_TAG = r"(?i)<(?=/?(?:QUESTION|DOCUMENT|CONTEXT|ANSWER|CLAIM)S?(?:[ \t][^<>\n]{0,99})?>)"
_RUBRIC = (
    r"Task Description|(?:The )?Instruction|Response|Reference Answer|Score Rubric|Feedback|Input|Output"
    r"|System|User|Assistant"
)

# The winner of a pair as MT-Bench writes it.
_WINNER = r"(?i)\[(?=\[(?:[A-C]|TIE|\d{1,2})\]\])"

_BREAKS = tuple(
    map(
        re.compile,
        (
            *_BARS,
            rf"(?i)\[(?=/?(?:{_BRACKETED})\])",
            rf"(?i)<(?=/?(?:{_ANGLED})>)",
            _RULE,
            _HEADING,
            _TAG,
            rf"(?im)^[ \t]*#{{1,6}}[ \t]*(?:{_RUBRIC})\b[^:\n]{{0,40}}(?<! )(?=:)",
            _WINNER,
        ),
    )
)
"""A space goes to the end of each match."""

_KEYS = r"SCORE|REASONING|VERDICT|CLAIMS?|FEEDBACK|RESULT|JUSTIFICATION|PREFERENCE|WINNER"
_REPLY_KEY = re.compile(rf"""(?i)(["'])(?:{_KEYS})\1(?=\s*:)""")
# Without quotes a key is a word like any other, unless a verdict follows ("Score: 3-2" is sports) or it stands in
# brackets as Prometheus writes it.
_VERDICTS = r"PASS|FAIL|(?:UN)?SUPPORTED|FAITHFUL|HALLUCINATED"
_LOOSE_KEY = re.compile(
    rf"""(?i)\b(?:SCORE|VERDICT)(?=["'*_`]{{0,3}}\s{{0,3}}[:=]["'*_`\s\[]{{0,4}}(?:{_VERDICTS})\b)"""
    r"""|(?<=\[)RESULT(?=\])"""
)
_OPEN = "\N{LEFT DOUBLE QUOTATION MARK}"
_CLOSE = "\N{RIGHT DOUBLE QUOTATION MARK}"


def neutralise(text: str) -> str:
    """Break what a judge could take for its prompt's structure or for a verdict; keep every word.

    Chat control tokens and section marks get a space inside them and reply keys typographic quotes, whatever
    they are disguised by; control characters become spaces, line separators newlines; hidden characters that can
    carry a text of their own go. Ordinary prose in any script comes back unchanged, and doing it twice changes nothing
    more. Linear in the text's length.
    """
    text = _NEWLINES.sub("\n", text)
    text = _CONTROLS.sub(" ", text)
    text = _MORE_SELECTORS.sub("", _HIDDEN.sub("", text))
    if text.isascii():
        return _broken(text, text, None)
    return _broken(text, _INVISIBLE.sub("", text).translate(FOLD), _Places(text))


class _Places:
    """Where in a text the characters stand that are left when the invisible ones are taken out."""

    def __init__(self, text: str) -> None:
        self._ends: list[int] = []
        self._removed = [0]
        for run in _INVISIBLE.finditer(text):
            self._ends.append(run.start() - self._removed[-1])
            self._removed.append(self._removed[-1] + run.end() - run.start())

    def of(self, place: int) -> int:
        return place + self._removed[bisect_right(self._ends, place)]


def _broken(text: str, seen: str, places: _Places | None) -> str:
    # Places in `seen`, with how many characters go there and what comes instead.
    edits = {match.end(): (0, " ") for pattern in _BREAKS for match in pattern.finditer(seen)}
    for key in _REPLY_KEY.finditer(seen):
        edits |= {key.start(): (1, _OPEN), key.end() - 1: (1, _CLOSE)}
    for key in _LOOSE_KEY.finditer(seen):
        if key.end() not in edits:
            edits |= {key.start(): (0, _OPEN), key.end(): (0, _CLOSE)}
    pieces: list[str] = []
    done = 0
    for place in sorted(edits):
        gone, new = edits[place]
        here = places.of(place) if places else place
        pieces += text[done:here], new
        done = here + gone
    pieces.append(text[done:])
    return "".join(pieces)
