"""Real child processes with shipped judges: simulated ones, and ones that take their time."""

import asyncio
import errno
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.trace import Trace
from monitor.domain.verdict import Label, Verdict
from monitor.inference.unhurried import UnhurriedJudge
from monitor.ingest.check_link import Said
from monitor.ingest.checker import Checker, Checking
from monitor.ingest.forward import Backoff
from monitor.ingest.refused import RequestRefused
from monitor.services.checking import judge_checks
from tests.support.stages import ALSO_CHEAP, CHEAP, DEAR, FAITHFUL, HALLUCINATED, SURE, UNSURE, staged

SECONDS = 60.0
LONG, SHORT = 60.0, 3.0
"""Budgets: one that is never used up, and one that is waited for to its end."""


def both(seconds: float, link: Connection, *, heeds_deadline: bool = True) -> None:
    """Two stages; the second takes so long."""
    dear = UnhurriedJudge(DEAR, seconds=seconds, heeds_deadline=heeds_deadline)
    judge_checks(lambda: staged(policy=UNSURE, dear=dear), link)


def cheap_alone(seconds: float, link: Connection) -> None:
    """The first stage takes so long, whatever its deadline."""
    judge_checks(lambda: staged(policy=SURE, cheap=UnhurriedJudge(CHEAP, seconds=seconds, heeds_deadline=False)), link)


def without_judges(link: Connection) -> None:
    def load() -> Any:
        raise JudgeUnavailable("the model is missing")

    judge_checks(load, link)


def late_second(link: Connection) -> None:
    """Of the first stage's two judges, the second heeds no deadline."""
    late = UnhurriedJudge(ALSO_CHEAP, seconds=math.inf, heeds_deadline=False)
    judge_checks(lambda: staged(policy=SURE, also_cheap=late), link)


def loads_for_ever(_: Connection) -> None:
    threading.Event().wait()


class Fatal:
    """A judge that takes its process with it, as a driver might."""

    identity = CHEAP.identity

    def judge_many(self, _: Sequence[Trace], **__: float) -> list[Any]:
        os._exit(9)


def dies_of_a_check(link: Connection) -> None:
    judge_checks(lambda: staged(policy=SURE, cheap=Fatal()), link)


def babbles_once(lives: Path, link: Connection) -> None:
    """Its first life says what no pickle begins with."""
    if not lives.exists():
        lives.touch()
        link.send_bytes(b"no word")
    cheap_alone(0.0, link)


def no_room() -> Any:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@contextmanager
def checking(target: Callable[[Connection], None], **options: Any) -> Iterator[Checker]:
    checker = Checker(target, **{"most_waiting": 8, "backoff": Backoff(limit_seconds=0.2), **options})
    checker.start()
    try:
        yield checker
    finally:
        checker.stop()


@contextmanager
def ready(target: Callable[[Connection], None], **options: Any) -> Iterator[Checker]:
    with checking(target, **options) as checker:
        eventually(lambda: checker.state.state is Checking.READY)
        yield checker


async def ask(checker: Checker, trace: Trace = HALLUCINATED, seconds: float = LONG) -> Said | None:
    return await checker.check(trace, until=time.monotonic() + seconds)


def label(said: Said | None) -> Label:
    assert said is not None
    assert isinstance(said.outcome, Verdict)
    return said.outcome.label


def reason(said: Said | None) -> Unjudgeable:
    assert said is not None
    assert isinstance(said.outcome, CouldNotJudge)
    return said.outcome.reason


def test_both_stages_speak_and_many_checks_at_once_get_each_its_own_word() -> None:
    with ready(partial(both, 0.0)) as checker:

        async def several() -> list[Said | None]:
            return await asyncio.gather(*(ask(checker, trace) for trace in (FAITHFUL, HALLUCINATED) * 4))

        said = asyncio.run(several())
        assert list(map(label, said)) == [Label.FAITHFUL, Label.HALLUCINATED] * 4
        assert all(one is not None and one.complete and one.judge == DEAR.identity for one in said)
        state = checker.state
        assert state.judges == (CHEAP.identity.version, DEAR.identity.version)
        assert {one.version for one in said if one} == {state.version} == {staged().version}
        assert (state.waiting, state.restarts, state.problem) == (0, 0, None)


