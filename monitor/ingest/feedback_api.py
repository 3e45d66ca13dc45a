"""`POST /v1/feedback`: what became of answers. The caller waits for the disk, never for Kafka."""

from collections.abc import Callable, Iterator
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.ingest.body import BodyReader
from monitor.ingest.callers import Caller, Gate
from monitor.ingest.counters import Tally
from monitor.ingest.feedback_intake import TakenFeedback, take_feedback
from monitor.ingest.json_requests import JsonRequests, Limits, answer, random_ids, utc_now
from monitor.ingest.openapi import feedback
from monitor.ingest.openapi.parts import Description
from monitor.ingest.spool import Spool
from monitor.ingest.treatment import NoTreatment, Treatment


class FeedbackApi:
    """The route over its collaborators.

    Args:
        spool: of feedback.
        tally: of feedback: traces are counted elsewhere.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        gate: Gate,
        bodies: BodyReader,
        tally: Tally,
        limits: Limits,
        treatment: Treatment | None = None,
        clock: Callable[[], datetime] = utc_now,
        new_ids: Iterator[str] | None = None,
    ) -> None:
        self._requests = JsonRequests(spool, gate=gate, bodies=bodies, tally=tally, limits=limits)
        self._tally = tally
        self._limits = limits
        self._treatment = treatment or NoTreatment()
        self._clock = clock
        self._new_ids = new_ids or random_ids()

    @property
    def routes(self) -> list[Route]:
        """What it answers to."""
        return [Route("/v1/feedback", self.feedback, methods=["POST"])]

    @property
    def openapi(self) -> Description:
        """What it takes and gives."""
        return feedback.description()

    async def feedback(self, request: Request) -> Response:
        """202 once what was accepted is on disk."""
        return await self._requests.respond(request, take=self._take, answer=self._answer)

    def _take(self, plain: bytes, lines: bool, caller: Caller) -> TakenFeedback:  # noqa: FBT001 - as JsonRequests calls it
        return take_feedback(
            plain,
            lines=lines,
            max_batch=self._limits.max_batch,
            now=self._clock(),
            new_ids=self._new_ids,
            caller=caller,
            treat=self._treatment.feedback,
        )

    def _answer(self, taken: TakenFeedback) -> Response:
        told = {"accepted": len(taken.entries), "feedback_ids": taken.feedback_ids}
        return answer(told, taken.rejected, id_field="feedback_id", tally=self._tally, all_bad=not taken.entries)
