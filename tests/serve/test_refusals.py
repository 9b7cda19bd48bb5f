"""What the server refuses: the status code, one sentence that says why, and nothing else harmed."""

from __future__ import annotations

import base64
import io
import json
import logging
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from aevb.serve import Settings, batching, create_app, house
from aevb.serve.bodies import media_for
from aevb.serve.refusals import Refused

JSON, NPY, ARROW = "application/json", "application/x-npy", "application/vnd.apache.arrow.stream"
ROW = b"[[1, 2, 3]]"


def ask(client, path, content, media=JSON, **headers):
    headers = {"content-type": media, **headers}
    return client.post(f"/models/{path}", content=content, headers=headers)


def npy(array, allow_pickle=False):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def stream(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def columns(cell, n=2):
    return pa.table({name: pa.array([cell] * n) for name in "abc"})


class Evil:
    """Running this is what no server may do."""

    def __reduce__(self):
        return exec, ("raise SystemExit('the body was run')",)


BODIES = {
    "not JSON": (b"{", JSON, 400, "Expected JSON"),
    "not UTF-8": (b"\xff\xfe", JSON, 400, "Expected JSON"),
    "NaN": (b"[[1, NaN, 3]]", JSON, 400, "A missing value is null"),
    "Infinity": (b"[[1, -Infinity, 3]]", JSON, 400, "no -Infinity"),
    "deep lists": (b"[" * 100_000, JSON, 400, "Expected JSON"),
    "no rows": (b"[]", JSON, 422, "one row or more"),
    "a number": (b"3", JSON, 422, "Expected an object|object with `rows`|list of"),
    "another object": (b'{"row": [[1, 2, 3]]}', JSON, 422, "row"),
    "ragged rows": (b"[[1, 2, 3], [1]]", JSON, 422, "rows of the same length"),
    "a text": (b'[[1, "2", 3]]', JSON, 422, "got '2' in row 0"),
    "an object among numbers": (b"[[1, {}, 3]]", JSON, 422, "an object of 0"),
    "half a character": (b'[[1, "\\ud800", 3]]', JSON, 422, "Expected numbers"),
    "a huge integer": (b"[[1, " + b"9" * 400 + b", null]]", JSON, 422, "range of float64"),
    "beyond float64": (b"[[1, 1e999, 3]]", JSON, 422, "infinity"),
    "beyond float32": (b"[[1, 1e39, 3]]", JSON, 422, "range of float32"),
    "too few columns": (b"[[1, 2]]", JSON, 422, "3 features"),
    "a condition": (b'{"rows": [[1, 2, 3]], "condition": 1}', JSON, 422, "without one"),
    "an exposure": (b'{"rows": [[1, 2, 3]], "exposure": 1}', JSON, 422, "without one"),
    "no .npy": (b"PK\x03\x04", NPY, 400, ".npy"),
    "objects": (npy(np.array([[Evil()]], object), True), NPY, 422, "file of numbers"),
    "a pickle": (pickle.dumps(Evil()), NPY, 400, ".npy"),
    "texts": (npy(np.array([["a"]])), NPY, 422, "file of numbers"),
    "cut off": (npy(np.ones((2, 3)))[:-1], NPY, 400, "Expected 48 bytes"),
    "a huge shape": (
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999, 3), }"),
        NPY,
        400,
        "bytes after the header",
    ),
    "a negative shape": (
        header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }") + b"\0" * 8,
        NPY,
        400,
        "bytes after the header",
    ),
    "a header of brackets": (header(b"(" * 9000), NPY, 400, ".npy"),
    "a header of code": (header(b"__import__('os').getcwd()"), NPY, 400, ".npy"),
    "a scalar": (npy(np.float64(1)), NPY, 422, "2D array"),
    "no Arrow": (b"ARROW1\0\0", ARROW, 400, "stream of Arrow"),
    "Arrow cut off": (stream(columns(1.0))[:-40], ARROW, 400, "stream of Arrow"),
    "an Arrow stream of lists": (stream(columns([1.0])), ARROW, 422, "list<"),
    "compressed Arrow": (
        stream(columns(1.0), options=pa.ipc.IpcWriteOptions(compression="zstd")),
        ARROW,
        422,
        "not compressed",
    ),
    "empty columns without end": (
        stream(pa.table({str(j): pa.nulls(9) for j in range(2000)})),
        ARROW,
        422,
        "Expected 3 columns; got 2000",
    ),
    "Arrow's texts": (stream(columns("a")), ARROW, 422, "Expected numbers"),
    "a dictionary of a long text": (
        stream(pa.table({"a": pa.array(["x" * 2000] * 9).dictionary_encode()})),
        ARROW,
        422,
        "1000 bytes",
    ),
}


