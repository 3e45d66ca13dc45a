"""What `groundwatch bench ledger` asks: the saved queries, and the questions of a guide such as docs/sql.md."""

import re
from pathlib import Path

from monitor.domain.errors import InvalidInput
from monitor.storage.asking import Question
from monitor.storage.asking_saved import saved_queries

_ANSWERED = re.compile(r"^(\S[^\n]*\?)\n\n```sql\n(.*?)```", re.DOTALL | re.MULTILINE)


def saved_questions() -> dict[str, Question]:
    """The shipped queries that can be asked as they are, by name."""
    return {
        name: Question(sql=saved.sql, parameters=saved.values({}))
        for name, saved in saved_queries(None).items()
        if not any(parameter.required for parameter in saved.parameters)
    }


def guide_questions(guide: Path) -> dict[str, str]:
    """The queries of a Markdown file by the question that stands before each: a line that ends in `?`.

    Raises:
        InvalidInput: the file cannot be read, holds none, or holds a query without a question.
    """
    try:
        text = guide.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{guide}: {error}") from None
    found = dict(_ANSWERED.findall(text))
    if not found or len(found) != text.count("```sql\n"):
        raise InvalidInput(f"{guide}: each ```sql block needs a question of its own, a line that ends in ?, before it")
    return found
