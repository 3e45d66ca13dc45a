"""The sums that rates are made from, to the last digit: from rollups, from hours summed up, from rows, and by hand."""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import pytest
from sqlalchemy import Engine, text

from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.verdict import FAITHFULNESS, Label
from monitor.storage.engine import transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.labels import Labelled, Window, add_labels, draw_tasks
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.revision import revise
from monitor.storage.trusted_hours import sum_up_trusted
from monitor.storage.weighing import weigh_rollups
from tests.examples.assessments import EDGE, NOON, POOL, assessment, judgement, trace, verdict

TRACES = 700
SPAN = 3 * 3600
END = NOON + timedelta(hours=24)
KEY = ("tenant", "service", "environment", "evaluator", "judge_version")

Rows = dict[tuple[Any, ...], dict[str, Any]]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


WINDOWS = [
    (NOON, END, None),
    (NOON, END, "hour"),
    (at(-86400), at(1800), "day"),
    (at(61.5), at(7199.999), "hour"),
    (at(60), at(60.25), None),
    (at(3599), at(7201), "minute"),
    (at(600), at(720), "second"),
    (at(900), at(4500), "week"),
]


@pytest.fixture
def lived(engine: Engine, ledger: Ledger) -> Engine:
    """Hours of two services and two judge versions: sampled, audited, revised, some late, some never judged."""
    draw = random.Random(18)
    made = [
        replace(
            assessment(
                number,
                probability=None if draw.random() < 0.05 else draw.random(),
                escalated=draw.random() < 0.4,
                # In some minutes many, in others none; some on the minute, some a microsecond before it.
                seconds_past_noon=draw.choice([draw.random() * SPAN, draw.randrange(180) * 60, 60 - 1e-6]),
                chance=draw.choice([0.02, 0.5, 0.7, 1.0, 0.0]),
                sampling_probability=draw.choice([1.0, 0.5, 0.1, 1 / 3, 0.0123456789]),
                service=draw.choice(["help-desk", "shop"]),
            ),
            judge_version=draw.choice(["v1", "v2"]),
        )
        for number in range(TRACES)
    ]
    for first in range(0, TRACES, 100):
        ledger.record(made[first : first + 100])
    ask_the_pool(engine, draw, 150)
    for service in ("help-desk", "shop"):
        for since, until in ((NOON, at(SPAN)), (at(90.5), at(5000))):
            segment = trace("any", service=service).segment
            window = Window(segment=segment, evaluator=FAITHFULNESS, since=since, until=until)
            tasks = draw_tasks(engine, window, count=60, actor="ana")
            assert tasks is not None
            for actor, share in (("ana", 0.8), ("ben", 0.3)):
                said = [
                    Labelled(
                        tenant="city", trace_id=task.trace_id, evaluator=FAITHFULNESS,
                        label=draw.choice([Label.FAITHFUL, Label.HALLUCINATED]),
                    )
                    for task in tasks.tasks if draw.random() < share
                ]  # fmt: skip
                add_labels(engine, said, actor=actor)
    return engine


def ask_the_pool(engine: Engine, draw: random.Random, count: int) -> None:
    """Some of its answers cannot be read, and some traces it is asked about a second time."""
    queue = EscalationQueue(engine)
    for escalation in queue.claim(count, lease_seconds=60):
        probability = None if draw.random() < 0.1 else draw.random()
        outcome = CouldNotJudge(reason=Unjudgeable.UNPARSEABLE) if probability is None else verdict(probability)
        assert queue.complete(escalation, judgement(POOL, probability=probability), outcome, at=END)
        for judge in (EDGE, POOL):
            if draw.random() < 0.2:
                with transaction(engine) as connection:
                    said = judgement(judge, probability=draw.random())
                    revise(connection, escalation.assessment, judgement=said, outcome=verdict(0.9), at=END)


def ask(engine: Engine, question: str, **values: Any) -> Rows:
    with transaction(engine) as connection:
        rows = connection.execute(text(question), values).mappings().all()
    return {(*(row[name] for name in KEY), row.get("start")): dict(row) for row in rows}


def totals(engine: Engine, trust: str, since: datetime, until: datetime, bucket: str | None) -> Rows:
    question = "select * from rate_totals(:since, :until, :bucket, null, null, :trust)"
    return ask(engine, question, since=since, until=until, bucket=bucket, trust=trust)


def everything(engine: Engine) -> Iterator[Rows]:
    for trust in ("pool", "people"):
        for since, until, bucket in WINDOWS:
            yield totals(engine, trust, since, until, bucket)
            yield ask(
                engine,
                "select * from rate_skills(:since, :until, null, null, :trust)",
                since=since, until=until, trust=trust,
            )  # fmt: skip


def test_what_is_summed_up_before_changes_no_digit(lived: Engine) -> None:
    from_rollups = list(everything(lived))
    assert recount(lived) == []
    assert sum_up_trusted(lived, until=END) == 3
    assert sum_up_trusted(lived, until=END) == 0
    assert list(everything(lived)) == from_rollups
    with transaction(lived) as connection:
        # As the release before leaves them, everywhere and in some minutes.
        connection.execute(text("update rollups set first_weighed = 0, first_weight = 0, first_unreachable = 0"))
    assert list(everything(lived)) == from_rollups
    assert weigh_rollups(lived, since=at(5400)) > 0
    assert list(everything(lived)) == from_rollups
    assert weigh_rollups(lived) > 0
    assert weigh_rollups(lived) == 0
    assert list(everything(lived)) == from_rollups
    assert recount(lived) == []


