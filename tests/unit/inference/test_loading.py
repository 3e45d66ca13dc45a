import json
from datetime import UTC, datetime

import pytest

from monitor.config import GgufSettings, PolicySettings, PoolSettings, ScreenSettings, Settings
from monitor.domain.errors import InvalidSettings, JudgeUnavailable
from monitor.domain.judgement import Tier
from monitor.inference.loading import load_calibration, load_cascade, load_edge, load_policy, load_screen
from monitor.routing.policy import EdgeUse


def test_the_shipped_calibration_is_of_the_shipped_screen():
    calibration = load_calibration()
    shipped = calibration.judges[load_screen(Settings()).identity.version]
    assert shipped.informative
    assert shipped.auroc > 0.75
    assert shipped.ece <= 0.05


def test_the_shipped_calibration_gives_the_small_gguf_model_no_weight():
    calibration = load_calibration()
    (small,) = (judge for judge in calibration.judges.values() if judge.version.startswith("gguf@"))
    assert small.rows >= 200
    assert not small.informative
    assert calibration.fusions[0].weights[small.version] == 0


def test_a_cascade_from_the_defaults_has_the_screen_alone():
    cascade = load_cascade(Settings(), clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    assert [identity.tier for identity in cascade.judges] == [Tier.SCREEN]
    assert cascade.version == load_cascade(Settings()).version


def test_no_model_is_loaded_where_the_policy_asks_no_edge_judge(tmp_path):
    settings = Settings(gguf=GgufSettings(path=tmp_path / "none.gguf"), policy=PolicySettings(edge="none"))
    assert len(load_cascade(settings).judges) == 1
    with pytest.raises(JudgeUnavailable, match="no such file"):
        load_edge(settings)


def test_settings_become_the_policy():
    wanted = PolicySettings(threshold=0.4, edge="all", unsure_low=0.1, unsure_high=0.2, audit_share=0.5)
    policy = load_policy(Settings(policy=wanted))
    assert (policy.threshold, policy.edge, policy.unsure_low, policy.unsure_high) == (0.4, EdgeUse.ALL, 0.1, 0.2)
    assert policy.audit_share == 0.5


@pytest.mark.parametrize(
    ("escalate", "pool", "escalates"),
    [
        ("auto", None, False),
        ("auto", "http://pool/v1", True),
        ("always", None, True),
        ("never", "http://pool/v1", False),
    ],
)
def test_traces_are_sent_to_a_pool_only_where_there_is_one(escalate, pool, escalates):
    settings = Settings(policy=PolicySettings(escalate=escalate), pool=PoolSettings(url=pool))
    assert load_policy(settings).escalates is escalates


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"format": "x"}), "\x00"])
def test_a_file_that_is_no_calibration_is_named(tmp_path, content):
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(InvalidSettings):
        load_calibration(path)
    with pytest.raises(InvalidSettings, match=r"no\.json"):
        load_calibration(tmp_path / "no.json")


def test_a_missing_screen_model_is_named(tmp_path):
    with pytest.raises(JudgeUnavailable, match=r"no\.onnx"):
        load_cascade(Settings(screen=ScreenSettings(model=tmp_path / "no.onnx")))
