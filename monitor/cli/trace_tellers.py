"""Each step of a trace's lineage in words: a line or a few, with the verdict's evidence."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.text import Text

from monitor.cli.console import printable
from monitor.storage.lineage import Happening

_EXCERPT = 400
_ANSWER = 2000
Facts = Mapping[str, Any]
Lines = list[tuple[str | Text, str]]


def _answered(facts: Facts) -> Lines:
    if not facts["texts_kept"]:
        return [("its texts are no longer kept", "dim")]
    lines: Lines = [(f"asked:    {_cut(facts['question'])}", ""), (f"answered: {_cut(facts['answer'])}", "")]
    names = ", ".join(document["id"] for document in facts["documents"])
    lines.append((f"from:     {_count(len(facts['documents']), 'document')}: {_cut(names)}".rstrip(": "), "dim"))
    about = {
        "model": facts["generator_model"],
        "prompt": facts["prompt_version"],
        "OpenTelemetry": facts["otel_trace_id"],
        **facts["tags"],
    }
    known = ", ".join(f"{name} {value}" for name, value in about.items() if value)
    if known:
        lines.append((_cut(known), "dim"))
    if facts["sampling_probability"] < 1:
        lines.append((f"sampled, with a probability of {_percent(facts['sampling_probability'])}", "dim"))
    return lines


def _place(facts: Facts) -> str:
    return f"{facts['topic']}, partition {facts['partition']}, offset {facts['offset']}"


def _received(facts: Facts) -> Lines:
    if facts["outcome"] == "duplicate":
        return [(f"again, as a duplicate that counts nowhere: {_place(facts)}", "yellow")]
    sent = f", sent by replay {facts['replay_id']}" if facts["replay_id"] is not None else ""
    return [(f"{_place(facts)}: {facts['outcome']}{sent}", "")]


def _dead_letter(facts: Facts) -> Lines:
    field = f" at {facts['field']}" if facts["field"] else ""
    said = f"{facts['reason']}{field}: {_cut(facts['detail'])}"
    return [(f"a record with this id could not be read: {said}", ""), (_place(facts), "dim")]


def _not_searched(facts: Facts) -> Lines:
    return [(f"dead letters were not all searched in {facts['seconds']:g} s", "yellow")]


def _judged(facts: Facts) -> Lines:
    head = f"{facts['tier'] or '?'} {facts['judge']}: {_word(facts)}"
    asked = f"asked because {facts['chosen_because']} ({_percent(facts['inclusion_probability'])})"
    tokens = facts["prompt_tokens"] + facts["completion_tokens"]
    took = f"{facts['latency_seconds']:.3f} s, {tokens:,} tokens, ${facts['cost_usd']:.4f}"
    lines: Lines = [(head, ""), (f"{asked}; {took}{_windows(facts['windows'])}", "dim")]
    if facts["reasoning"]:
        lines.append((f"because: {_cut(facts['reasoning'])}", "dim"))
    return lines


def _windows(windows: Sequence[Mapping[str, Any]] | None) -> str:
    if not windows:
        return ""
    read = sum(window["raw_score"] is not None for window in windows)
    return f"; read {read} of {len(windows)} windows"


def _word(facts: Facts) -> str:
    if facts["reason"]:
        detail = f": {_cut(facts['detail'])}" if facts["detail"] else ""
        return f"could not judge, {facts['reason']}{detail}"
    chance = "not calibrated" if facts["probability"] is None else f"hallucinated with {_percent(facts['probability'])}"
    return f"{chance}, score {facts['raw_score']:+.2f}"


def _first_verdict(facts: Facts) -> Lines:
    return [*_replayed(facts), _standing(facts)]


def _replayed(facts: Facts) -> Lines:
    if facts["replay_id"] is None:
        return []
    by = f", which {facts['replayed_by']} began" if facts["replayed_by"] else ""
    return [(f"judged anew by replay {facts['replay_id']}{by}", "")]


def _standing(facts: Facts) -> tuple[str, str]:
    if facts["label"] is None:
        why = facts.get("reason")
        detail = f": {_cut(facts['detail'])}" if facts.get("detail") else ""
        return (f"none, {why}{detail}" if why else "none by the local judges"), "yellow"
    chance = _percent(facts["probability"])
    if facts["label"] == "hallucinated":
        return f"hallucinated, with a probability of {chance}", "bold red"
    return f"faithful; hallucinated with a probability of {chance}", "bold green"


def _decided(facts: Facts) -> Lines:
    chance = _percent(facts["inclusion_probability"])
    return [(f"{facts['action']}, {facts['decision_reason']}; its probability to be escalated was {chance}", "")]


def _counted(facts: Facts) -> Lines:
    seen = "the drift detector has seen it" if facts["seen_by_detector"] else "the drift detector has not seen it"
    if facts["seen_by_detector"] is None:
        seen = "no detector hears of replays"
    counts = f"{_count(facts['verdicts'], 'verdict')}, {facts['hallucinated']:,} hallucinated"
    return [(f"in the minute {facts['minute']:%H:%M}: {counts}; {seen}", "dim")]


def _escalated(facts: Facts) -> Lines:
    return [(f"to the pool, {facts['reason']}; priority {facts['priority']}", "")]


def _tries(facts: Facts) -> str:
    tries, claims = _count(facts["attempts"], "attempt"), _count(facts["claims"], "claim")
    return f"{tries}, {claims}; waited {facts['waited_seconds']:,.0f} s"


def _settled(facts: Facts) -> Lines:
    head = "the pool gave it up" if facts["state"] == "given_up" else "the pool is done with it"
    return [(head, ""), *_last_error(facts), (_tries(facts), "dim")]


def _waits(facts: Facts) -> Lines:
    head = "a pool worker has it until" if facts["state"] == "claimed" else "for the pool, not before"
    return [(f"{head} {facts['available_at']:%Y-%m-%d %H:%M:%S}", ""), *_last_error(facts), (_tries(facts), "dim")]


def _last_error(facts: Facts) -> Lines:
    return [(f"last error: {_cut(facts['last_error'])}", "yellow")] if facts["last_error"] else []


def _revised(facts: Facts) -> Lines:
    line, style = _standing(facts)
    return [(f"after {'the pool' if facts['by'] == 'pool' else 'a replay'}: {line}", style)]


def _alert(facts: Facts) -> Lines:
    part = f" of {facts['dimension']} = {facts['value']}" if facts["dimension"] else ""
    if facts["in_slice"] is None:
        part += " (its texts are gone: whether it is of that slice is not known)"
    pool = f"; the pool says {facts['confirmation']}" if facts["confirmation"] else ""
    rates = f"{_percent(facts['rate_before'])} → {_percent(facts['rate_after'])}"
    since = f"since {facts['change_at']:%Y-%m-%d %H:%M}"
    return [
        (f"{facts['direction']}{part}: {rates} {since}", ""),
        (f"alert {facts['alert_id']}, {facts['severity']}, {facts['state']}{pool}", "dim"),
    ]


def _confirming(facts: Facts) -> Lines:
    side = "after" if facts["later"] else "before"
    return [(f"drawn from {side} the change, for the pool to confirm alert {facts['alert_id']}", "")]


def _drawn(facts: Facts) -> Lines:
    return [(f"for people to label, out of {_count(facts['eligible'], 'answer')}, by {facts['actor']}", "")]


def _labelled(facts: Facts) -> Lines:
    note = f": {_cut(facts['note'])}" if facts["note"] else ""
    return [(f"{facts['label']} by {facts['actor']}{note}", "")]


def _feedback(facts: Facts) -> Lines:
    said = [f"thumb {facts['thumb']}"] if facts["thumb"] else []
    said += [facts["outcome"]] if facts["outcome"] else []
    lines: Lines = [(f"{facts['source']}: {', '.join(said) or 'said'}", "")]
    for name, field in (("better", "corrected_answer"), ("comment", "comment")):
        if facts[field]:
            lines.append((f"{name}: {_cut(facts[field])}", "dim"))
    return lines


def _verdict(facts: Facts) -> Lines:
    lines: Lines = [_standing(facts) if facts["outcome"] != "pending" else ("none yet: the pool is asked", "yellow")]
    lines = [*_replayed(facts), *lines]
    if facts["decided_by"]:
        lines.append((f"decided by {', '.join(facts['decided_by'])}", "dim"))
    if facts["reasoning"]:
        lines.append((f"because: {_cut(facts['reasoning'])}", ""))
    if facts["unsupported"] and facts["answer"] is not None:
        lines.append((_marked(facts["answer"], facts["unsupported"]), ""))
    for span in facts["unsupported"]:
        lines.append((_span(span), "dim"))
    return lines


def _marked(answer: str, spans: Sequence[Mapping[str, Any]]) -> Text:
    """The answer, unsupported parts between ⟦ ⟧ and red."""
    told = Text(printable(answer[:_ANSWER]))
    for span in spans:
        told.stylize("bold red", span["start"], span["end"])
    edges = {edge for span in spans for edge in (span["start"], span["end"]) if 0 < edge < len(told)}
    pieces = told.divide(sorted(edges))
    marked, place = Text("answer:  "), 0
    for piece in pieces:
        inside = any(span["start"] <= place < span["end"] for span in spans)
        marked.append("⟦" if inside else "").append_text(piece).append("⟧" if inside else "")
        place += len(piece)
    return marked if len(answer) <= _ANSWER else marked.append(f"… ({len(answer):,} characters)")


def _span(span: Mapping[str, Any]) -> str:
    what = f"“{_cut(span['text'])}”" if "text" in span else f"characters {span['start']} to {span['end']}"
    head = f"unsupported ({span['score']:.2f}): {what}"
    if span["document_id"] is None:
        return f"{head}; nothing comes near"
    nearest = f": “{_cut(span['support'])}”" if span.get("support") else ""
    return f"{head}; nearest in {span['document_id']}{nearest}"


def _cut(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}… ({len(text):,} characters)"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


TELLERS: Mapping[Happening, Callable[[Facts], Lines]] = {
    Happening.ANSWERED: _answered,
    Happening.RECEIVED: _received,
    Happening.DEAD_LETTER: _dead_letter,
    Happening.JUDGED: _judged,
    Happening.FIRST_VERDICT: _first_verdict,
    Happening.DECIDED: _decided,
    Happening.COUNTED: _counted,
    Happening.ESCALATED: _escalated,
    Happening.SETTLED: _settled,
    Happening.REVISED: _revised,
    Happening.ALERT: _alert,
    Happening.CONFIRMING: _confirming,
    Happening.DRAWN: _drawn,
    Happening.LABELLED: _labelled,
    Happening.FEEDBACK: _feedback,
    Happening.NOT_SEARCHED: _not_searched,
    Happening.WAITS: _waits,
    Happening.VERDICT: _verdict,
}
