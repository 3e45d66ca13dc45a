import asyncio

import pytest

from monitor.benchmarks.asking import MOST_ABSENCES, OneByOne, SeveralAtOnce, missing
from monitor.benchmarks.labelled import read_labelled
from monitor.benchmarks.scores import Score, ScoreFile, as_trace
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Tier, Unjudgeable, Usage
from tests.examples.labelled import labelled, written

IDENTITY = JudgeIdentity(name="x", tier=Tier.EDGE, model="m", model_digest="d")
AWAY = CouldNotJudge(reason=Unjudgeable.JUDGE_UNAVAILABLE, detail="nobody there")


@pytest.fixture
def rows(tmp_path):
    return read_labelled([written(tmp_path / "a.jsonl", labelled("a", 30))])


def opinion(trace):
    return Opinion(raw_score=float(trace.trace_id.split("-")[1]), usage=Usage(prompt_tokens=5))


class Panel:
    """Either kind of panelist over one function."""

    def __init__(self, kind, ask):
        self.runner = asyncio.Runner()
        if kind is OneByOne:
            self.judge = OneByOne(name="x", identity=IDENTITY, ask=ask)
        else:

            async def later(trace):
                await asyncio.sleep(0)
                return ask(trace)

            self.judge = SeveralAtOnce(name="x", identity=IDENTITY, ask=later, concurrency=4, runner=self.runner)


@pytest.fixture(params=[OneByOne, SeveralAtOnce])
def panel(request):
    made = []

    def make(ask):
        made.append(Panel(request.param, ask))
        return made[-1].judge

    yield make
    for one in made:
        one.runner.close()


def test_every_row_is_asked_about_once_and_kept(rows, panel, tmp_path):
    kept, ticks = ScoreFile(tmp_path / "scores"), []
    panelist = panel(opinion)
    panelist.answer(rows, kept, lambda: ticks.append(1))

    assert [kept.known(IDENTITY, row).score for row in rows] == [float(place) for place in range(30)]
    assert len(ticks) == 30
    assert missing(panelist, rows, ScoreFile(tmp_path / "scores")) == []


def test_time_between_answers_adds_up_to_the_whole(rows, panel):
    kept = ScoreFile(None)
    panel(opinion).answer(rows, kept, lambda: None)
    scores = [kept.known(IDENTITY, row) for row in rows]
    assert all(score.busy_seconds >= 0 for score in scores)
    assert sum(score.busy_seconds for score in scores) <= sum(score.seconds for score in scores) + 1e-3


def test_a_judge_that_stays_away_ends_the_run_and_what_it_said_is_kept(rows, panel, tmp_path):
    def ask(trace):
        return opinion(trace) if int(trace.trace_id.split("-")[1]) < 5 else AWAY

    kept = ScoreFile(tmp_path / "scores")
    with pytest.raises(JudgeUnavailable, match=f"away for {MOST_ABSENCES} rows in a row: nobody there"):
        panel(ask).answer(rows, kept, lambda: None)
    # Whoever was away is asked again; whoever spoke is not.
    assert len(missing(panel(ask), rows, ScoreFile(tmp_path / "scores"))) == 25


def test_a_judge_that_was_away_now_and_then_is_no_reason_to_stop(rows, panel):
    kept = ScoreFile(None)
    panel(lambda trace: AWAY if int(trace.trace_id.split("-")[1]) % 3 else opinion(trace)).answer(
        rows, kept, lambda: None
    )
    assert sum(kept.known(IDENTITY, row).score is None for row in rows) == 20


def test_one_row_can_be_asked_about_at_once(rows, panel):
    assert panel(opinion).ask_now(as_trace(rows[7])).raw_score == 7.0


def test_an_interrupted_last_line_is_cut_off_and_asked_again(rows, tmp_path):
    path = tmp_path / "scores"
    kept = ScoreFile(path)
    for row in rows[:3]:
        kept.keep(IDENTITY, row, Score(score=1.0))
    path.write_bytes(path.read_bytes()[:-20])

    again = ScoreFile(path)
    assert [again.known(IDENTITY, row) is None for row in rows[:3]] == [False, False, True]
    assert path.read_bytes().endswith(b"\n")


def test_numbers_that_are_none_are_no_scores(rows):
    kept = ScoreFile(None)
    ask = OneByOne(name="x", identity=IDENTITY, ask=lambda _: Opinion(raw_score=float("nan")))
    ask.answer(rows[:1], kept, lambda: None)
    assert (kept.known(IDENTITY, rows[0]).score, kept.known(IDENTITY, rows[0]).reason) == (None, "judge_error")
