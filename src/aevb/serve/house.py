"""What the routes share: models, limits, the batcher, and the way of a request through them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import Response

from aevb.serve import bodies, pages
from aevb.serve.batching import Batcher
from aevb.serve.gate import LOG
from aevb.serve.methods import METHODS, Told, Work, sample
from aevb.serve.metrics import Metrics
from aevb.serve.models import Models
from aevb.serve.refusals import Refused
from aevb.serve.settings import Settings
from aevb.vae import VAE

_LONGEST = 2000  # characters of a message, which may quote the body

# Of a body: what is to be computed, by name, and how the results are answered.
Read = Callable[[bytes], tuple[dict[str, Work], Callable[[dict[str, Any]], Response]]]


class House:
    """What the routes share."""

    def __init__(self, models: Models, settings: Settings):
        self.models, self.settings = models, settings
        self.metrics = Metrics()
        self.batcher = Batcher(settings, self.metrics)
        self._pages: dict[str, str] = {}

    def model(self, name: str) -> VAE:
        """Return a model by name."""
        if name not in self.models:
            raise Refused(404, f"Expected the name of a model, {[*self.models]}; got {name!r:.80}.")
        return self.models[name]

    def ready_model(self, name: str) -> VAE:
        """Return a model that is ready to compute."""
        vae = self.model(name)
        self.check_ready()
        return vae

    def check_ready(self) -> None:
        """Refuse as long as models are not ready."""
        if not self.models.ready:
            raise Refused(503, "The models are not ready yet. Try again soon.", retry_after="2")

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Compute batches, from the first request to the last; get ready meanwhile."""
        tasks = [asyncio.create_task(each) for each in (self.batcher.run(), self._get_ready())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.batcher.thread.shutdown()

    async def _get_ready(self) -> None:
        loop = asyncio.get_running_loop()
        for name, vae in self.models.items():
            try:
                await loop.run_in_executor(self.batcher.thread, _warm_up, vae)
            except Exception:  # what is wrong with one prediction is said where it is asked for
                LOG.exception("Model %r could not be warmed up.", name)
        self.models.ready = True
        self.metrics.ready.set(1)

    async def answer(self, request: Request, read: Read) -> Response:
        """Read a request's body, compute, and write the response, within the limits."""
        deadline = asyncio.get_running_loop().time() + self.settings.timeout
        with self.batcher.place():
            body = await self.body(request, deadline)
            async with _until(deadline):
                works, write = await asyncio.to_thread(_checked, read, body)
                made = await asyncio.gather(*map(self.batcher, works.values()))

                def written() -> Response:
                    pairs = zip(works.items(), made, strict=True)
                    return write({name: work.write(each) for (name, work), each in pairs})

                return await asyncio.to_thread(written)

    async def body(self, request: Request, deadline: float) -> bytes:
        """Read a body that is not too large, in time."""
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise Refused(415, f"Expected a body that is not compressed; got {encoding!r:.80}.")
        most = self.settings.max_body
        length = request.headers.get("content-length", "")
        is_too_large = length.isdecimal() and int(length[:20]) > most
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout_at(deadline):
                if not (is_too_large and "expect" in request.headers):
                    async for part in request.stream():
                        size += len(part)
                        is_too_large |= size > most
                        if is_too_large:
                            parts.clear()
                        else:
                            parts.append(part)
                        if size > 2 * most:  # of what is refused a little is read, as clients first
                            break  # send and then listen; then the connection ends
        except TimeoutError as error:
            said = f"Expected the body within {self.settings.timeout:g} seconds."
            raise Refused(408, said, connection="close") from error
        if is_too_large:
            raise Refused(413, f"Expected a body of {most} bytes or less.", connection="close")
        return b"".join(parts)

    def explorer(self, name: str) -> str:
        """Return the explorer of a model, made once."""
        if name not in self._pages:
            self._pages[name] = pages.explorer(name, self.model(name))
        return self._pages[name]


@contextlib.asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise Refused(504, "Not computed in time. Send fewer rows, or try again later.") from error


def _checked(read: Read, body: bytes) -> Any:
    """Read a body; what its checks raise says what was expected, and is the answer."""
    try:
        return read(body)
    except bodies.Malformed as error:
        raise Refused(400, str(error)[:_LONGEST]) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(422, str(error)[:_LONGEST]) from error


def _warm_up(vae: VAE) -> None:
    """Compute every prediction once, which compiles them; of what a condition needs, nothing."""
    if vae.condition_ is not None:
        return
    exposure = None if vae.exposure_ is None else vae.exposure_.typical
    works = [sample(vae, Told(None, None, exposure), 1, 0, mean) for mean in (True, False)]
    mean, _ = (work.write(work.compute(work.rows)) for work in works)
    points = np.zeros((1, vae.config_.latent_dim), np.float32)
    for name, method in METHODS.items():
        X = points if name == "decode" else mean
        work = method(vae, Told(X, None, exposure))
        work.write(work.compute(work.rows))
