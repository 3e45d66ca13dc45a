import json
import re
from pathlib import Path

from monitor.ingest.feedback_intake import take_feedback
from monitor.wire import EARLIEST, FeedbackV1

PAGE = (Path(__file__).parents[3] / "docs" / "feedback.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(found)


def test_the_curl_example_is_answered_as_the_page_says() -> None:
    sent = re.findall(r"-d '(.*)'", block("sh"), flags=re.DOTALL)[0].encode()
    now = EARLIEST.replace(year=2026)
    taken = take_feedback(sent, lines=False, max_batch=1, now=now, new_ids=iter(()))
    answer = {"accepted": len(taken.entries), "feedback_ids": taken.feedback_ids, "rejected": []}
    assert answer == json.loads(block("json"))
    assert taken.rejected == []


def test_the_page_tells_of_every_field() -> None:
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = set(re.findall(r"`(\w+)`", " ".join(cells)))
    assert told == set(FeedbackV1.model_fields) - {"schema_"}
