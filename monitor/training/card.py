"""What is written beside a trained screen: a model card for people, and a manifest of its rows for tests."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from monitor.judging.features import FEATURES, UNSIGNED
from monitor.training.compose import MOST_DISTRACTORS, MOST_PARTS
from monitor.training.logistic import Logistic
from monitor.training.rows import Row, short_hash
from monitor.training.screen import COMPOSED_PER_FILE, RIDGE, LeftOut
from monitor.training.split import CALIBRATION_SHARE

MANIFEST_FORMAT = "groundwatch.training.v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """One training, whole.

    Attributes:
        model: the fitted weights.
        onnx: the exported file.
        rows: the rows that it was fitted on.
        left_out: its quality on unseen families, file by file.
    """

    model: Logistic
    onnx: bytes
    rows: Sequence[Row]
    left_out: Sequence[LeftOut]


def manifest(trained: Trained) -> dict[str, Any]:
    """Which rows the model has seen: hashes of their ids and contexts (`rows.short_hash`), sorted."""
    return {
        "format": MANIFEST_FORMAT,
        "model_sha256": hashlib.sha256(trained.onnx).hexdigest(),
        "rows": len(trained.rows),
        "ids": sorted({short_hash(row.id) for row in trained.rows}),
        "contexts": sorted({short_hash(row.group) for row in trained.rows}),
    }


def card(trained: Trained) -> str:
    """The model card, as Markdown."""
    return "\n".join(
        [
            "# The screen",
            "",
            f"SHA-256 `{hashlib.sha256(trained.onnx).hexdigest()}`, {len(trained.onnx):,} bytes.",
            "",
            "A logistic regression over lexical evidence: how little of an answer its documents hold. It reads no",
            "meaning. It sees invented names, numbers and statements, and knows some that are only written otherwise",
            "(a round number, an acronym, an ISO date). It does not see a sentence whose words are all in the",
            "documents but wrongly put together, and it takes a free paraphrase for an invention. What each kind of",
            "evidence earned, and what was tried and failed, is in `docs/screen.md`.",
            "",
            "- **In**: question, documents, answer; English, other languages with less skill. Nothing is cut off.",
            "- **Out**: log-odds of *hallucinated*, trained with either label weighing half. They are raw scores:",
            "  read them through a calibration (`groundwatch calibrate`), never as probabilities.",
            "- **Licence**: Apache-2.0, like the code. The labelled rows that it was fitted on are not part of it.",
            "",
            *_quality(trained.left_out),
            *_method(trained),
            *_weights(trained.model),
        ]
    )


def _quality(left_out: Sequence[LeftOut]) -> list[str]:
    lines = [
        "## How good it is on sources that it has not seen",
        "",
        "Each file is judged by a screen trained without that file, without every other file of its family and",
        "without any row that shares a context with it. *Novel words* is the trivial cue: the share of the answer's",
        "words that the documents lack. Balanced accuracy is at log-odds 0, without calibration. *Long* is AUROC on",
        f"{COMPOSED_PER_FILE} traces composed of the file's rows: several answers over several documents.",
        "",
        (
            "| left out | rows | hallucinated | novel words AUROC | **screen AUROC** | balanced accuracy "
            "| novel words, long | screen, long |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.file} | {one.rows:,} | {one.hallucinated_share:.0%} | {one.trivial_auroc:.3f} | **{one.auroc:.3f}** "
        f"| {one.balanced_accuracy:.3f} | {one.trivial_composed_auroc:.3f} | {one.composed_auroc:.3f} |"
        for one in left_out
    ]
    lines += [
        (
            f"| mean | {sum(one.rows for one in left_out):,} | | {fmean(one.trivial_auroc for one in left_out):.3f} "
            f"| **{fmean(one.auroc for one in left_out):.3f}** "
            f"| {fmean(one.balanced_accuracy for one in left_out):.3f} "
            f"| {fmean(one.trivial_composed_auroc for one in left_out):.3f} "
            f"| {fmean(one.composed_auroc for one in left_out):.3f} |"
        ),
        "",
        "`halueval_qa` flatters everyone: there, the length of the answer alone tells the labels apart. No feature",
        "here counts words.",
        "",
    ]
    return lines


def _method(trained: Trained) -> list[str]:
    used = Counter((row.file, row.hallucinated) for row in trained.rows)
    files = sorted({row.file for row in trained.rows})
    return [
        "## How it was made",
        "",
        f"`groundwatch train screen`, ridge {RIDGE}, weights held to the sign that makes sense and rounded, so that",
        "the same rows make the same file. Files weigh the same, labels within a file too. To each file's own rows",
        f"come {COMPOSED_PER_FILE} composed of them: 2 to {MOST_PARTS} answers in a row over all their documents and",
        f"up to {MOST_DISTRACTORS} that are beside the point.",
        "",
        f"Never trained on: the {CALIBRATION_SHARE:.0%} of the contexts that calibration uses, the demo's sample, and",
        "any row that shares a context with either. The manifest beside this file holds hashes of all rows used.",
        "",
        "| trained on | faithful | hallucinated |",
        "|---|---|---|",
        *(f"| {file} | {used[file, False]:,} | {used[file, True]:,} |" for file in files),
        "",
    ]


def _weights(model: Logistic) -> list[str]:
    rows = zip(FEATURES, model.weights, strict=True)
    return [
        "## Weights",
        "",
        "In log-odds per unit; every feature is a share between 0 and 1.",
        "",
        "| feature | weight |",
        "|---|---|",
        *(f"| {name}{' (free sign)' if name in UNSIGNED else ''} | {weight:.4f} |" for name, weight in rows),
        f"| bias | {model.bias:.4f} |",
        "",
    ]
