"""The application: routes over models, methods, bodies and the batcher."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from aevb import __version__
from aevb.serve import bodies, openapi, pages, protocol
from aevb.serve.batching import Batcher
from aevb.serve.gate import LOG, Gate
from aevb.serve.methods import METHODS, SEEDED, Told, Work, sample
from aevb.serve.metrics import MEDIA, Metrics
from aevb.serve.models import Models
from aevb.serve.refusals import HANDLERS, Refused, as_json
from aevb.serve.settings import Settings
from aevb.vae import VAE

Seed = Annotated[int, Query(ge=0, lt=2**32, description="Seed of the draws.")]
NewSeed = Annotated[
    int | None, Query(ge=0, lt=2**32, description="Seed of the draws; none: a new one each time.")
]
Number = Annotated[int, Query(ge=1, description="Number of cases.")]
Mean = Annotated[bool, Query(description="Means of p(x|z) instead of draws from it.")]

# Of a body: what is to be computed, by name, and how the results are answered.
Read = Callable[[bytes], tuple[dict[str, Work], Callable[[dict[str, Any]], Response]]]


class Asked(BaseModel):
    """What may be told of cases to make."""

    model_config = ConfigDict(extra="forbid")
    condition: Any = None
    exposure: Any = None


class House:
    """What the routes share: models, limits, the batcher, metrics."""

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
        raise Refused(400, str(error)) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(422, str(error)) from error


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


def build(models: Models, settings: Settings) -> FastAPI:
    """Return the application; see `aevb.serve.create_app`."""
    house = House(models, settings)
    app = FastAPI(
        title="aevb",
        version=__version__,
        description=openapi.DESCRIPTION,
        docs_url=None,  # which fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=house.lifespan,
        exception_handlers=HANDLERS,
        separate_input_output_schemas=False,
    )
    app.add_middleware(Gate, settings=settings, metrics=house.metrics)
    for name in METHODS:
        _add_method(app, house, name)
    _add_sample(app, house)
    _add_about(app, house)
    _add_protocol(app, house)
    _add_pages(app, house)
    return app


def _add_method(app: FastAPI, house: House, name: str) -> None:
    method = METHODS[name]

    async def answered(request: Request, model: str, **options: Any) -> Response:
        vae = house.ready_model(model)
        accept = _accepted(request, vae, name)
        media = bodies.media_of(request.headers.get("content-type"))
        columns = None if name == "decode" else vae.schema_.columns

        def read(body: bytes) -> Any:
            most = house.settings.max_rows
            told = bodies.read(body, media, most, columns, vae.condition_)
            return {name: method(vae, told, **options)}, write

        def write(made: dict[str, Any]) -> Response:
            return Response(bodies.write(made[name], accept, name), media_type=accept)

        return await house.answer(request, read)

    async def plain(request: Request, model: str) -> Response:
        return await answered(request, model)

    async def seeded(request: Request, model: str, seed: Seed = 0) -> Response:
        return await answered(request, model, seed=seed)

    app.post(
        f"/models/{{model}}/{name}",
        summary=(method.__doc__ or "").partition("\n")[0],
        operation_id=name,
        response_class=Response,
        responses=openapi.responses(*openapi.OF_BODIES, results=True),
        openapi_extra={"requestBody": openapi.rows(name)},
    )(seeded if name in SEEDED else plain)


def _add_sample(app: FastAPI, house: House) -> None:
    async def new(
        request: Request, model: str, n: Number = 1, seed: NewSeed = None, mean: Mean = False
    ) -> Response:
        vae = house.ready_model(model)
        accept = _accepted(request, vae, "sample")
        bodies.check_rows(n, house.settings.max_rows)
        drawn = secrets.randbelow(2**32) if seed is None else seed

        def read(body: bytes) -> Any:
            asked = Asked()
            if body:
                bodies.media_of(request.headers.get("content-type"), (bodies.JSON,))
                asked = _validated(Asked, body)
            condition = bodies.condition_of(asked.condition, vae.condition_)
            told = Told(None, condition, asked.exposure)
            return {"sample": sample(vae, told, n, drawn, mean)}, write

        def write(made: dict[str, Any]) -> Response:
            content = bodies.write(made["sample"], accept, "sample")
            return Response(content, headers={"Aevb-Seed": str(drawn)}, media_type=accept)

        return await house.answer(request, read)

    app.post(
        "/models/{model}/sample",
        summary="Return new cases: z ~ p(z), then x ~ p(x|z).",
        operation_id="sample",
        response_class=Response,
        responses=openapi.responses(*openapi.OF_BODIES, results=True),
        openapi_extra={"requestBody": openapi.told()},
    )(new)


def _accepted(request: Request, vae: VAE, name: str) -> str:
    """Return the form of the answer: a table of several types is no array."""
    is_table = vae.schema_.columns is not None and name not in ("encode", "elbo")
    offered = (bodies.JSON, bodies.ARROW) if is_table else bodies.MEDIA
    return bodies.media_for(request.headers.get("accept"), offered)


def _validated(form: type[Any], body: bytes) -> Any:
    """Return a body in JSON as what it should be, in words that name the place."""
    try:
        return form.model_validate(bodies.of_json(body))
    except ValidationError as error:
        said = (f"`{'.'.join(map(str, e['loc'])) or 'body'}`: {e['msg']}" for e in error.errors())
        raise ValueError("; ".join(said)) from error


def _add_about(app: FastAPI, house: House) -> None:
    def about(name: str) -> dict[str, Any]:
        vae = house.model(name)
        columns = vae.schema_.columns
        return {
            "name": name,
            "shape": list(vae.feature_shape_),
            "latent_dim": vae.config_.latent_dim,
            "columns": None if columns is None else [*columns.names],
            "needs_condition": vae.condition_ is not None,
            "needs_exposure": vae.exposure_ is not None and not vae.exposure_.by_total,
        }

    async def models() -> Response:
        return as_json([about(name) for name in house.models])

    async def one(model: str) -> Response:
        return as_json(about(model))

    async def live() -> Response:
        return as_json({"live": True})

    async def ready() -> Response:
        house.check_ready()
        return as_json({"ready": True})

    async def metrics() -> Response:
        return Response(house.metrics.page(), media_type=MEDIA)

    for path, function, summary, codes in (
        ("/models", models, "Return what is served.", (401,)),
        ("/models/{model}", one, "Return what a model takes and gives.", (401, 404)),
        ("/health/live", live, "Say that the server runs.", ()),
        ("/health/ready", ready, "Say whether the models are ready; 503 if not.", (503,)),
    ):
        app.get(path, summary=summary, responses=openapi.responses(*codes))(function)
    app.get(
        "/metrics",
        summary="Return metrics for Prometheus.",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **openapi.responses(401)},
    )(metrics)


def _add_protocol(app: FastAPI, house: House) -> None:
    async def server() -> Response:
        return as_json({"name": "aevb", "version": __version__, "extensions": []})

    async def live() -> Response:
        return as_json({"live": True})

    async def ready() -> Response:
        house.check_ready()
        return as_json({"ready": True})

    async def model_metadata(model: str) -> Response:
        return as_json(protocol.metadata(model, house.model(model)))

    async def model_ready(model: str) -> Response:
        house.ready_model(model)
        return as_json({"name": model, "ready": True})

    async def infer(request: Request, model: str) -> Response:
        vae = house.ready_model(model)
        bodies.media_of(request.headers.get("content-type", bodies.JSON), (bodies.JSON,))

        def read(body: bytes) -> Any:
            inference = _validated(protocol.Inference, body)
            outputs = protocol.wanted(inference, vae)
            told = protocol.read(inference, vae, house.settings.max_rows)

            def write(made: dict[str, Any]) -> Response:
                return as_json(protocol.response(model, inference, outputs, made))

            names = dict.fromkeys(map(protocol.method_of, outputs))
            return {name: METHODS[name](vae, told) for name in names}, write

        return await house.answer(request, read)

    v2 = openapi.responses(401, error="error")
    v2_model = openapi.responses(401, 404, error="error")
    add = app.get
    add("/v2", summary="Open Inference Protocol: the server.", responses=v2)(server)
    add("/v2/health/live", summary="Open Inference Protocol: live.")(live)
    add(
        "/v2/health/ready",
        summary="Open Inference Protocol: ready.",
        responses=openapi.responses(503, error="error"),
    )(ready)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/1"):
        is_plain = not prefix.endswith("1")
        add(
            prefix,
            summary="Open Inference Protocol: inputs and outputs of a model.",
            responses=v2_model,
            include_in_schema=is_plain,
        )(model_metadata)
        add(
            f"{prefix}/ready",
            summary="Open Inference Protocol: whether a model is ready.",
            responses=openapi.responses(401, 404, 503, error="error"),
            include_in_schema=is_plain,
        )(model_ready)
        app.post(
            f"{prefix}/infer",
            summary="Open Inference Protocol: compute outputs of cases.",
            responses=openapi.responses(*openapi.OF_BODIES, error="error"),
            openapi_extra={"requestBody": openapi.inference()},
            include_in_schema=is_plain,
        )(infer)


def _add_pages(app: FastAPI, house: House) -> None:
    def html(text: str) -> Response:
        return HTMLResponse(text, headers={"Content-Security-Policy": pages.POLICY})

    async def start() -> Response:
        if len(house.models) == 1:
            return html(await asyncio.to_thread(house.explorer, next(iter(house.models))))
        return html(pages.listing(house.models))

    async def explorer(model: str) -> Response:
        house.model(model)
        return html(await asyncio.to_thread(house.explorer, model))

    async def docs() -> Response:
        return html(pages.documentation(app.openapi(), house.models))

    for path, function in (("/", start), ("/models/{model}/explorer", explorer), ("/docs", docs)):
        app.get(path, include_in_schema=False)(function)
