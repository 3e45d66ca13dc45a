"""Runs another library's faithfulness metric over rows: a script for an interpreter that has that library.

    python peer_driver.py deepeval --rows rows.jsonl --answers answers.jsonl --url http://…/v1 --model NAME

It imports nothing of groundwatch, so that the library may live in an environment of its own. Rows are taken from a
file that is written on while this runs, a JSON object a line, until a line says `null`; so whoever asks decides when
the next row is begun. Answers are appended to another: first `{"version"}`, then `{"score", "error", "seconds"}` a
row. Scores are shares of supported statements, as the library gives them.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

Score = Callable[[dict[str, Any]], Any]

QUIET = {
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
    "ERROR_REPORTING": "NO",
    "DEEPEVAL_UPDATE_WARNING_OPT_IN": "NO",
    "RAGAS_DO_NOT_TRACK": "true",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OTEL_SDK_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
"""Set before the libraries are imported: they report to their makers otherwise."""

_LONGEST_ERROR = 300
_POLL_SECONDS = 0.01


def deepeval_metric(url: str, model: str, max_tokens: int) -> Score:
    """DeepEval's FaithfulnessMetric as it comes, but for the closing reason: one call less, in its favour."""
    from deepeval.metrics import FaithfulnessMetric  # noqa: PLC0415 - deepeval need not be there when ragas runs
    from deepeval.models import LocalModel  # noqa: PLC0415 - deepeval need not be there when ragas runs
    from deepeval.test_case import LLMTestCase  # noqa: PLC0415 - deepeval need not be there when ragas runs

    judge = LocalModel(
        model=model, base_url=url, api_key="none", temperature=0.0, generation_kwargs={"max_tokens": max_tokens}
    )

    def score(row: dict[str, Any]) -> Any:
        case = LLMTestCase(input=row["question"], actual_output=row["answer"], retrieval_context=row["documents"])
        return FaithfulnessMetric(model=judge, include_reason=False).measure(case, _show_indicator=False)

    return score


def ragas_metric(url: str, model: str, max_tokens: int) -> Score:
    """Ragas' Faithfulness as it comes."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - comes with ragas, which need not be there
    from ragas.llms import llm_factory  # noqa: PLC0415 - ragas need not be there when deepeval runs
    from ragas.metrics.collections import Faithfulness  # noqa: PLC0415 - ragas need not be there when deepeval runs

    llm = llm_factory(model, client=AsyncOpenAI(base_url=url, api_key="none"), temperature=0.0, max_tokens=max_tokens)
    metric = Faithfulness(llm=llm)
    runner = asyncio.Runner()

    def score(row: dict[str, Any]) -> Any:
        asked = metric.ascore(user_input=row["question"], response=row["answer"], retrieved_contexts=row["documents"])
        return runner.run(asked).value

    return score


METRICS = {"deepeval": deepeval_metric, "ragas": ragas_metric}


def main() -> None:
    """Score every row; an exception of the library is an answer, too."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library", choices=METRICS)
    for name in ("--rows", "--answers"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-tokens", type=int, default=1024)
    wanted = parser.parse_args()
    os.environ.update(QUIET)
    rows, answers = wanted.rows.resolve(), wanted.answers.resolve()
    # The libraries leave folders where they run.
    os.chdir(answers.parent)
    score = METRICS[wanted.library](wanted.url, wanted.model, wanted.max_tokens)
    with answers.open("a", encoding="utf-8", buffering=1) as out:
        out.write(json.dumps({"version": version(wanted.library)}) + "\n")
        for row in _follow(rows):
            out.write(json.dumps(_answer(score, row)) + "\n")


def _follow(path: Path) -> Iterator[dict[str, Any]]:
    """The rows as they are written, until a `null`. Deadlines are the parent's: it kills a driver that is late."""
    with path.open(encoding="utf-8") as file:
        line = ""
        while True:
            line += file.readline()
            if not line.endswith("\n"):
                time.sleep(_POLL_SECONDS)
                continue
            row = json.loads(line)
            if row is None:
                return
            yield row
            line = ""


def _answer(score: Score, row: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    value, error = None, None
    try:
        value = score(row)
    except Exception as raised:  # noqa: BLE001 - whatever the library throws, the next row is asked about
        error = f"{type(raised).__name__}: {raised}"[:_LONGEST_ERROR]
    seconds = time.perf_counter() - began
    number = float(value) if isinstance(value, int | float) else None
    if error is None and (number is None or number != number):  # noqa: PLR0124 - NaN is what it tests
        error, number = f"the metric gave {value!r}"[:_LONGEST_ERROR], None
    return {"score": number, "error": error, "seconds": seconds}


if __name__ == "__main__":
    main()
