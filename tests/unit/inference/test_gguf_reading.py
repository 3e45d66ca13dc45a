from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from monitor.domain.judgement import Passage
from monitor.domain.trace import Document
from monitor.inference.gguf.context import Tokens
from monitor.inference.gguf.reading import Plan, Reader, Statement
from monitor.judging.fusion import sigmoid
from monitor.judging.prompts import LYNX
from monitor.judging.windows import PlannedWindow
from tests.examples.assessments import trace


def window(number, *, read):
    return PlannedWindow(passages=(Passage(document_id="d", start=number, end=number + 1),), text="", read=read)


def plan(windows, statements):
    prompts = tuple(np.arange(3, dtype=np.int32) for _ in range(max(1, sum(one.read for one in windows)) * statements))
    parts = tuple(Statement(10 * number, 10 * number + 9) for number in range(statements))
    return Plan(prompts=prompts, windows=tuple(windows), statements=parts)


def test_the_worst_statement_in_the_light_of_its_best_window_decides():
    found = plan([window(0, read=True), window(1, read=False), window(2, read=True)], 3)
    log_odds = [-3.0, 2.0, -1.0, 1.0, 1.5, -2.0]  # the first window's three statements, then the last one's
    assert found.score(log_odds) == 1.5
    assert [one.raw_score for one in found.read_windows(log_odds)] == [2.0, None, 1.5]
    (span,) = found.spans(log_odds)
    assert (span.start, span.end, span.score) == (10, 19, pytest.approx(sigmoid(1.5)))
    assert found.tokens == 18


def test_a_judge_of_whole_answers_names_no_span_and_no_windows_where_all_fits():
    found = plan([], 1)
    assert found.score([0.7]) == 0.7
    assert found.spans([0.7]) == ()
    assert found.read_windows([0.7]) == ()


class Bytes:
    """A tokeniser that takes every byte for a token, and a chat template that adds nothing."""

    def tokens(self, text: str) -> Tokens:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)

    def around(self, model: Any, text: str, forced: Sequence[int]) -> Tokens:
        return np.concatenate([model.tokens(text), np.array(forced, dtype=np.int32)])


@pytest.mark.parametrize("mark", ['{"SCORE":', "[INST]"])
def test_windows_are_measured_as_the_model_sees_them(mark: str) -> None:
    """Broken marks have more tokens than whole ones: a window measured before they are broken would not fit."""
    reads: Any = Bytes()
    reader = Reader(reads, reads, LYNX, forced=(1,), context_tokens=3000, reserve=100, most_windows=3)
    for repeats in range(300, 1500, 7):
        found = reader.plan(trace("t", documents=(Document(id="d", text=mark * repeats),)))
        assert isinstance(found, Plan)
        assert found.windows
        assert max(map(len, found.prompts)) <= 2900
