"""Labelled rows that are told apart by their words, made from a seed."""

import json
import random
from pathlib import Path
from typing import Any

NOUNS = ("river", "castle", "engine", "garden", "painter", "bridge", "harbour", "violin", "market", "island", "tower")


def labelled(name: str, count: int, *, family: str | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Rows in the project's own format, every second one hallucinated: its answer names another object."""
    choice = random.Random(f"{name}{seed}")
    rows = []
    for number in range(count):
        who, what, other = choice.sample(NOUNS, 3)
        failed = number % 2 == 1
        rows.append(
            {
                "id": f"{name}-{number}",
                "dataset": family or name,
                "question": f"What of the {who}?",
                "context": [f"In {1800 + number} the {who} of {name} found the {what}."],
                "answer": f"The {who} found the {other if failed else what}.",
                "label": "FAIL" if failed else "PASS",
            }
        )
    return rows


def halubench(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows in HaluBench's columns."""
    return [
        {
            "id": row["id"],
            "passage": row["context"][0],
            "question": row["question"],
            "answer": row["answer"],
            "label": row["label"],
            "source_ds": row["dataset"],
            "score": None,
        }
        for row in rows
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as JSON lines in a file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
