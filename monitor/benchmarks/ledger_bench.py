"""What the ledger takes, what it costs in bytes, and how fast it answers: at one size after another."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from monitor.benchmarks.ledger_load import Traffic
from monitor.config import PostgresSettings
from monitor.config.retention import RetentionSettings
from monitor.domain.errors import InvalidInput
from monitor.services.collecting import collect_seldom
from monitor.storage.asking import Question, answering
from monitor.storage.engine import LedgerEngine
from monitor.storage.expirations import Keeping
from monitor.storage.ledger import Ledger
from monitor.storage.measuring import Size, answer_escalations, give_feedback, grow_old, table_sizes, vacuum
from monitor.storage.retention import expire
from monitor.storage.trusted_hours import sum_up_trusted
from monitor.streaming.consume import Record
from monitor.wire import decode_assessment

_DIMENSIONS = ("generator_model", "prompt_version")
_APART = ("payloads",)
_LEAST = 2
_ENOUGH_MS = 20_000
"""A question that takes this long all together is not asked again, once it was asked twice."""

_PAYLOAD_DAYS = RetentionSettings().payload_days


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """How fast verdicts were taken.

    Attributes:
        verdicts: taken in this stage.
        seconds: from decoded messages to their commit, all batches together.
        decoding: seconds before that, from their bytes.
        python_us: CPU time of this process a verdict, decoding included.
        postgres_us: CPU time of Postgres a verdict.
        slowest: rate of the slowest tenth of the batches.
    """

    verdicts: int
    seconds: float
    decoding: float
    python_us: float
    postgres_us: float
    slowest: float

    @property
    def rate(self) -> float:
        """Verdicts a second, written."""
        return self.verdicts / self.seconds

    @property
    def whole_rate(self) -> float:
        """Verdicts a second, decoded and written by one process."""
        return self.verdicts / (self.seconds + self.decoding)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """How long a query took, in milliseconds at a client that connects for it and reads all rows.

    `guide`: a question of the guide, not a saved query.
    """

    name: str
    rows: int
    p50: float
    p95: float
    guide: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A day taken away while writes went on.

    Attributes:
        seconds: that it took.
        verdicts: written meanwhile.
        longest: seconds that a batch took meanwhile; `usual` is the median before.
    """

    seconds: float
    verdicts: int
    longest: float
    usual: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """All figures at one size."""

    verdicts: int
    loaded: Loaded
    sizes: tuple[Size, ...]
    asked: tuple[Asked, ...]

    @property
    def bytes_per_verdict(self) -> float:
        """Of everything but payload text, indexes included."""
        counted = [size for size in self.sizes if size.name not in _APART]
        return sum(size.heap + size.indexes for size in counted) / self.verdicts

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **asdict(self),
            "rate": self.loaded.rate,
            "whole_rate": self.loaded.whole_rate,
            "bytes_per_verdict": self.bytes_per_verdict,
        }


