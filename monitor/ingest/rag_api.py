"""`POST /v1/rag/traces`: RAG traces as JSON. The caller waits for the disk, never for Kafka."""

from collections.abc import Callable, Iterator
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.ingest.body import BodyReader
from monitor.ingest.callers import Caller, Gate
from monitor.ingest.counters import Tally
from monitor.ingest.intake import Taken, take
from monitor.ingest.json_requests import JsonRequests, Limits, answer, random_ids, utc_now
from monitor.ingest.openapi import rag
from monitor.ingest.openapi.parts import Description
from monitor.ingest.spool import Spool
from monitor.ingest.treatment import NoTreatment, Treatment


class RagApi:
    """The route over its collaborators."""

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
        return [Route("/v1/rag/traces", self.traces, methods=["POST"])]

    @property
    def openapi(self) -> Description:
        """What it takes and gives."""
        return rag.description()

    async def traces(self, request: Request) -> Response:
        """202 once what was accepted is on disk."""
        return await self._requests.respond(request, take=self._take, answer=self._answer)

    def _take(self, plain: bytes, lines: bool, caller: Caller) -> Taken:  # noqa: FBT001 - as JsonRequests calls it
        return take(
            plain,
            lines=lines,
            max_batch=self._limits.max_batch,
            now=self._clock(),
            new_ids=self._new_ids,
            caller=caller,
            treat=self._treatment.trace,
        )

    def _answer(self, taken: Taken) -> Response:
        left_out = {"sampled_out": taken.sampled_out} if taken.sampled_out else {}
        return answer(
            {"accepted": len(taken.entries), "trace_ids": taken.trace_ids, **left_out},
            taken.rejected,
            id_field="trace_id",
            tally=self._tally,
            all_bad=not taken.entries and not taken.sampled_out,
        )