def test_a_word_of_the_pool_counts_from_when_it_is_there(lived: Engine) -> None:
    sum_up_trusted(lived, until=END)
    before = list(everything(lived))
    ask_the_pool(lived, random.Random(5), 40)
    after = list(everything(lived))
    assert after != before
    assert sum_up_trusted(lived, until=END) > 0
    assert list(everything(lived)) == after
    with transaction(lived) as connection:
        connection.execute(text("delete from trusted_hours"))
    assert list(everything(lived)) == after


def test_a_judge_that_comes_with_the_pools_word_counts_at_once(lived: Engine, ledger: Ledger) -> None:
    sum_up_trusted(lived, until=END)
    ((_, before),) = [
        item for item in totals(lived, "pool", NOON, END, None).items() if item[0][1:2] + item[0][4:5] == ("shop", "v1")
    ]
    late = replace(
        assessment(9000, escalated=True, chance=0.5, service="shop", seconds_past_noon=62), judge_version="v1"
    )
    ledger.record([replace(late, judgements=(*late.judgements, judgement(POOL, probability=0.9)))])
    after = totals(lived, "pool", NOON, END, None)["city", "shop", "production", "faithfulness", "v1", None]
    assert (after["audits"], after["positives"]) == (before["audits"] + 1, before["positives"] + 2)


def test_nobody_sums_up_an_hour_that_a_word_is_being_added_to(lived: Engine) -> None:
    with transaction(lived) as writer:
        writer.execute(text("update rollups set pool_judged = pool_judged + 1 where minute = :noon"), {"noon": NOON})
        assert sum_up_trusted(lived, until=END) == 2
    assert sum_up_trusted(lived, until=END) == 1


@pytest.mark.parametrize("trust", ["pool", "people"])
def test_the_release_before_would_have_said_the_same(lived: Engine, trust: str) -> None:
    sum_up_trusted(lived, until=END)
    for since, until, bucket in WINDOWS:
        asked = {"since": since, "until": until, "bucket": bucket, "trust": trust}
        before = ask(
            lived, "select * from rate_weighted_sums(:since, :until, :bucket, null, null, :trust, false)", **asked
        )
        now = totals(lived, trust, since, until, bucket)
        assert now.keys() == before.keys()
        for key, row in now.items():
            assert row == {
                name: pytest.approx(value, rel=1e-9, abs=1e-6) if isinstance(value, float) else value
                for name, value in before[key].items()
            }


def exactly(probability: float) -> Decimal:
    """1 / p to the 15 digits that are beyond doubt."""
    return Decimal(f"{1 / probability:.15g}")


def test_every_sum_is_the_exact_one_rounded_once(lived: Engine) -> None:
    sum_up_trusted(lived, until=END)
    for since, until in ((NOON, END), (at(61.5), at(7199.999))):
        with transaction(lived) as connection:
            rows = connection.execute(text(_ROWS), {"since": since, "until": until}).mappings().all()
        with localcontext(prec=400):
            expected: dict[tuple[Any, ...], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
            for row in rows:
                sums = expected[*(row[name] for name in KEY), None]
                for name, term in _terms(row).items():
                    sums[name] += term
            found = totals(lived, "pool", since, until, None)
            assert found.keys() == expected.keys()
            for key, sums in expected.items():
                assert {name: found[key][name] for name in sums} == {name: float(sum_) for name, sum_ in sums.items()}


_ROWS = """
select v.*, (
    select coalesce(j.probability >= 0.5, j.raw_score > 0) from judgements as j join judges using (judge)
    where (j.tenant, j.trace_id, j.evaluator, j.judge_version) = (v.tenant, v.trace_id, v.evaluator, v.judge_version)
        and judges.tier = 'pool' and j.reason is null and v.action = 'escalate' and v.inclusion_probability > 0
    order by j.sequence desc limit 1
) as truth
from verdicts as v
where event_time >= :since and event_time < :until and first_label is not null
"""


def _terms(row: Any) -> dict[str, Decimal]:
    w, y = exactly(row["sampling_probability"]), row["truth"]
    x = Decimal(0) if y is None else exactly(row["inclusion_probability"])
    f, q = Decimal(row["first_label"] == "hallucinated"), w * w
    a, b, c = x * bool(y), f * (1 - x), 1 - x
    return {
        "n": Decimal(1), "audits": Decimal(y is not None), "unreachable": Decimal(row["inclusion_probability"] == 0),
        "weights": w, "squares": q, "hits": w * f, "a": w * a, "b": w * b, "c": w * c, "qa": q * a, "qb": q * b,
        "qc": q * c, "aa": q * a * a, "ab": q * a * b, "ac": q * a * c, "bb": q * b * b, "bc": q * b * c,
        "cc": q * c * c,
        "positives": w * a, "positive_squares": q * a * a, "found": w * a * f,
        "negatives": w * (x - a), "negative_squares": q * (x - a) * (x - a), "passed": w * (x - a) * (1 - f),
    }  # fmt: skip
