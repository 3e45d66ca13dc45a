"""The judges of a benchmark, opened from settings."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from monitor.benchmarks.asking import OneByOne, Panelist, Result, SeveralAtOnce
from monitor.benchmarks.scores import Ask
from monitor.config import Settings
from monitor.domain.errors import InvalidSettings
from monitor.domain.judgement import Judge, JudgeIdentity, Opinion, Tier, Usage
from monitor.domain.trace import Origin, Trace
from monitor.domain.verdict import Verdict
from monitor.embedded.offline import offline_cascade, served_pool
from monitor.inference.encoder_loading import load_encoder
from monitor.inference.loading import load_edge, load_screen
from monitor.inference.pool import PoolJudge
from monitor.judging.fusion import logit
from monitor.outbound import AsyncHttpClient
from monitor.services.offline import OfflineCascade

_OFFLINE = Origin(topic="offline", partition=0, offset=0)


class Benched(StrEnum):
    """Who can be measured."""

    SCREEN = "screen"
    ENCODER = "encoder"
    GGUF = "gguf"
    POOL = "pool"
    CASCADE = "cascade"


@contextmanager
def opened(
    who: Benched, settings: Settings, *, gguf: Path | None = None, name: str | None = None, deadline_seconds: float
) -> Iterator[Panelist]:
    """One judge, ready to be asked.

    Args:
        who: which.
        settings: as the workers read them; the edge judge's share of the time does not apply.
        gguf: model of the GGUF judge, and of the cascade's; `gguf.path` of the settings when None.
        name: what tables call it; its kind when None.
        deadline_seconds: for one row, of the judges in this process; the pool has its own.

    Raises:
        InvalidSettings: no model is named for a GGUF judge, or the pool has no address.
        JudgeUnavailable: the judge cannot be loaded.
    """
    if gguf is not None:
        settings = settings.model_copy(update={"gguf": settings.gguf.model_copy(update={"path": gguf})})
    title = name or who.value
    if who is Benched.POOL:
        with _pool(title, settings) as pool:
            yield pool
    elif who is Benched.CASCADE:
        with offline_cascade(_unhurried(settings, deadline_seconds)) as cascade:
            identity = cascade_identity(cascade)
            yield OneByOne(name=title, identity=identity, ask=lambda trace: assessed(cascade, trace))
    else:
        judge = _local(who, settings)
        yield OneByOne(name=title, identity=judge.identity, ask=_within(judge, deadline_seconds))


def gguf_names(paths: Sequence[Path]) -> list[str]:
    """A name for each of several GGUF judges: their model files'."""
    return ["gguf"] if len(paths) == 1 else [f"gguf {path.stem}" for path in paths]


def _local(who: Benched, settings: Settings) -> Judge:
    if who is Benched.SCREEN:
        return load_screen(settings)
    judge: Judge | None = load_encoder(settings) if who is Benched.ENCODER else load_edge(settings)
    if judge is None:
        missing = "encoder.manifest" if who is Benched.ENCODER else "gguf.path"
        raise InvalidSettings(f"--judge {who} needs --{who} PATH, or {missing} in the settings")
    return judge


def _within(judge: Judge, deadline_seconds: float) -> Ask:
    return lambda trace: judge.judge(trace, deadline_seconds=deadline_seconds)


@contextmanager
def _pool(name: str, settings: Settings) -> Iterator[Panelist]:
    with served_pool(settings.pool) as served, asyncio.Runner() as runner:
        client = AsyncHttpClient(deadline_seconds=served.deadline_seconds)
        judge = PoolJudge(served, client)
        try:
            yield SeveralAtOnce(
                name=name,
                identity=judge.identity,
                ask=judge.judge,
                concurrency=served.concurrency,
                runner=runner,
            )
        finally:
            runner.run(client.close())


def _unhurried(settings: Settings, deadline_seconds: float) -> Settings:
    # A share of 1 of the wall time never runs out, so that the same rows give the same figures.
    policy = settings.policy.model_copy(update={"edge_budget_share": 1.0})
    gguf = settings.gguf.model_copy(update={"deadline_seconds": deadline_seconds})
    return settings.model_copy(update={"policy": policy, "gguf": gguf})


def cascade_identity(cascade: OfflineCascade) -> JudgeIdentity:
    """A cascade as one judge: judges, calibration and policy are in its version."""
    judges = " + ".join(judge.name for judge in cascade.judges)
    return JudgeIdentity(name="cascade", tier=Tier.EDGE, model=judges, model_digest=cascade.version)


def assessed(cascade: OfflineCascade, trace: Trace) -> Result:
    """A cascade's verdict as an opinion: its probability in log-odds, and what all its judges used."""
    assessment = cascade.assess([(trace, _OFFLINE)])[0]
    if not isinstance(assessment.outcome, Verdict):
        return assessment.outcome
    used = [one.result.usage for one in assessment.judgements if isinstance(one.result, Opinion)]
    usage = Usage(
        prompt_tokens=sum(one.prompt_tokens for one in used),
        completion_tokens=sum(one.completion_tokens for one in used),
        cost_usd=sum(one.cost_usd for one in used),
    )
    return Opinion(raw_score=logit(assessment.outcome.probability), usage=usage)
