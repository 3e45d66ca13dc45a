import io
import logging

from monitor.services.logs import WithoutWords

SENT = "jane@example.com"


def fails() -> None:
    try:
        int(SENT)
    except ValueError as error:
        raise KeyError(SENT) from error


def test_an_exception_is_logged_with_its_kind_and_place_but_not_with_its_words() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(WithoutWords("%(message)s"))
    log = logging.Logger("test")  # noqa: LOG001 - one that nobody else hears
    log.addHandler(handler)
    try:
        fails()
    except KeyError:
        log.exception("it failed")
    told = stream.getvalue()
    assert SENT not in told
    assert "it failed" in told
    assert "KeyError" in told
    assert "ValueError" in told
    assert "in fails" in told
