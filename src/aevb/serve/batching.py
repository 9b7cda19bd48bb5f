"""Requests that arrive together are computed together, in one thread, while others are read."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

from aevb.serve.methods import Work, compute
from aevb.serve.metrics import Metrics
from aevb.serve.refusals import Refused
from aevb.serve.settings import Settings


class _Waiting(NamedTuple):
    work: Work
    done: asyncio.Future


class Batcher:
    """Computes the work of requests: in the order of arrival, but like with like.

    While one batch is computed the next one gathers, so that batches grow with the load and a
    request that comes alone does not wait. Work whose request was given up is dropped.

    Parameters
    ----------
    settings : Settings
        How many requests may be inside, and how many rows are computed together.
    metrics : Metrics
        Where it is counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics):
        self._settings, self._metrics = settings, metrics
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._inside = 0
        self.thread = ThreadPoolExecutor(1, "aevb-compute")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Keep a place for a request, or refuse it if there is none."""
        if self._inside >= self._settings.queue:
            raise Refused(503, "Too many requests at one time. Try again soon.", retry_after="1")
        self._inside += 1
        self._metrics.inside.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self._metrics.inside.set(self._inside)

    async def __call__(self, work: Work) -> Any:
        """Return the results of some work."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, done))
        self._arrived.set()
        return await done

    async def run(self) -> None:
        """Compute whatever arrives, until cancelled."""
        several = False
        while True:
            await self._arrived.wait()
            if several:
                await asyncio.sleep(self._settings.window)
            batch = self._take()
            if batch:
                await self._compute(batch)
                several = len(batch) > 1 or bool(self._waiting)

    def _take(self) -> list[_Waiting]:
        """Take the work that waits for longest, and what can be computed with it."""
        batch: list[_Waiting] = []
        rest: deque[_Waiting] = deque()
        n_rows = 0
        for each in self._waiting:
            if each.done.done():
                continue
            n_rows += each.work.n_rows
            if not batch:
                batch, form = [each], each.work.form
            elif n_rows <= self._settings.batch_rows and each.work.form == form:
                batch.append(each)
            else:
                n_rows -= each.work.n_rows
                rest.append(each)
        self._waiting = rest
        if not rest:
            self._arrived.clear()
        return batch

    async def _compute(self, batch: list[_Waiting]) -> None:
        works = [each.work for each in batch]
        self._metrics.batch_requests.observe(len(works))
        self._metrics.batch_rows.observe(sum(work.n_rows for work in works))

        def goes_on() -> bool:
            return not all(each.done.done() for each in batch)

        try:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(self.thread, compute, works, goes_on)
        except Exception as error:  # each request says so, and the next ones are computed
            for each in batch:
                if not each.done.done():
                    each.done.set_exception(error)
        else:
            for each, result in zip(batch, made, strict=False):
                if not each.done.done():
                    each.done.set_result(result)
