"""Breaking what a judge could take for structure: judged text is hostile.

It may hold a prompt's own section marks, a chat template's control tokens or a forged verdict. Those sequences are
broken; the words stay, for they are what is judged.
"""

import re

# Invisible or line-breaking code points with which a text can look different to a model than to a reader.
_NEWLINES = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_TAG_CHARACTERS = re.compile(r"[\U000e0000-\U000e007f]")

# Control tokens of the known chat templates: ChatML, Llama 2 and 3, Mistral, Gemma, DeepSeek, Phi, T5 and BERT.
_ANGLE_BAR = re.compile(r"<(?=[|\uff5c])|(?<=[|\uff5c])>")
_BRACKET_TOKEN = re.compile(r"\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])", re.IGNORECASE)
_ANGLE_TOKEN = re.compile(
    r"<(?=/?(?:s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|think|tool_call|tool_response|</?SYS>|extra_id_\d+)>)",
    re.IGNORECASE,
)

# The families' own section marks and reply keys.
_RULE = re.compile(r"^([ \t]*-)(-[ \t]*)$", re.MULTILINE)
_HEADING = re.compile(r"^([ \t]*(?:QUESTION\b[^:\n]*|DOCUMENT|CONTEXT|ANSWER))(?<! )(:[ \t]*)$", re.MULTILINE)
_REPLY_KEY = re.compile(r"""(["'])(SCORE|REASONING|VERDICT)\1(?=\s*:)""", re.IGNORECASE)


def neutralise(text: str) -> str:
    """Break what a judge could take for its prompt's structure or for a verdict; keep every word.

    Chat control tokens, section marks standing on a line of their own and quoted reply keys get a space or
    typographic quotes inside them; control characters become spaces, line separators newlines; Unicode tag
    characters, which no reader can see, go. Ordinary prose comes back unchanged, and doing it twice changes
    nothing more.
    """
    text = _NEWLINES.sub("\n", text)
    text = _CONTROLS.sub(" ", text)
    text = _TAG_CHARACTERS.sub("", text)
    text = _ANGLE_BAR.sub(lambda match: "< " if match[0] == "<" else " >", text)
    text = _BRACKET_TOKEN.sub("[ ", text)
    text = _ANGLE_TOKEN.sub("< ", text)
    text = _RULE.sub(r"\1 \2", text)
    text = _HEADING.sub(r"\1 \2", text)
    return _REPLY_KEY.sub("\N{LEFT DOUBLE QUOTATION MARK}\\2\N{RIGHT DOUBLE QUOTATION MARK}", text)