class LedgerBench:
    """One scratch ledger that grows.

    Args:
        engine: of an empty, migrated ledger; its pool has two connections at least.
        traffic: all that will be sent.
        batch: records in one transaction.
        settings: of the same ledger, for its readers.
        questions: the saved queries by name.
        guide: more to ask, by name.
        repeats: of each, fewer of what is slow.
        postgres_cpu: seconds of CPU that Postgres has taken so far.
        tell: of progress.
    """

    def __init__(
        self,
        engine: LedgerEngine,
        traffic: Traffic,
        *,
        batch: int,
        settings: PostgresSettings,
        questions: Mapping[str, Question],
        guide: Mapping[str, Question],
        repeats: int,
        postgres_cpu: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._traffic = traffic
        self._batch = batch
        self._settings = settings
        self._questions = questions
        self._guide = guide
        self._repeats = repeats
        self._postgres_cpu = postgres_cpu
        self._tell = tell
        self._batches = traffic.batches(batch)
        self._taken = 0
        self._newest = traffic.since
        self._ledger = Ledger(engine, dimensions=_DIMENSIONS)
        collect_seldom()

    def grow_old(self, days: int) -> None:
        """Before the first stage: make the days that a ledger of this age has before, payloads for 90 of them."""
        self._tell(f"{days:,} days before")
        grow_old(
            self._engine, until=self._traffic.since.date(), verdict_days=days, payload_days=min(days, _PAYLOAD_DAYS)
        )

    def stage(self, verdicts: int) -> Stage:
        """Load until there are so many, then measure.

        Raises:
            LedgerUnavailable: Postgres is away.
        """
        loaded = self._load(verdicts)
        self._tell("the pool's answers, users' feedback, vacuum")
        answer_escalations(self._engine)
        give_feedback(self._engine)
        sum_up_trusted(self._engine, until=datetime.now(UTC))  # as the drift worker does at its pace
        vacuum(self._engine)
        return Stage(
            verdicts=self._taken,
            loaded=loaded,
            sizes=table_sizes(self._engine),
            asked=(
                *(self._ask(name, question) for name, question in self._questions.items()),
                *(self._ask(name, question, guide=True) for name, question in self._guide.items()),
            ),
        )

    def drop_a_day(self) -> Dropped:
        """Take the oldest day with verdicts away while batches go on being written; the empty ones go before that."""
        day = self._traffic.since.date()
        expire(self._engine, _all_after(day - timedelta(days=1)), now=datetime.now(UTC))
        with _writing(self._ledger, self._batches) as writing:
            time.sleep(3)  # so that there is a usual time of a batch
            before = len(writing)
            began = time.monotonic()
            expire(self._engine, _all_after(day), now=datetime.now(UTC))
            seconds = time.monotonic() - began
            during = writing[max(0, before - 1) :]
        return Dropped(
            seconds=seconds,
            verdicts=self._batch * len(during),
            longest=max(during, default=0.0),
            usual=statistics.median(writing[:before] or [0.0]),
        )

    def _load(self, until: int) -> Loaded:
        began, python, postgres = self._taken, time.process_time(), self._postgres_cpu()
        seconds: list[float] = []
        making = decoding = 0.0
        while self._taken < until:
            made = time.process_time()
            batch = next(self._batches)
            making += time.process_time() - made
            start = time.perf_counter()
            said = [decode_assessment(record.value) for record in batch]
            decoded = time.perf_counter()
            self._ledger.record(said)
            decoding += decoded - start
            seconds.append(time.perf_counter() - decoded)
            self._taken += len(batch)
            self._newest = max(self._newest, *(message.trace.event_time for message in said))
            if len(seconds) % 100 == 0:
                rate = 100 * len(batch) / sum(seconds[-100:])
                self._tell(f"{self._taken:,} of {until:,} verdicts, {rate:,.0f}/s")
        count = self._taken - began
        tenth = sorted(seconds)[-max(1, len(seconds) // 10) :]
        return Loaded(
            verdicts=count,
            seconds=sum(seconds),
            decoding=decoding,
            python_us=1e6 * (time.process_time() - python - making) / count,
            postgres_us=1e6 * (self._postgres_cpu() - postgres) / count,
            slowest=self._batch * len(tenth) / sum(tenth),
        )

    def _ask(self, name: str, question: Question, *, guide: bool = False) -> Asked:
        self._tell(f"query: {name}")
        # The newest answers may be hours old by now, and "the last hour" would be empty.
        question = replace(question, counted_from=self._newest)
        took: list[float] = []
        rows = 0
        while len(took) < self._repeats and (len(took) < _LEAST or sum(took) < _ENOUGH_MS):
            start = time.perf_counter()
            with answering(self._settings, question) as answer:
                rows = sum(1 for _ in answer.rows)
            took.append(1000 * (time.perf_counter() - start))
        cuts = statistics.quantiles(took, n=20, method="inclusive")
        return Asked(name=name, rows=rows, p50=statistics.median(took), p95=cuts[18], guide=guide)


@contextmanager
def _writing(ledger: Ledger, batches: Iterator[Sequence[Record]]) -> Iterator[Sequence[float]]:
    """Batches are written in a thread; gives the seconds that each took."""
    took: list[float] = []
    stop = threading.Event()

    def write() -> None:
        for batch in batches:
            said = [decode_assessment(record.value) for record in batch]
            start = time.monotonic()
            ledger.record(said)
            took.append(time.monotonic() - start)
            if stop.is_set():
                return

    thread = threading.Thread(target=write, name="bench-writer")
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()


def _all_after(day: date) -> dict[str, Keeping]:
    keeping = Keeping(days=(datetime.now(UTC).date() - day).days - 1)
    return {"verdicts": keeping, "payloads": keeping}


def traffic_of(verdicts: int, *, days: int, more: int) -> Traffic:
    """So many verdicts over the days until now, and `more` after them at the same pace, ahead of the clock.

    Raises:
        InvalidInput: those would lie more than six days ahead, where the ledger takes none.
    """
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    ahead = timedelta(days=days) * more / verdicts
    if ahead > timedelta(days=6):
        raise InvalidInput(f"--days {days}: for so few verdicts at most {max(2, 6 * verdicts // more)}")
    return Traffic(verdicts=verdicts + more, since=now - timedelta(days=days), until=now + ahead)
