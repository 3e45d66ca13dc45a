"""What the ledger takes, what it costs in bytes, and how fast it answers: at one size after another."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from monitor.benchmarks.ledger_load import Traffic
from monitor.config import PostgresSettings
from monitor.services.feedback import FeedbackService
from monitor.services.ledger import LedgerService
from monitor.storage.asking import Question, answering
from monitor.storage.engine import LedgerEngine
from monitor.storage.feedback import FeedbackBook
from monitor.storage.ledger import Ledger
from monitor.storage.measuring import Size, answer_escalations, table_sizes, vacuum
from monitor.storage.retention import Keeping, expire

_DIMENSIONS = ("generator_model", "prompt_version")
_APART = ("payloads",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """How fast verdicts were taken.

    Attributes:
        verdicts: taken in this stage.
        seconds: from a batch's bytes to its commit, all batches together; making them is left out.
        python_us, postgres_us: CPU time a verdict.
        slowest: rate of the slowest tenth of the batches.
    """

    verdicts: int
    seconds: float
    python_us: float
    postgres_us: float
    slowest: float

    @property
    def rate(self) -> float:
        """Verdicts a second."""
        return self.verdicts / self.seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """How long a query took, in milliseconds at a client that connects for it and reads all rows."""

    name: str
    rows: int
    p50: float
    p95: float


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
        return {**asdict(self), "rate": self.loaded.rate, "bytes_per_verdict": self.bytes_per_verdict}


class LedgerBench:
    """One scratch ledger that grows.

    Args:
        engine: of an empty, migrated ledger; its pool has two connections at least.
        traffic: all that will be sent.
        batch: records in one transaction.
        settings: of the same ledger, for its readers.
        questions: by name.
        repeats: of each question.
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
        repeats: int,
        postgres_cpu: Callable[[], float],
        tell: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._traffic = traffic
        self._batch = batch
        self._settings = settings
        self._questions = questions
        self._repeats = repeats
        self._postgres_cpu = postgres_cpu
        self._tell = tell
        self._batches = traffic.batches(batch)
        self._taken = 0
        self._service = _service(engine)

    def stage(self, verdicts: int) -> Stage:
        """Load until there are so many, then measure.

        Raises:
            LedgerUnavailable: Postgres is away.
        """
        loaded = self._load(verdicts)
        self._tell("the pool's answers, vacuum")
        answer_escalations(self._engine)
        vacuum(self._engine)
        return Stage(
            verdicts=self._taken,
            loaded=loaded,
            sizes=table_sizes(self._engine),
            asked=tuple(self._ask(name, question) for name, question in self._questions.items()),
        )

    def drop_a_day(self) -> Dropped:
        """Take the oldest day away while batches go on being written."""
        with _writing(self._service, self._batches) as writing:
            time.sleep(3)  # so that there is a usual time of a batch
            before = len(writing)
            began = time.monotonic()
            day = self._traffic.since.date()
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
        making = 0.0
        while self._taken < until:
            made = time.process_time()
            batch = next(self._batches)
            making += time.process_time() - made
            start = time.perf_counter()
            self._service.work(batch)
            seconds.append(time.perf_counter() - start)
            self._taken += len(batch)
            if len(seconds) % 100 == 0:
                rate = 100 * len(batch) / sum(seconds[-100:])
                self._tell(f"{self._taken:,} of {until:,} verdicts, {rate:,.0f}/s")
        count = self._taken - began
        tenth = sorted(seconds)[-max(1, len(seconds) // 10) :]
        return Loaded(
            verdicts=count,
            seconds=sum(seconds),
            python_us=1e6 * (time.process_time() - python - making) / count,
            postgres_us=1e6 * (self._postgres_cpu() - postgres) / count,
            slowest=self._batch * len(tenth) / sum(tenth),
        )

    def _ask(self, name: str, question: Question) -> Asked:
        self._tell(f"query: {name}")
        took: list[float] = []
        rows = 0
        for _ in range(self._repeats):
            start = time.perf_counter()
            with answering(self._settings, question) as answer:
                rows = sum(1 for _ in answer.rows)
            took.append(1000 * (time.perf_counter() - start))
        cuts = statistics.quantiles(took, n=20, method="inclusive")
        return Asked(name=name, rows=rows, p50=statistics.median(took), p95=cuts[18])


def _service(engine: LedgerEngine) -> LedgerService:
    clock = partial(datetime.now, UTC)
    return LedgerService(
        ledger=Ledger(engine, dimensions=_DIMENSIONS),
        dead_letters_topic="rag.dead-letters.v1",
        feedback=FeedbackService(book=FeedbackBook(engine), topic="rag.feedback.v1", clock=clock),
        clock=clock,
        observe=lambda _: None,
    )


@contextmanager
def _writing(service: LedgerService, batches: Iterator[Any]) -> Iterator[Sequence[float]]:
    """Batches are written in a thread; gives the seconds that each took."""
    took: list[float] = []
    stop = threading.Event()

    def write() -> None:
        for batch in batches:
            start = time.monotonic()
            service.work(batch)
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


def traffic_of(verdicts: int, *, days: int) -> Traffic:
    """Verdicts of whole days, the last of which was yesterday."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Traffic(verdicts=verdicts, days=days, until=today + timedelta(hours=datetime.now(UTC).hour))