@pytest.mark.parametrize("case", BODIES.values(), ids=BODIES)
def test_bodies_that_are_refused(client, case):
    content, media, status, said = case
    response = ask(client, "numbers/encode", content, media)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"detail"}
    assert any(each in response.json()["detail"] for each in said.split("|")), response.text


@pytest.mark.parametrize("n_bytes", [1, 7, 20, 100, 300])
@pytest.mark.parametrize("media", [NPY, ARROW])
def test_every_beginning_of_a_body_is_refused_in_words(client, media, n_bytes):
    content = npy(np.ones((9, 3))) if media == NPY else stream(columns(1.0, 9))
    assert ask(client, "numbers/encode", content[:n_bytes], media).status_code == 400


def test_every_byte_of_a_body_may_be_wrong(client):
    """No damage makes the server fail: each byte of an Arrow stream and a .npy is flipped."""
    for media, content in ((ARROW, stream(columns(1.0))), (NPY, npy(np.ones((2, 3))))):
        for place in range(0, len(content), 5):
            damaged = bytearray(content)
            damaged[place] ^= 0xFF
            response = ask(client, "numbers/encode", bytes(damaged), media)
            assert response.status_code in (200, 400, 413, 422), response.text


TABLES = {
    "an unknown category": ([{"city": "Rom"}], "'Rom'"),
    "a text for a number": ([{"size": "tall"}], "column 'size'"),
    "a number for a text": ([{"city": 3}], "column 'city'"),
    "no date": ([{"since": "yesterday"}], "column 'since'"),
    "a number for a date": ([{"since": 3}], "column 'since'"),
    "lists and objects": ([[1, 2, "Ulm", True, None], {"size": 1}], "all objects or all lists"),
    "too few cells": ([[1, 2]], "5 cells"),
    "a list in a cell": ([{"size": [1]}], "column 'size'"),
    "a huge count": ([{"visits": 10**30}], "column 'visits'"),
    "another column": ([{"shoe": 1}], "shoe"),
    "columns without end": ([{f"c{j}": 1} for j in range(3000)], "unknown are"),
}


@pytest.mark.parametrize(("given", "said"), TABLES.values(), ids=TABLES)
def test_tables_that_are_refused(client, given, said):
    whole = {"size": 170.0, "visits": 3, "city": "Ulm", "member": True, "since": "2020-01-05"}
    rows = [whole | row if isinstance(row, dict) else row for row in given]
    response = ask(client, "people/encode", json.dumps(rows).encode())
    assert response.status_code == 422, response.text
    assert said in response.json()["detail"]


def test_types_that_are_not_spoken(client):
    response = ask(client, "numbers/encode", ROW, "text/csv")
    assert (response.status_code, JSON in response.json()["detail"]) == (415, True)
    response = ask(client, "numbers/encode", ROW, accept="text/html")
    assert (response.status_code, JSON in response.json()["detail"]) == (406, True)
    response = ask(client, "numbers/encode", ROW, **{"content-encoding": "gzip"})
    assert response.status_code == 415


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (f"{NPY}, */*;q=0.1", NPY),
        (f"{JSON};q=0.2, {ARROW};q=0.9", ARROW),
        (f"*/*, {JSON};q=0", NPY),
        (f"{NPY.upper()}", NPY),
    ],
)
def test_accept_chooses_the_form(accept, media):
    assert media_for(accept) == media


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0", f"{JSON};q=nonsense", ""])
def test_accept_may_allow_nothing(accept):
    if not accept:
        assert media_for(accept) == JSON  # an empty header says nothing
        return
    with pytest.raises(Refused) as refused:
        media_for(accept)
    assert refused.value.status == 406


