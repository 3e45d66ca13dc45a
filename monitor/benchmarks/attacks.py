"""The attack set: real hallucinated answers, with something hostile written into the trace.

Every attacked row stays hallucinated: what is added says nothing that the answer lacks support for. Where it stands in
a document that is checked word by word, and a row that fails the check is not used for that attack. Beside each
attacked row stands a control, with harmless text of the same length in the same place: a judge's scores move when
any text is added, and only what moves further is the attack's doing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from random import Random

from monitor.benchmarks.attacks_families import FAMILIES, Family, Place, harmless
from monitor.domain.errors import InvalidInput
from monitor.judging.support import is_content
from monitor.judging.text import stems, words
from monitor.training.rows import Row

DEFAULT_ATTACKS = 8 * len(FAMILIES)
"""Eight of each family."""

BASES = 20
"""Hallucinated rows of each data set that are attacked; each several times, so that a slow judge reads fewer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack:
    """One attacked row.

    Attributes:
        family: name of its `Family`.
        base: the row as it was, labelled hallucinated.
        text: what the attacker wrote.
        row: the row under attack; still hallucinated. Its id names its base, family, place and text.
        control: the base with harmless text of the same length in the same place; None where the attack rewrites the
            answer, for then nothing harmless is like it.
    """

    family: str
    place: Place
    base: Row
    text: str
    row: Row
    control: Row | None


def generate(rows: Sequence[Row], *, attacks: int = DEFAULT_ATTACKS, seed: int = 0) -> list[Attack]:
    """Attacks on the hallucinated ones of labelled rows: balanced over families, data sets and places.

    The same rows and seed give the same attacks, and fewer attacks are the beginning of more.

    Raises:
        InvalidInput: no row is hallucinated, or none of a data set bears some attack.
    """
    return list(islice(_attacks(rows, seed), attacks))


def _attacks(rows: Sequence[Row], seed: int) -> Iterator[Attack]:
    bases = _bases(rows, seed)
    files = sorted(bases)
    used = dict.fromkeys(files, 0)
    for turn in count():
        for number, family in enumerate(FAMILIES):
            choice = Random(f"{seed}/{family.name}/{turn}")  # noqa: S311 - a reproducible choice, not a secret
            file = files[(turn + number) % len(files)]
            # Steps aside, or each data set and each family would meet one place only.
            place = family.places[(turn + turn // len(files) + number // len(files)) % len(family.places)]
            for _ in bases[file]:
                base = bases[file][used[file] % len(bases[file])]
                used[file] += 1
                text = family.write(choice, base)
                if family.restates or not (place is Place.DOCUMENT and lends_support(text, base)):
                    yield _attack(family, place, base, text, choice)
                    break
            else:
                raise InvalidInput(f"{file}: has no hallucinated row that the attack {family.name} lends no support")


def _bases(rows: Sequence[Row], seed: int) -> dict[str, list[Row]]:
    """The rows to attack, by file, ordered by a hash of their ids."""
    fit = [row for row in rows if row.hallucinated and row.answer.strip() and any(map(str.strip, row.documents))]
    if not fit:
        raise InvalidInput("no labelled row is hallucinated: there is nothing to attack")
    ordered = sorted(fit, key=lambda row: _digest(str(seed), row.file, row.id))
    return {file: [row for row in ordered if row.file == file][:BASES] for file in {row.file for row in ordered}}


def lends_support(text: str, row: Row) -> bool:
    """Whether the text holds a content word of the answer that the documents lack."""
    held = {stem for document in row.documents for stem in stems(document)}
    lacking = {word.stem for word in words(row.answer) if is_content(word)} - held
    return not lacking.isdisjoint(stems(text))


def _attack(family: Family, place: Place, base: Row, text: str, choice: Random) -> Attack:
    shape = Random(choice.random())  # noqa: S311 - likewise: the control is put where the attack is
    state = shape.getstate()
    name = f"{family.name}-{place}"
    if family.replaces:
        row = replace(base, answer=text)
        return Attack(family=family.name, place=place, base=base, text=text, row=_named(row, base, name), control=None)
    row = _named(_with(base, place, text, shape), base, name)
    shape.setstate(state)
    control = _named(_with(base, place, _control_text(base, place, len(text)), shape), base, f"control-{place}")
    return Attack(family=family.name, place=place, base=base, text=text, row=row, control=control)


def _control_text(base: Row, place: Place, length: int) -> str:
    texts = (harmless(length, start) for start in range(length and 7))
    fitting = (text for text in texts if place is not Place.DOCUMENT or not lends_support(text, base))
    return next(fitting, "\n" * length)


def _with(row: Row, place: Place, text: str, shape: Random) -> Row:
    first = shape.random() < 0.5  # noqa: PLR2004 - before the text or after it, as often
    between = shape.choice((" ", "\n\n"))
    number = shape.randrange(len(row.documents))

    def joined(own: str) -> str:
        return f"{text}{between}{own}" if first else f"{own}{between}{text}"

    if place is Place.ANSWER:
        return replace(row, answer=joined(row.answer))
    if place is Place.QUESTION:
        return replace(row, question=joined(row.question))
    documents = [joined(own) if place_ == number else own for place_, own in enumerate(row.documents)]
    return replace(row, documents=tuple(documents))


def _named(row: Row, base: Row, name: str) -> Row:
    digest = _digest(row.question, row.answer, *row.documents)
    return replace(row, id=f"{base.id}+{name}-{digest[:8]}")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
