"""The application: its routes."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from aevb import __version__
from aevb.serve import bodies, openapi, pages, protocol
from aevb.serve.gate import Gate
from aevb.serve.house import House
from aevb.serve.methods import METHODS, SEEDED, Told, sample
from aevb.serve.metrics import MEDIA
from aevb.serve.models import Models
from aevb.serve.refusals import HANDLERS, as_json
from aevb.serve.settings import Settings
from aevb.vae import VAE

Seed = Annotated[int, Query(ge=0, lt=2**32, description="Seed of the draws.")]
NewSeed = Annotated[
    int | None, Query(ge=0, lt=2**32, description="Seed of the draws; none: a new one each time.")
]
Number = Annotated[int, Query(ge=1, description="Number of cases.")]
Mean = Annotated[bool, Query(description="Means of p(x|z) instead of draws from it.")]


class Asked(BaseModel):
    """What may be told of cases to make."""

    model_config = ConfigDict(extra="forbid")
    condition: Any = None
    exposure: Any = None


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
        expected = _expected(vae, house.settings.max_rows, name)

        def read(body: bytes) -> Any:
            told = bodies.read(body, media, expected)
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


def _expected(vae: VAE, most: int, name: str) -> bodies.Expected:
    """Return what the body of a method may hold."""
    if name == "decode":
        return bodies.Expected(None, vae.config_.latent_dim, most, vae.condition_)
    return bodies.Expected(vae.schema_.columns, vae.n_features_in_, most, vae.condition_)


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
        ("/v2/health/live", live, "Open Inference Protocol: live.", ()),
        ("/v2/health/ready", ready, "Open Inference Protocol: ready.", (503,)),
    ):
        error = "error" if path.startswith("/v2") else "detail"
        app.get(path, summary=summary, responses=openapi.responses(*codes, error=error))(function)
    app.get(
        "/metrics",
        summary="Return metrics for Prometheus.",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **openapi.responses(401)},
    )(metrics)


def _add_protocol(app: FastAPI, house: House) -> None:
    async def server() -> Response:
        return as_json({"name": "aevb", "version": __version__, "extensions": []})

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

    async def docs(request: Request) -> Response:
        return html(pages.documentation(app.openapi(), house.models, str(request.base_url)))

    for path, function in (("/", start), ("/models/{model}/explorer", explorer), ("/docs", docs)):
        app.get(path, include_in_schema=False)(function)
