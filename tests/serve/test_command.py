"""``aevb serve`` as users run it: a process of its own, asked over sockets, and told to end."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from aevb.serve.command import run

RUN = "from aevb.cli import main; main()"  # what the script `aevb` does
ROW = {"content": b"[[1, 2, 3]]", "headers": {"content-type": "application/json"}}


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@contextmanager
def running(path, *options, log, **environment):
    """Run the command in a process; give a client of it, and the process."""
    port = free_port()
    arguments = [sys.executable, "-c", RUN, "serve", str(path), "--port", str(port), *options]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            arguments, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        timeout=30,
        limits=httpx.Limits(max_connections=None),
    )
    try:
        until = time.monotonic() + 60
        while not _is_ready(client):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield client, process
    finally:
        client.close()
        process.kill()
        process.wait(10)


def _is_ready(client):
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def path(tmp_path_factory, vaes):
    path = tmp_path_factory.mktemp("served") / "numbers.aevb"
    vaes["numbers"].save(path)
    return path


@pytest.mark.slow
def test_the_command_serves_ends_when_told_and_keeps_the_key(path, tmp_path, vaes):
    log = tmp_path / "log"
    with running(path, log=log, AEVB_API_KEY="s3cret-key") as (client, process):
        assert client.get("/models").status_code == 401
        client.headers["authorization"] = "Bearer s3cret-key"
        assert client.get("/models").json()[0]["name"] == "numbers"
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")

        # 64 threads at once, each with rows of its own, time and again.
        each = np.random.default_rng(5).normal(size=(64, 2, 3)).astype(np.float32)

        def ask(rows):
            file = io.BytesIO()
            np.save(file, rows)
            headers = {"content-type": "application/x-npy"}
            send = {"content": file.getvalue(), "headers": headers}
            return [client.post("/models/numbers/encode", **send) for _ in range(8)]

        with ThreadPoolExecutor(64) as pool:
            found = list(pool.map(ask, each))
        for rows, responses in zip(each, found, strict=True):
            (answer,) = {response.text for response in responses}
            # Programs of another process may be compiled by other flags; the rows are not mixed up.
            expected = vaes["numbers"].transform(rows)
            assert np.allclose(json.loads(answer), expected, rtol=1e-4, atol=1e-5)

        # A body that is too large, and one that is cut off, do no harm.
        assert (
            client.post(
                "/models/numbers/encode", content=b" " * 2**25, headers=ROW["headers"]
            ).status_code
            == 413
        )
        with socket.create_connection(("127.0.0.1", client.base_url.port), 10) as raw:
            raw.sendall(
                b"POST /models/numbers/encode HTTP/1.1\r\nHost: localhost\r\n"
                b"Authorization: Bearer s3cret-key\r\n"
                b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n[["
            )
        assert client.post("/models/numbers/encode", **ROW).status_code == 200
        assert client.get("/health/live", headers={"host": "evil.example"}).status_code == 421

        # SIGTERM under load: whatever is inside is answered.
        with ThreadPoolExecutor(32) as pool:
            rows = [[1.0, 2.0, None]] * 100
            inside = [
                pool.submit(client.post, "/models/numbers/impute", json=rows) for _ in range(32)
            ]
            while "aevb_requests_inside 32.0" not in client.get("/metrics").text:
                assert not all(each.done() for each in inside), "the load was too small"
            process.send_signal(signal.SIGTERM)
            assert [each.result().status_code for each in inside] == [200] * 32
        process.wait(30)
        with pytest.raises(httpx.TransportError):
            client.get("/health/live")
    said = log.read_text()
    assert "s3cret" not in said
    assert "Traceback" not in said and "ERROR" not in said


@pytest.mark.slow
def test_a_body_that_does_not_come_is_given_up(path, tmp_path):
    with running(path, "--timeout", "1", log=tmp_path / "log") as (client, _):
        with socket.create_connection(("127.0.0.1", client.base_url.port), 10) as raw:
            raw.sendall(
                b"POST /models/numbers/encode HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n[["
            )
            answer = raw.recv(4096)
        assert b" 408 " in answer.split(b"\r\n")[0]


def test_other_machines_need_a_key(refused_by_run, path):
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        said = refused_by_run(path, host)
        assert "AEVB_API_KEY" in said and host in said and "--no-key" in said


@pytest.fixture
def refused_by_run():
    def refused(path, host):
        with pytest.raises(ValueError) as error:
            run(path, host, 8000, None, False)
        return str(error.value)

    return refused


@pytest.mark.parametrize(
    ("host", "key", "no_key", "hosts"),
    [
        ("127.0.0.1", None, False, True),
        ("localhost", None, False, True),
        ("::1", None, False, True),
        ("0.0.0.0", "key", False, False),
        ("0.0.0.0", None, True, False),
    ],
)
def test_where_it_listens(path, monkeypatch, host, key, no_key, hosts):
    seen = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **options: seen.update(options, app=app))
    run(path, host, 1234, key, no_key, timeout=2.5)
    assert (seen["host"], seen["port"]) == (host, 1234)
    assert seen["timeout_graceful_shutdown"] >= 3  # as long as a request may take
    (gate,) = seen["app"].user_middleware
    settings = gate.kwargs["settings"]
    assert settings.key == key
    assert ("localhost" in settings.hosts) is hosts


def test_mistakes_are_one_line(tmp_path):
    from typer.testing import CliRunner

    from aevb.cli import app

    for arguments, said in (
        ([str(tmp_path / "none.aevb")], "none.aevb"),
        ([str(tmp_path)], ".aevb"),
        ([str(tmp_path), "--max-rows", "0"], "max_rows"),
        ([str(tmp_path), "--host", "0.0.0.0"], "AEVB_API_KEY"),
    ):
        result = CliRunner().invoke(app, ["serve", *arguments], env={"AEVB_API_KEY": None})
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ") and said in result.stderr
    result = CliRunner().invoke(app, ["serve", str(tmp_path)], env={"AEVB_API_KEY": ""})
    assert result.exit_code == 1 and "`key`" in result.stderr
