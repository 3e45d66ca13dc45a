"""Clients that send spoilt exports, each from a process of its own."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import httpx

from tests.support.mutations import Mutant, mutants

SECONDS = 120.0
_LARGE = 65_536
_MOST_SHOWN = 20


@dataclass(kw_only=True)
class Answers:
    """What became of the exports: counts by kind and status; `wrong` tells of the first with a wrong status."""

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, mutant: Mutant, response: httpx.Response) -> None:
        """One more."""
        self.counts[mutant.kind, response.status_code] += 1
        if response.status_code not in mutant.statuses and len(self.wrong) < _MOST_SHOWN:
            self.wrong.append(
                f"{mutant.kind}: {response.status_code}, not {set(mutant.statuses)}: {response.text[:200]}"
            )

    def table(self) -> str:
        """A line a kind."""
        kinds = sorted({kind for kind, _ in self.counts})
        told = {kind: {status: n for (of, status), n in sorted(self.counts.items()) if of == kind} for kind in kinds}
        return "\n".join(f"{kind:26} {', '.join(f'{s}: {n:,}' for s, n in of.items())}" for kind, of in told.items())


def send_all(url: str, *, seed: int, number: int, processes: int, max_bytes: int) -> Answers:
    """Send so many, and tell what was answered; raises whatever a connection failed with."""
    share = -(-number // processes)
    context = multiprocessing.get_context("spawn")
    every = Answers()
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for answers in pool.map(
            _send, *zip(*[(url, seed + n, share, max_bytes) for n in range(processes)], strict=True)
        ):
            every.counts += answers.counts
            every.wrong += answers.wrong
    return every


def _send(url: str, seed: int, number: int, max_bytes: int) -> Answers:
    answers = Answers()
    with httpx.Client(timeout=SECONDS) as client:
        for count, mutant in enumerate(mutants(seed, number, max_bytes=max_bytes)):
            # Every seventh without a length, in chunks.
            body = mutant.body if count % 7 else _chunks(mutant.body)
            answers.add(mutant, client.post(f"{url}/v1/traces", content=body, headers=dict(mutant.headers)))
    return answers


def _chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), _LARGE):
        yield body[start : start + _LARGE]
