"""Lexical evidence: twenty-three numbers that say how little of an answer its documents hold.

Every feature but one grows with want of support, so a model may be held to signs that make sense. All are shares
or worst cases between 0 and 1: none counts words, because the length of an answer tells data sets apart rather
than true from false. Question words are told apart because an answer may repeat its question freely.
"""

from collections.abc import Callable, Collection, Sequence
from math import sqrt
from operator import mul

import numpy as np
from numpy.typing import NDArray

from monitor.judging.support import Claim, Support, is_content
from monitor.judging.text import Word, stems

# A claim of two content words that misses one is weaker evidence than one of ten that misses five.
_PRIOR_SHARE = 0.3
_PRIOR_WORDS = 2.0
_PRIOR_ORDER = 0.5
# What a claim without content words ("Yes, it was.") is taken to lack: neither supported nor refuted.
_UNKNOWN = 0.5


def _share(part: float, whole: float, otherwise: float = 0.0) -> float:
    return part / whole if whole else otherwise


class _View:
    """One trace, with what several features need worked out once."""

    def __init__(self, question: str, support: Support) -> None:
        self.support = support
        self.question = frozenset(stems(question))
        self.content = [word for word in support.words if is_content(word)]
        self.numbers = [word for word in support.words if word.is_number]
        self.pairs = support.content_pairs()
        telling = [pair for pair in zip(support.claims, support.coverage, strict=True) if pair[0].content]
        self.claims = [claim for claim, _ in telling]
        self.coverage = [coverage for _, coverage in telling]
        self.weights = [len(claim.content) for claim in self.claims] or [1]
        self.beyond_passage = [1.0 - each.single for each in self.coverage] or [_UNKNOWN]
        self.beyond_neighbourhood = [1.0 - each.neighbourhood for each in self.coverage] or [_UNKNOWN]
        self.names_by_claim = [_names(claim) for claim in support.claims]
        self.names = [word for names in self.names_by_claim for word in names]
        self.copied_pairs = support.copied(2)
        holds = support.holds
        self.wants_name = [not all(map(holds, names)) for names in self.names_by_claim]
        self.wants_number = [not all(holds(word) for word in claim.words if word.is_number) for claim in support.claims]

    def missing(self, words: Collection[Word], otherwise: float = 0.0) -> float:
        """Share of the words that no document holds."""
        found = self.support.found
        return _share(sum([word.stem not in found for word in words]), len(words), otherwise)

    def mean(self, values: Sequence[float]) -> float:
        """Mean over claims, weighted by their content words."""
        total: float = sum(map(mul, values, self.weights))
        return total / sum(self.weights)

    def worst_cautious(self, shares: Sequence[float]) -> float:
        """The largest of these shares of the claims' content, each drawn towards the prior."""
        return max(map(_cautious, shares, self.weights))


def _cautious(share: float, words: int) -> float:
    return (share * words + _PRIOR_SHARE * _PRIOR_WORDS) / (words + _PRIOR_WORDS)


def _names(claim: Claim) -> list[Word]:
    # The first word of a sentence is capitalised anyway: it is a name only if a capitalised word follows.
    names = [word for word in claim.words if word.text[0].isupper() and is_content(word)]
    if names and names[0] is claim.words[0] and not (len(claim.words) > 1 and claim.words[1].text[0].isupper()):
        del names[0]
    return names


def _missing_in_question(view: _View) -> float:
    missing = [word for word in view.content if not view.support.has(word)]
    return _share(sum(word.stem in view.question for word in missing), len(view.content))


def _unlike_not_asked(view: _View) -> float:
    news = [word for word in view.content if word.stem not in view.question]
    return _share(sum(not view.support.holds(word) for word in news), len(news))


def _bigrams_missing(view: _View) -> float:
    otherwise = 1.0 - view.missing(view.support.words)
    return 1.0 - _share(sum(view.copied_pairs), len(view.copied_pairs), otherwise)


def _worst_claim_bigrams(view: _View) -> float:
    worst, start = 0.0, 0
    for claim in view.support.claims:
        pairs = len(claim.words) - 1
        missing = pairs - sum(view.copied_pairs[start : start + pairs])
        start += pairs + 1
        worst = max(worst, (missing + _PRIOR_ORDER * _PRIOR_WORDS) / (pairs + _PRIOR_WORDS))
    return worst


def _outside_copied_runs(view: _View) -> float:
    length = 3
    if len(view.support.words) < length:
        return view.missing(view.support.words)
    inside = [False] * len(view.support.words)
    for start, copied in enumerate(view.support.copied(length)):
        if copied:
            inside[start : start + length] = [True] * length
    return 1.0 - sum(inside) / len(inside)