def test_when_the_time_is_over_the_first_word_stands_and_says_that_it_is_not_the_last() -> None:
    with ready(partial(both, math.inf)) as checker:
        said = asyncio.run(ask(checker, seconds=SHORT))
        assert label(said) is Label.HALLUCINATED
        assert said is not None
        assert not said.complete
        assert said.judge == CHEAP.identity
        # The judge gave up at its deadline: nothing hangs, nothing was restarted.
        eventually(lambda: checker.state.waiting == 0)
        assert checker.state.restarts == 0


def test_a_dear_judge_at_work_holds_up_no_first_word() -> None:
    with ready(partial(both, math.inf)) as checker:

        async def two() -> list[Said | None]:
            return await asyncio.gather(ask(checker, seconds=SHORT), ask(checker, FAITHFUL, seconds=SHORT))

        assert list(map(label, asyncio.run(two()))) == [Label.HALLUCINATED, Label.FAITHFUL]


def test_without_a_word_in_time_there_is_none() -> None:
    with ready(partial(cheap_alone, 2.0)) as checker:
        assert asyncio.run(ask(checker, seconds=0.1)) is None
        assert asyncio.run(ask(checker, seconds=-1.0)) is None
        # What came too late is passed over, and the next one judged.
        assert label(asyncio.run(ask(checker))) is Label.HALLUCINATED
        eventually(lambda: checker.state.waiting == 0)


def test_while_judges_are_loaded_checks_wait_their_time_and_then_no_longer_count() -> None:
    with checking(partial(both, 0.0), most_waiting=1) as checker:
        assert checker.state.state is Checking.STARTING
        assert [asyncio.run(ask(checker, seconds=0.001)) for _ in range(3)] == [None] * 3
        assert checker.state.waiting == 0
        assert label(asyncio.run(ask(checker))) is Label.HALLUCINATED


def test_more_checks_than_may_wait_are_refused_at_once() -> None:
    async def three(checker: Checker) -> list[Any]:
        return await asyncio.gather(*(ask(checker, seconds=SHORT) for _ in range(3)), return_exceptions=True)

    with ready(partial(cheap_alone, math.inf), most_waiting=2) as checker:
        *waited, refused = asyncio.run(three(checker))
        assert waited == [None, None]
        assert isinstance(refused, RequestRefused)
        assert (refused.status, refused.reason, refused.retry_seconds) == (503, "busy", 1)


def test_no_owner_takes_the_places_that_others_need() -> None:
    async def many(checker: Checker) -> list[Any]:
        owners = ["a"] * 6 + ["b"] * 3 + [None]
        asked = (checker.check(HALLUCINATED, until=time.monotonic() + SHORT, owner=owner) for owner in owners)
        return await asyncio.gather(*asked, return_exceptions=True)

    with ready(partial(cheap_alone, math.inf), most_waiting=8) as checker:
        said = asyncio.run(many(checker))
        refused = [str(one.reason) if isinstance(one, RequestRefused) else None for one in said]
        # Four of eight are free to the first, two of the four that are left to the second; a stranger finds one.
        assert refused == [None] * 4 + ["over_share"] * 2 + [None] * 2 + ["over_share"] + [None]


def test_whoever_is_told_from_nobody_may_have_all_places() -> None:
    async def three(checker: Checker) -> list[Any]:
        return await asyncio.gather(*(ask(checker, seconds=SHORT) for _ in range(3)), return_exceptions=True)

    with ready(partial(cheap_alone, math.inf), most_waiting=3) as checker:
        assert asyncio.run(three(checker)) == [None] * 3


def test_a_process_that_never_gets_its_judges_loaded_is_ended_and_replaced() -> None:
    with checking(loads_for_ever, loading_seconds=0.5) as checker:
        first = checker.pid
        assert first is not None
        eventually(lambda: checker.state.restarts > 0 and checker.pid not in (None, first))
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
        assert checker.state.state is Checking.PROBLEM
        assert checker.state.problem == "the judges were not loaded within 0.5 s"
        assert reason(asyncio.run(ask(checker))) is Unjudgeable.JUDGE_UNAVAILABLE