def test_what_is_not_there(client):
    for response in (
        ask(client, "unknown/encode", ROW),
        client.get("/models/unknown"),
        client.post("/models/unknown/sample"),
        client.get("/nothing"),
        client.get("/models/unknown/explorer"),
    ):
        assert response.status_code == 404
        assert set(response.json()) == {"detail"}
    assert client.get("/models/numbers/encode").status_code == 405


@pytest.mark.parametrize(
    "parameters", ["n=0", "n=-1", "n=x", "seed=-1", "seed=4294967296", "mean=perhaps"]
)
def test_parameters_that_do_not_fit(client, parameters):
    response = client.post(f"/models/numbers/sample?{parameters}")
    assert response.status_code == 422
    assert parameters.split("=")[0] in response.json()["detail"]


def test_limits_of_rows_and_bytes(limited, vaes):
    with limited({"numbers": vaes["numbers"]}, max_rows=3, max_body=500) as client:
        many = np.ones((4, 3), np.float32)
        for content, media in (
            (json.dumps(many.tolist()).encode(), JSON),
            (npy(many), NPY),
        ):
            response = ask(client, "numbers/encode", content, media)
            assert (response.status_code, "3 rows" in response.text) == (413, True)
        assert client.post("/models/numbers/sample?n=4").status_code == 413
        assert ask(client, "numbers/encode", b" " * 501 + ROW).status_code == 413

        sent = []

        def endless():  # without a length: what counts is what arrives
            for _ in range(1000):
                sent.append(1)
                yield b" " * 100

        response = ask(client, "numbers/encode", endless())
        assert (response.status_code, "500 bytes" in response.text) == (413, True)
        assert response.headers["connection"] == "close"
        assert ask(client, "numbers/encode", ROW).status_code == 200


@pytest.fixture
def held(monkeypatch):
    """An event that computing waits for."""
    go = threading.Event()
    compute = batching.compute

    def waiting(*arguments):
        assert go.wait(30)
        return compute(*arguments)

    monkeypatch.setattr(batching, "compute", waiting)
    yield go
    go.set()


def test_a_full_queue_is_503_and_what_is_inside_is_answered(limited, vaes, held):
    with limited({"numbers": vaes["numbers"]}, queue=3) as client, ThreadPoolExecutor(3) as pool:
        inside = [pool.submit(ask, client, "numbers/encode", ROW) for _ in range(3)]
        while "aevb_requests_inside 3.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        response = ask(client, "numbers/encode", ROW)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert client.get("/health/live").status_code == 200  # which do not wait
        held.set()
        assert [each.result().status_code for each in inside] == [200] * 3
        assert ask(client, "numbers/encode", ROW).status_code == 200


def test_what_is_not_computed_in_time_is_504_and_dropped(limited, vaes, held, monkeypatch):
    with limited({"numbers": vaes["numbers"]}, timeout=0.3) as client, ThreadPoolExecutor() as pool:
        computed = []
        inner = batching.compute
        monkeypatch.setattr(batching, "compute", lambda w, g: (computed.append(w), inner(w, g))[1])
        first = pool.submit(ask, client, "numbers/encode", ROW)
        while not computed:
            time.sleep(0.005)
        late = [pool.submit(ask, client, "numbers/elbo", ROW) for _ in range(3)]
        assert [each.result().status_code for each in (first, *late)] == [504] * 4
        held.set()
        assert ask(client, "numbers/encode", ROW).status_code == 200
        assert len(computed) == 2  # what was given up while it waited was not computed


def test_models_that_are_not_ready_are_503(listens, vaes, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(house, "_warm_up", lambda vae: go.wait(30))
    with listens(create_app({"numbers": vaes["numbers"]})) as client:
        assert client.get("/health/live").json() == {"live": True}
        for response in (
            client.get("/health/ready"),
            client.get("/v2/health/ready"),
            client.get("/v2/models/numbers/ready"),
            ask(client, "numbers/encode", ROW),
        ):
            assert response.status_code == 503
            assert "retry-after" in response.headers
        go.set()
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.01)
        assert client.get("/v2/models/numbers/ready").json() == {"name": "numbers", "ready": True}
        assert "aevb_ready 1.0" in client.get("/metrics").text


