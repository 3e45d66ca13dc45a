"""A replay stopped, killed and resumed on both ends: one verdict more of each trace, and the old ones as they were."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from monitor.config import (
    JudgeSettings,
    KafkaSettings,
    LedgerSettings,
    PolicySettings,
    PostgresSettings,
    Settings,
    to_environment,
)
from monitor.embedded.processes import Child
from monitor.storage.accounting import accounting
from monitor.storage.recount import recount
from monitor.streaming.topics import replays_group
from tests.kafka.server import ApacheKafka
from tests.support.pipeline import DEADLINE, Pipeline
from tests.support.processes import command, worker

TRACES = int(os.environ.get("GROUNDWATCH_REPLAY_TRACES", "300"))
PATIENCE = DEADLINE + TRACES / 20
KILLS = 2
# Longer than the sender's pauses between chunks, so that it surely meets a broker that is away.
AWAY_SECONDS = 15.0
# Slow enough to be killed on the way.
SLOWLY = TRACES / 40
NO_POOL = {"audit_share": 0, "escalate_unsure_share": 0}


@pytest.fixture
def settings(kafka_settings: KafkaSettings, postgres_url: str) -> Settings:
    return Settings(
        kafka=kafka_settings,
        postgres=PostgresSettings(url=SecretStr(postgres_url)),
        judge=JudgeSettings(batch_size=16, batch_seconds=0.1),
        ledger=LedgerSettings(batch_size=16, batch_seconds=0.1),
        policy=PolicySettings(**NO_POOL),
    )


@dataclass
class Replays:
    """The second version: its worker, its sender, and what can be seen of both."""

    environment: dict[str, str]
    engine: Engine
    directory: Path

    def worker(self) -> Child:
        return worker("judge", self.directory, self.environment, "--replays")

    def send(self, *arguments: str, rate: float = 500) -> Child:
        return command(self.directory, self.environment, "replay", *arguments, "--rate", str(rate))

    def say(self, *arguments: str) -> Any:
        program = Path(sys.executable).with_name("groundwatch")
        done = subprocess.run(
            [program, "replay", *arguments], env=self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), parameters)]

    def sent(self) -> int:
        return int(self.rows("select coalesce(sum(sent), 0) from replays")[0][0])

    def judged(self) -> int:
        return int(self.rows("select count(*) from verdicts where replay_id is not null")[0][0])

    def behind(self) -> Counter[str]:
        """Records that each consumer group has to read, as `groundwatch status` says."""
        program = Path(sys.executable).with_name("groundwatch")
        told = subprocess.run(
            [program, "status", "--json"], env=self.environment, capture_output=True, text=True, check=True
        )
        lag: Counter[str] = Counter()
        for topic in json.loads(told.stdout)["topics"]:
            lag[topic["group"]] += topic["lag"]
        return lag

    def wait_for_none_waiting(self, child: Child, version: str) -> None:
        def done() -> bool:
            said = json.loads(self.say("status", "--json"))
            return all(one["waiting"] == 0 for one in said if one["judge_version"] == version)

        child.wait_until(done, deadline_seconds=DEADLINE)


@pytest.fixture
def replays(settings: Settings, engine: Engine, tmp_path: Path) -> Replays:
    policy = PolicySettings(**NO_POOL, threshold=0.2)
    return Replays(to_environment(settings.model_copy(update={"policy": policy})), engine, tmp_path)


@pytest.fixture
def judged(line: Pipeline) -> Child:
    """All traces have a verdict of the first version; the ledger's worker goes on."""
    judge, ledger = line.start("judge"), line.start("ledger")
    line.send(TRACES)
    line.settle(judge, ledger)
    line.check()
    assert judge.stop() == 0
    return ledger


OLD = "select * from verdicts where replay_id is null order by tenant, trace_id"
NEW = "select tenant, trace_id, judge_version from verdicts where replay_id is not null order by tenant, trace_id"


def test_a_replay_stopped_killed_and_resumed(judged: Child, replays: Replays) -> None:
    before, accounted = replays.rows(OLD), accounting(replays.engine)
    version = replays.say("version").strip()
    sender = replays.send("start", rate=SLOWLY)
    workers = replays.worker()
    for number in range(KILLS):
        reached, seen = replays.sent(), replays.judged()
        sender.wait_until(lambda reached=reached: replays.sent() > reached, deadline_seconds=PATIENCE)
        sender.kill()
        workers.wait_until(lambda seen=seen: replays.judged() > seen, deadline_seconds=PATIENCE)
        workers.kill()
        assert replays.sent() < TRACES, f"kill {number + 1} came too late: all was sent"
        workers, sender = replays.worker(), replays.send("resume", "1", rate=SLOWLY)
    reached = replays.sent()
    sender.wait_until(lambda: replays.sent() > reached, deadline_seconds=PATIENCE)
    assert sender.stop() == 128 + signal.SIGTERM
    assert json.loads(replays.say("status", "1", "--json"))["state"] == "stopped"
    sender, reached = replays.send("resume", "1", rate=SLOWLY), replays.sent()
    sender.wait_until(lambda: replays.sent() > reached, deadline_seconds=PATIENCE)
    assert json.loads(replays.say("stop", "1", "--json"))["state"] == "stopped"
    assert sender.wait(deadline_seconds=PATIENCE) == 0
    at = replays.sent()
    assert at < TRACES, "stopped too late: all was sent"
    assert replays.send("resume", "1").wait(deadline_seconds=PATIENCE) == 0
    assert json.loads(replays.say("status", "1", "--json"))["state"] == "sent"
    workers.wait_until(lambda: replays.judged() >= TRACES, deadline_seconds=PATIENCE)
    assert workers.stop() == 0
    assert replays.rows(NEW) == [(row[0], row[1], version) for row in before]
    assert replays.rows(OLD) == before
    assert accounting(replays.engine) == accounted
    assert recount(replays.engine) == []
    assert judged.returncode is None
    check_report(replays)


