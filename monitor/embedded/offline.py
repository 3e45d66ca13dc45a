"""The whole cascade opened from settings, with a pool of this machine's own where a model is named for it."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from monitor.config import PoolSettings, Settings
from monitor.embedded.model_server import model_server
from monitor.inference.loading import load_calibration, load_cascade, load_policy
from monitor.inference.pool import PoolJudge
from monitor.outbound import AsyncHttpClient
from monitor.services.offline import OfflineCascade


@contextmanager
def offline_cascade(settings: Settings) -> Iterator[OfflineCascade]:
    """Screen, encoder and edge judge as the settings say, and the pool: that of `pool.url`, or `pool.path` served here.

    Raises:
        JudgeUnavailable: a judge cannot be loaded.
        ProcessFailed: the server for `pool.path` does not come up.
    """
    with ExitStack() as exits:
        pool = exits.enter_context(served_pool(settings.pool))
        whole = settings.model_copy(update={"pool": pool})
        runner = exits.enter_context(asyncio.Runner())
        judge = None
        if pool.url is not None:
            client = AsyncHttpClient(deadline_seconds=pool.deadline_seconds)
            exits.callback(lambda: runner.run(client.close()))
            judge = PoolJudge(pool, client)
        yield OfflineCascade(
            cascade=load_cascade(whole),
            pool=judge,
            calibration=load_calibration(whole.policy.calibration),
            policy=load_policy(whole),
            runner=runner,
        )


@contextmanager
def served_pool(settings: PoolSettings) -> Iterator[PoolSettings]:
    """Pool settings with a URL: as they are, or those of a server for `pool.path` that lives as long as the block.

    The model's hash becomes the revision, so that the judge's version says what was served. The server computes one
    prompt at a time: more calls at once would only wait in it.
    """
    if settings.path is None or settings.url is not None:
        yield settings
        return
    # Loaded here: llama.cpp is an extra.
    from monitor.inference.gguf.model import file_digest  # noqa: PLC0415 - llama.cpp is an extra

    with (
        tempfile.TemporaryDirectory(prefix="groundwatch-pool-") as directory,
        model_server(settings.path, directory=Path(directory)) as server,
    ):
        revision = file_digest(settings.path)
        served = {"url": server.url, "model": server.model, "revision": revision, "concurrency": 1}
        yield settings.model_copy(update=served)