def test_a_late_judge_of_the_first_stage_does_not_take_the_word_of_the_one_before_it() -> None:
    with ready(late_second) as checker:
        said = asyncio.run(ask(checker, seconds=SHORT))
        assert label(said) is Label.HALLUCINATED
        assert said is not None
        assert not said.complete
        assert said.judge == CHEAP.identity


def test_a_process_that_hangs_costs_no_more_than_the_time_and_is_replaced() -> None:
    with ready(partial(both, 0.0), patience_seconds=0.2) as checker:
        assert checker.pid is not None
        os.kill(checker.pid, signal.SIGSTOP)

        async def until_replaced() -> None:
            assert await ask(checker, seconds=0.3) is None
            await asyncio.to_thread(eventually, lambda: checker.state.restarts == 1)

        asyncio.run(until_replaced())
        eventually(lambda: checker.state.state is Checking.READY)
        assert label(asyncio.run(ask(checker))) is Label.HALLUCINATED


def test_a_dear_judge_that_hangs_beyond_its_time_is_ended_with_its_process() -> None:
    with ready(partial(both, math.inf, heeds_deadline=False), patience_seconds=0.2) as checker:

        async def until_replaced() -> None:
            assert label(await ask(checker, seconds=SHORT)) is Label.HALLUCINATED
            await asyncio.to_thread(eventually, lambda: checker.state.restarts == 1)

        asyncio.run(until_replaced())


def test_without_room_for_a_process_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with ready(partial(cheap_alone, 0.0)) as checker:
        with monkeypatch.context() as failing:
            failing.setattr("monitor.ingest.check_process._PROCESSES.Pipe", no_room)
            assert checker.pid is not None
            os.kill(checker.pid, signal.SIGKILL)
            eventually(lambda: "cannot be started" in (checker.state.problem or ""))
        eventually(lambda: checker.state.state is Checking.READY)


def test_a_process_that_is_not_understood_is_replaced(tmp_path: Path) -> None:
    with ready(partial(babbles_once, tmp_path / "lives")) as checker:
        assert checker.state.restarts == 1
        assert label(asyncio.run(ask(checker))) is Label.HALLUCINATED


def test_a_killed_process_is_told_of_at_once_and_replaced() -> None:
    with ready(partial(cheap_alone, math.inf)) as checker:

        async def killed_meanwhile() -> Said | None:
            under_way = asyncio.create_task(ask(checker))
            await asyncio.sleep(0.5)
            assert checker.pid is not None
            os.kill(checker.pid, signal.SIGKILL)
            return await under_way

        assert reason(asyncio.run(killed_meanwhile())) is Unjudgeable.JUDGE_UNAVAILABLE
        eventually(lambda: checker.state.restarts == 1 and checker.state.state is Checking.READY)
        assert checker.state.problem is None


def test_a_check_that_ends_the_process_is_not_tried_again() -> None:
    with ready(dies_of_a_check, backoff=Backoff(first_seconds=60.0, limit_seconds=60.0)) as checker:
        assert reason(asyncio.run(ask(checker))) is Unjudgeable.JUDGE_UNAVAILABLE
        eventually(lambda: checker.state.state is Checking.PROBLEM)
        assert "exit code 9" in (checker.state.problem or "")
        # Nobody waits for judges that are not there.
        assert reason(asyncio.run(ask(checker))) is Unjudgeable.JUDGE_UNAVAILABLE


def test_judges_that_cannot_be_had_are_a_problem_with_a_reason() -> None:
    with checking(without_judges) as checker:
        eventually(lambda: checker.state.state is Checking.PROBLEM)
        assert checker.state.problem == "the model is missing"
        assert reason(asyncio.run(ask(checker))) is Unjudgeable.JUDGE_UNAVAILABLE
        eventually(lambda: checker.state.restarts > 1)


def test_a_process_ends_with_the_one_that_started_it() -> None:
    with ready(partial(cheap_alone, math.inf)) as checker:
        pid = checker.pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)  # which a process group gets: only the receiving process decides
        assert checker.state.state is Checking.READY
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