@pytest.mark.apache_kafka
# kafka-python leaves the sockets of refused connections to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_replay_goes_on_when_the_broker_is_back(judged: Child, replays: Replays, apache_kafka: ApacheKafka) -> None:
    before, accounted = replays.rows(OLD), accounting(replays.engine)
    version = replays.say("version").strip()
    sender, workers = replays.send("start", rate=SLOWLY), replays.worker()
    workers.wait_until(lambda: replays.judged() > 0, deadline_seconds=PATIENCE)
    apache_kafka.stop()
    at = replays.sent()
    assert at < TRACES, "stopped too late: all was sent"
    time.sleep(AWAY_SECONDS)  # the outage itself: nothing can be waited for meanwhile
    apache_kafka.start()
    assert sender.wait(deadline_seconds=PATIENCE) == 0
    workers.wait_until(lambda: replays.judged() >= TRACES, deadline_seconds=PATIENCE)
    assert replays.rows(NEW) == [(row[0], row[1], version) for row in before]
    assert replays.rows(OLD) == before
    assert accounting(replays.engine) == accounted
    assert recount(replays.engine) == []
    assert [child.returncode for child in (judged, workers)] == [None, None]
    gc.collect()


def check_report(replays: Replays) -> None:
    """The report says what counting the verdicts by hand says."""
    said = json.loads(replays.say("report", "1", "--json"))
    pairs = replays.rows(
        "select old.service, old.label, new.label, old.probability, new.probability, old.trace_id"
        " from verdicts as old join verdicts as new using (tenant, trace_id, evaluator)"
        " where old.replay_id is null and new.replay_id = 1"
    )
    for name, found in (("all", said["whole"]), *((one["service"], one) for one in said["segments"])):
        labels = Counter((old, new) for service, old, new, *_ in pairs if name in ("all", service))
        n = labels.total()
        same = sum(count for (old, new), count in labels.items() if old == new) / n
        rates = [sum(c for pair, c in labels.items() if pair[side] == "hallucinated") / n for side in (0, 1)]
        chance = rates[0] * rates[1] + (1 - rates[0]) * (1 - rates[1])
        assert (found["n"], found["missing"]) == (n, 0)
        assert found["agreement"]["value"] == pytest.approx(same)
        assert [found[side]["value"] for side in ("old_rate", "new_rate")] == pytest.approx(rates)
        assert found["kappa"] == (None if chance == 1 else pytest.approx((same - chance) / (1 - chance)))
        assert found["now_hallucinated"] == labels["faithful", "hallucinated"]
    changed = [abs(old - new) for _, label, other, old, new, _ in pairs if label != other]
    shown = [abs(one["old_probability"] - one["new_probability"]) for one in said["clearest"]]
    assert shown == pytest.approx(sorted(changed, reverse=True)[:10])


def test_each_version_judges_its_own_and_waits_for_no_other(judged: Child, replays: Replays, line: Pipeline) -> None:
    few = ("start", "--service", "desk", "--until", "2026-03-01T00:00:10Z")
    nobodys = "cascade@0123456789ab"
    assert replays.send(*few, "--judge-version", nobodys).wait(deadline_seconds=60) == 0
    assert replays.send(*few).wait(deadline_seconds=60) == 0
    version = replays.say("version").strip()
    other = worker("judge", replays.directory, to_environment(line.settings), "--replays")
    right = replays.worker()
    right.wait_until(lambda: replays.judged() == 5, deadline_seconds=DEADLINE)
    waiting = {one["judge_version"]: one["waiting"] for one in json.loads(replays.say("status", "--json"))}
    # Nobody has come for the first five; the others' worker may have committed a moment later than the ledger wrote.
    assert waiting[nobodys] >= 5
    replays.wait_for_none_waiting(right, version)
    kafka = line.settings.kafka
    behind = replays.behind()
    assert behind[replays_group(kafka, nobodys)] >= 5
    assert replays_group(kafka, version) not in behind
    assert [worker.stop() for worker in (right, other)] == [0, 0]
    # What the version has judged is left out of the next replay, and nothing is sent.
    assert replays.send("start", "--until", "2026-03-01T00:00:10Z", "--service", "desk").wait(deadline_seconds=60) == 0
    assert replays.rows("select sent from replays order by replay_id") == [(5,), (5,), (0,)]
    sums = ", ".join(f"sum({name})" for name in ("accepted", "verdicts", "duplicates", "in_flight", "lost"))
    accounted = f"select {sums} from report.replay_accounting_by_partition"
    assert replays.rows(accounted) == [(10, 5, 0, 5, None)]
    assert recount(replays.engine) == []
    assert judged.returncode is None
