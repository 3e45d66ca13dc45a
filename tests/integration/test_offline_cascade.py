"""The whole cascade from two model paths, with a real server of this machine's own as the pool."""

from datetime import UTC, datetime

import pytest

from monitor.config import load_settings
from monitor.domain.judgement import Opinion, Tier
from monitor.domain.trace import Document, Origin, Trace
from monitor.domain.verdict import Action
from monitor.embedded.offline import offline_cascade, served_pool
from monitor.inference.gguf import file_digest
from monitor.inference.loading import shipped_gguf

pytestmark = [pytest.mark.gguf, pytest.mark.slow]

MODEL = shipped_gguf()


def settings(**policy):
    found = load_settings()
    own = {"escalate_unsure_share": 1.0, "unsure_low": 0.0, "unsure_high": 1.0, "edge": "all", **policy}
    return found.model_copy(
        update={
            "gguf": found.gguf.model_copy(update={"path": MODEL, "prompt": "support", "context_tokens": 1024}),
            "pool": found.pool.model_copy(update={"path": MODEL, "prompt": "support"}),
            "policy": found.policy.model_copy(update=own),
        }
    )


def test_two_model_paths_are_a_cascade_of_three_judges():
    trace = Trace(
        trace_id="t",
        event_time=datetime(2026, 1, 1, tzinfo=UTC),
        tenant="a",
        service="b",
        environment="c",
        question="Who wrote it?",
        documents=(Document(id="1", text="Ada Lovelace wrote the first program in 1843."),),
        answer="Ada Lovelace wrote it.",
    )
    with offline_cascade(settings()) as cascade:
        assert [judge.name for judge in cascade.judges] == ["screen", "gguf", "pool"]
        pool = cascade.judges[-1]
        assert (pool.tier, pool.model_digest) == (Tier.POOL, file_digest(MODEL))
        (assessed,) = cascade.assess([(trace, Origin(topic="offline", partition=0, offset=0))])
    assert assessed.decision.action is Action.ESCALATE
    assert [one.judge.tier for one in assessed.judgements] == [Tier.SCREEN, Tier.EDGE, Tier.POOL]
    assert all(isinstance(one.result, Opinion) for one in assessed.judgements)


def test_a_url_is_used_as_it_is():
    pool = settings().pool.model_copy(update={"url": "http://pool.example/v1"})
    with served_pool(pool) as served:
        assert served is pool
