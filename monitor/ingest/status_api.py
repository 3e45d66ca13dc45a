"""What a sidecar says of itself: alive, ready, and how it stands."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.ingest.callers import Gate
from monitor.ingest.checker import Checking
from monitor.ingest.counters import Tally
from monitor.ingest.dispatch_link import DispatchState
from monitor.ingest.forward import ForwardState, KafkaState
from monitor.ingest.http import JsonResponse, refusal
from monitor.ingest.openapi import status
from monitor.ingest.openapi.parts import Description
from monitor.ingest.refused import RequestRefused
from monitor.ingest.spool import Spool
from monitor.ingest.spool_records import SpoolState
from monitor.ingest.tee_counters import TeeState
from monitor.ingest.tls import CertificateState

# A forwarder that has nothing to send has not tried: what another one knows counts for more.
_FROM_WORST = (KafkaState.DOWN, KafkaState.UP, KafkaState.UNTRIED)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackStanding:
    """Where feedback waits, and how much of it there was."""

    spool: Spool
    tally: Tally


class StatusApi:
    """The routes over what they tell of.

    Args:
        spools: that requests are written to, by name; `traces` is told as `spool`.
        dispatch: how dispatching stands.
        feedback: how it stands with feedback; None where none is taken.
        tee: what becomes of exports that are passed on; None where none are.
        certificate: how the sidecar's own stands; None where it has none.
        checking: how checks stand; None where they are off.
    """

    def __init__(
        self,
        spools: Mapping[str, Spool],
        *,
        gate: Gate,
        dispatch: Callable[[], DispatchState],
        tally: Tally,
        feedback: FeedbackStanding | None = None,
        tee: Callable[[], TeeState] | None = None,
        certificate: Callable[[], CertificateState] | None = None,
        checking: Callable[[], Mapping[str, object]] | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._spools = spools
        self._gate = gate
        self._dispatch = dispatch
        self._tally = tally
        self._feedback = feedback
        self._tee = tee
        self._certificate = certificate
        self._checking = checking
        self._clock = clock
        self._started = clock()

    @property
    def routes(self) -> list[Route]:
        """What it answers to."""
        return [
            Route("/v1/status", self.status, methods=["GET"]),
            Route("/healthz", self.health, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
        ]

    @property
    def openapi(self) -> Description:
        """What they take and give."""
        return status.description()

    async def health(self, _: Request) -> Response:
        """`GET /healthz`: 200 for as long as the process answers."""
        return JsonResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """`GET /readyz`: 200 when a trace would be accepted, else 503 and why not. Kafka has no say in it."""
        problem = next((spool.problem for spool in self._spools.values() if spool.problem), None)
        return JsonResponse({"ready": problem is None, "problem": problem}, status_code=503 if problem else 200)

    async def status(self, request: Request) -> Response:
        """`GET /v1/status`: counts since the start, what waits, and how Kafka is."""
        try:
            self._gate.admit(request.headers.get("authorization"))
        except RequestRefused as refused:
            refused.count_denial(self._tally)
            return refusal(refused)
        states = {name: await asyncio.to_thread(spool.state) for name, spool in self._spools.items()}
        dispatch = self._dispatch()
        if dispatch.assembled:
            states["assembled"] = dispatch.assembled
        spools = {name: self._told(state) for name, state in states.items()}
        return JsonResponse(
            {
                "uptime_seconds": round((self._clock() - self._started).total_seconds(), 3),
                "accepted": self._tally.accepted_total,
                "refused": self._tally.refusals,
                "dropped": self._tally.drops,
                "redacted": self._tally.redactions,
                "forwarded": self._tally.forwarded_total,
                "assembly": asdict(dispatch.assembly),
                "spool": spools.pop("traces"),
                **spools,
                "kafka": {**_kafka(list(dispatch.kafka.values())), "retries": self._tally.retries_total},
                "access": {
                    "problem": self._gate.problem,
                    "refused": self._denials(),
                    "certificate": _told_of(self._certificate()) if self._certificate else None,
                },
                "feedback": await self._told_of_feedback(self._feedback) if self._feedback else None,
                "tee": asdict(self._tee()) if self._tee else None,
                "checking": self._checking() if self._checking else {"state": Checking.OFF},
            }
        )

    def _denials(self) -> dict[str, int]:
        tallies = [self._tally, *([self._feedback.tally] if self._feedback else [])]
        return dict(sum((Counter(tally.denials) for tally in tallies), Counter[str]()))

    async def _told_of_feedback(self, standing: FeedbackStanding) -> dict[str, object]:
        tally = standing.tally
        return {
            "accepted": tally.accepted_total,
            "refused": tally.refusals,
            "forwarded": tally.forwarded_total,
            "spool": self._told(await asyncio.to_thread(standing.spool.state)),
        }

    def _told(self, state: SpoolState) -> dict[str, object]:
        return {
            "records": state.records,
            "bytes": state.bytes,
            "max_bytes": state.max_bytes,
            "aside": state.aside,
            "oldest_seconds": (self._clock() - state.oldest).total_seconds() if state.oldest else None,
            "problem": state.problem,
        }


def _told_of(certificate: CertificateState) -> dict[str, object]:
    return {"expires": certificate.expires.isoformat(), "problem": certificate.problem}


def _kafka(forwarders: Sequence[ForwardState]) -> dict[str, object]:
    """As the forwarder sees it that fares worst."""
    worst = min(forwarders, key=lambda state: _FROM_WORST.index(state.kafka))
    in_flight = sum(state.in_flight for state in forwarders)
    return {"state": str(worst.kafka), "in_flight": in_flight, "problem": worst.problem}