def _claims_wanting(view: _View) -> float:
    wants = [name or number for name, number in zip(view.wants_name, view.wants_number, strict=True)]
    return sum(wants) / len(wants)


def _worst_numbers_beyond_passage(view: _View) -> float:
    worst = 0.0
    for claim, each in zip(view.claims, view.coverage, strict=True):
        numbers = [word for word in claim.words if word.is_number]
        if numbers and each.passage is not None:
            beyond = sum(not view.support.passage_has(each.passage, word) for word in numbers)
            worst = max(worst, beyond / len(numbers))
        elif numbers:
            worst = 1.0
    return worst


def _pairs_missing(view: _View) -> float:
    found = sum(near for _, _, near in view.pairs)
    return 1.0 - _share(found, len(view.pairs), otherwise=1.0 - view.missing(view.content))


def _pairs_torn(view: _View) -> float:
    known = [near for one, two, near in view.pairs if view.support.is_found(one) and view.support.is_found(two)]
    return _share(sum(not near for near in known), len(known))


def _negation_differs(view: _View) -> float:
    differs = [
        each.passage is not None and each.passage.negated != claim.negated
        for claim, each in zip(view.claims, view.coverage, strict=True)
    ]
    return view.mean(differs) if differs else 0.0


_DEFINITIONS: dict[str, Callable[[_View], float]] = {
    # All words, then only those that carry claims, then each of these once.
    "words_missing": lambda view: view.missing(view.support.words),
    "content_missing": lambda view: view.missing(view.content),
    "distinct_content_missing": lambda view: view.missing({word.stem: word for word in view.content}.values()),
    # What the question brought in is not news, but the documents do not hold it either.
    "content_missing_but_asked": _missing_in_question,
    "content_missing_not_asked": lambda view: view.missing(
        [word for word in view.content if word.stem not in view.question]
    ),
    "numbers_missing": lambda view: view.missing(view.numbers),
    "names_missing": lambda view: view.missing(view.names),
    # Order: runs copied word for word, and content words that stand near each other as they do in a document.
    "bigrams_missing": _bigrams_missing,
    "outside_copied_runs": _outside_copied_runs,
    "content_pairs_missing": _pairs_missing,
    "content_pairs_torn": _pairs_torn,
    # Claim by claim, so that one invented sentence shows in a long answer, against one passage or three in a row,
    # so that a long document does not support everything by holding every word somewhere.
    "mean_claim_beyond_passage": lambda view: view.mean(view.beyond_passage),
    "mean_claim_beyond_neighbourhood": lambda view: view.mean(view.beyond_neighbourhood),
    "worst_claim_beyond_passage_cautious": lambda view: view.worst_cautious(view.beyond_passage),
    "worst_claim_beyond_neighbourhood_cautious": lambda view: view.worst_cautious(view.beyond_neighbourhood),
    "worst_claim_bigrams_missing_cautious": _worst_claim_bigrams,
    "negation_differs": _negation_differs,
    # What the documents hold in no other form either: a name or a number of its own decides more than its share of
    # the words, and the root lets the first claim that has one weigh most.
    "content_unlike_not_asked": _unlike_not_asked,
    "claims_wanting_name": lambda view: sum(view.wants_name) / len(view.wants_name),
    "claims_wanting_name_or_number": _claims_wanting,
    "root_claims_wanting_name_or_number": lambda view: sqrt(_claims_wanting(view)),
    "root_claims_wanting_number": lambda view: sqrt(sum(view.wants_number) / len(view.wants_number)),
    "worst_claim_numbers_beyond_passage": _worst_numbers_beyond_passage,
}

FEATURES: tuple[str, ...] = tuple(_DEFINITIONS)
"""Names of the features, in the order of `extract`'s result."""

REVISION = 2
"""Raise it whenever the same text would be measured differently: it is part of the screen's version."""

UNSIGNED = frozenset({"content_missing_but_asked"})
"""Features that may speak for either side; each other one may only speak against the answer."""


def extract(question: str, documents: Sequence[str], answer: str) -> NDArray[np.float32]:
    """Measure one trace.

    Returns:
        Float32 vector of `len(FEATURES)` shares between 0 and 1, all finite.

    Raises:
        ValueError: the answer holds no word or number.
    """
    return extract_from(question, Support(documents, answer))


def extract_from(question: str, support: Support) -> NDArray[np.float32]:
    """`extract`, for an answer that has been looked up in its documents already; raises the same."""
    if not support.words:
        raise ValueError("the answer holds no word")
    view = _View(question, support)
    return np.array([feature(view) for feature in _DEFINITIONS.values()], dtype=np.float32)
