"""Tokens of an encoder: templates filled with judged text, none of which can become a special token."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Encoding, Tokenizer

from monitor.domain.errors import JudgeUnavailable
from monitor.inference.encoder_manifest import Input, Manifest, fill

Ints = NDArray[np.int64]

_SURROGATE = re.compile("[\ud800-\udfff]")
_RUN_OF_SPACE = re.compile(r"[^\S\n]{2,}")
_RUN_OF_LINES = re.compile(r"\s*\n\s*\n\s*")
_PADDING_NAMES = ("[PAD]", "<pad>")
_UNKNOWN_NAMES = ("[UNK]", "<unk>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """One input of the model.

    Attributes:
        ids, types: int64 `[length]`.
        answer: places in `ids` of the tokens that stand for answer text, in order.
        starts, ends: the characters of the answer piece that each of those tokens stands for.
    """

    ids: Ints
    types: Ints
    answer: Ints
    starts: Ints
    ends: Ints


class Tokens:
    """The manifest's tokenizer under the manifest's templates. Safe to use from several threads.

    Judged text may contain `[SEP]` or `</s>`. Told to read special tokens as text, a WordPiece or BPE tokenizer
    splits them up; a Unigram one (T5, DeBERTa-v3) still finds them among its ordinary pieces. So every special id
    that the text itself gave rise to is replaced by the unknown token's.

    Raises:
        JudgeUnavailable: no tokenizer; a leading token that it lacks; special tokens in text that cannot be replaced.
    """

    def __init__(self, content: bytes, manifest: Manifest) -> None:
        try:
            self._tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:
            # `tokenizers` raises bare Exception.
            raise JudgeUnavailable(f"{manifest.tokenizer.file}: not a tokenizer.json: {error}") from error
        self.pad_id = self._padding()
        # Stored padding and truncation would cut texts silently; lengths are the reading plan's business.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        self._input: Input = manifest.input
        added: dict[int, AddedToken] = self._tokenizer.get_added_tokens_decoder()
        self._unknown = _first_known(self._tokenizer, _UNKNOWN_NAMES)
        special = {number for number, token in added.items() if token.special} - {self._unknown}
        self._special = np.array(sorted(special), dtype=np.int64)
        self._leading = np.array([self._leading_id(name) for name in self._input.leading_tokens], dtype=np.int64)
        self._refuse_forgeable({number: token.content for number, token in added.items() if number in special})

    def count(self, text: str) -> int:
        """Tokens of a text by itself, special tokens not included."""
        return len(self._encode(cleaned(text), None, special=False).ids)

    def encode(self, *, question: str, context: str, answer: str) -> Encoded:
        """Fill the templates and encode them. `answer` is taken as it stands, for offsets refer to it.

        Nothing is cut off: the caller sees to the length.
        """
        values = {"question": cleaned(question), "context": cleaned(context), "answer": _without_surrogates(answer)}
        first, start = fill(self._input.first, values)
        second, start_in_second = (None, None) if self._input.second is None else fill(self._input.second, values)
        segment, begin = (0, start) if start is not None else (1, start_in_second)
        assert begin is not None  # the manifest names the answer exactly once
        encoding = self._encode(first, second, special=True)
        places, starts, ends = _answer_places(encoding, segment, begin, len(answer))
        shift = len(self._leading)
        return Encoded(
            ids=np.concatenate([self._leading, self._harmless(encoding)]),
            types=np.concatenate([np.zeros(shift, np.int64), np.array(encoding.type_ids, dtype=np.int64)]),
            answer=places + shift,
            starts=starts,
            ends=ends,
        )

    @cached_property
    def overhead(self) -> int:
        """Tokens that every input has, whatever is judged."""
        return len(self.encode(question="", context="", answer="").ids)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the special tokens, the unknown token excepted."""
        return tuple(map(int, self._special))

    def _encode(self, first: str, second: str | None, *, special: bool) -> Encoding:
        return self._tokenizer.encode(first, second, add_special_tokens=special)

    def _harmless(self, encoding: Encoding) -> Ints:
        ids = np.array(encoding.ids, dtype=np.int64)
        forged = np.isin(ids, self._special) & (np.array(encoding.special_tokens_mask, dtype=np.int64) == 0)
        # Without an unknown token nothing can be forged: that was made sure of at the start.
        return np.where(forged, self._unknown, ids) if self._unknown is not None else ids

    def _padding(self) -> int:
        padding = self._tokenizer.padding
        if padding is not None:
            return int(padding["pad_id"])
        return _first_known(self._tokenizer, _PADDING_NAMES) or 0

    def _leading_id(self, name: str) -> int:
        number = self._tokenizer.token_to_id(name)
        if number is None:
            raise JudgeUnavailable(f"input.leading_tokens: the tokenizer has no token {name!r}")
        return int(number)

    def _refuse_forgeable(self, special: dict[int, str]) -> None:
        if self._unknown is not None:
            return
        for content in special.values():
            if np.isin(self._encode(content, None, special=False).ids, self._special).any():
                raise JudgeUnavailable(
                    f"tokenizer: judged text could forge the special token {content!r}, and there is no unknown "
                    "token to put in its place; add one to tokenizer.json"
                )


def cleaned(text: str) -> str:
    """A text whose offsets nobody needs, with runs of white space shortened: they are not worth tokens."""
    return _RUN_OF_LINES.sub("\n\n", _RUN_OF_SPACE.sub(" ", _without_surrogates(text)))


def _without_surrogates(text: str) -> str:
    """The same text, character for character, as UTF-8 can state it."""
    return _SURROGATE.sub("\ufffd", text)


def _answer_places(encoding: Encoding, segment: int, begin: int, length: int) -> tuple[Ints, Ints, Ints]:
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    own = np.array([one == segment for one in encoding.sequence_ids], dtype=bool)
    # A token may reach over the border to the template's text, as SentencePiece's leading space does.
    starts = np.clip(offsets[:, 0] - begin, 0, length)
    ends = np.clip(offsets[:, 1] - begin, 0, length)
    places = np.flatnonzero(own & (ends > starts))
    return places, starts[places], ends[places]


def _first_known(tokenizer: Tokenizer, names: tuple[str, ...]) -> int | None:
    return next((number for name in names if (number := tokenizer.token_to_id(name)) is not None), None)