def test_an_error_inside_shows_nothing_of_it(limited, vaes, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("the inner secret")

    with limited({"numbers": vaes["numbers"]}) as client:
        with monkeypatch.context() as patch:
            patch.setattr(batching, "compute", broken)
            response = ask(client, "numbers/encode", ROW)
        assert response.status_code == 500
        assert "secret" not in response.text and "Traceback" not in response.text
        assert ask(client, "numbers/encode", ROW).status_code == 200  # and goes on


def test_the_key(limited, vaes, caplog):
    caplog.set_level(logging.DEBUG)
    password = base64.b64encode(b"anyone:s3cret").decode()
    with limited({"numbers": vaes["numbers"]}, key="s3cret") as client:
        for authorization in (
            None,
            "s3cret",
            "Bearer",
            "Bearer wrong",
            "Bearer s3cre",
            "Basic s3cret",
            "Basic \xff",
            f"Bearer {password}",
        ):
            headers = (
                {} if authorization is None else {"authorization": authorization.encode("latin-1")}
            )
            for path in ("/", "/docs", "/openapi.json", "/metrics", "/models", "/v2", "/nothing"):
                response = client.get(path, headers=headers)
                assert response.status_code == 401, (authorization, path)
                assert "Bearer" in response.headers["www-authenticate"]
                assert "s3cret" not in response.text
        for authorization in ("Bearer s3cret", "bearer s3cret", f"Basic {password}"):
            assert client.get("/models", headers={"authorization": authorization}).is_success
        for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200  # probes bring no key
    assert "s3cret" not in caplog.text
    assert "s3cret" not in repr(Settings(key="s3cret"))


def test_names_of_this_server(listens, vaes):
    """A web page from elsewhere that has its name resolved to this machine learns nothing."""
    hosts = ("localhost", "127.0.0.1", "::1")
    with listens(create_app({"numbers": vaes["numbers"]}, Settings(hosts=hosts))) as client:
        for host, status in (
            ("localhost", 200),
            ("LOCALHOST:8000", 200),
            ("127.0.0.1:9", 200),
            ("[::1]:8000", 200),
            ("evil.example", 421),
            ("evil.example:8000", 421),
            ("localhost.evil.example", 421),
        ):
            assert client.get("/health/live", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_rows": 0}, "`max_rows`; got 0"),
        ({"queue": 1.5}, "`queue`; got 1.5"),
        ({"timeout": 0}, "`timeout`; got 0"),
        ({"window": -1}, "`window`; got -1"),
        ({"key": " "}, "`key`; got an empty one"),
    ],
)
def test_settings_that_do_not_fit(limits, said):
    with pytest.raises((ValueError, TypeError), match=".*" + said.replace(".", r"\.")):
        Settings(**limits)


def test_models_that_do_not_fit(tmp_path, vaes):
    from aevb import VAE

    (tmp_path / "readme.txt").write_text("no model")
    for models, error, said in (
        (tmp_path, ValueError, "readme.txt"),
        (tmp_path / "none.aevb", FileNotFoundError, "none.aevb"),
        (tmp_path / "readme.txt", ValueError, "model file"),
        ({}, ValueError, "at least one model"),
        ({"a/b": vaes["numbers"]}, ValueError, "slash"),
        ({"a": 3}, TypeError, "int"),
        ({"a": VAE()}, ValueError, "not fitted"),
    ):
        with pytest.raises(error, match=said):
            create_app(models)


def test_a_folder_is_served_by_the_names_of_its_files(listens, tmp_path, vaes):
    for name in ("b", "a"):
        vaes["counts"].save(tmp_path / f"{name}.aevb")
    (tmp_path / "notes.txt").write_text("beside")
    with listens(create_app(tmp_path)) as client:
        assert [model["name"] for model in client.get("/models").json()] == ["a", "b"]
