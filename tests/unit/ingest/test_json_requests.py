"""What requests of every kind share."""

from concurrent.futures import ThreadPoolExecutor

from monitor.ingest.json_requests import random_ids

TAKEN, THREADS = 2000, 4


def test_several_threads_take_ids_at_once() -> None:
    ids = random_ids()
    with ThreadPoolExecutor(THREADS) as pool:
        taken = list(pool.map(lambda _: [next(ids) for _ in range(TAKEN)], range(THREADS)))
    assert len({one for each in taken for one in each}) == TAKEN * THREADS
