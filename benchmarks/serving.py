"""What does a server bear? Requests per second, memory over many of them, and malformed ones.

On loopback; `pip install -e ".[serve,dev]"`. Then::

    python benchmarks/serving.py --write          # all three parts
    python benchmarks/serving.py load --write     # one of them: load, memory or malformed
    python benchmarks/serving.py --quick          # does everything run?

`load`: 1, 8 and 64 clients, each of which sends one row after the other to a VAE of MNIST's size
(784-500-20), to a server that computes requests together and to one that computes one at a time.
They are processes of their own, and take turns of 5 seconds; a number is the median of the rounds.
A client is a thread with a connection that it keeps. Clients and servers share the machine's cores.

`memory`: the resident memory of the server after every tenth of 100,000 requests, by eight clients,
after a warm-up of 1,000: all methods, numbers of rows and forms of bodies.

`malformed`: 10,000 requests that Schemathesis draws from the OpenAPI page, half of them against it,
to a server with an array's and a table's model; how often each status code came.
"""

import argparse
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, cycle, islice, product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import report

HOST = "127.0.0.1"
CLIENTS = (1, 8, 64)
TOGETHER, ALONE = "together", "one at a time"
JSON, NPY = "application/json", "application/x-npy"
PARTS = {
    "load": "Load",
    "memory": "Memory of the server",
    "malformed": "Drawn requests, by status code",
}
RESULTS = report.HERE / "results" / "serving.json"


def fit(folder: Path, quick: bool) -> None:
    """Write the models to serve: of pictures, and of a table."""
    import pandas as pd

    from aevb import VAE

    rng = np.random.default_rng(0)
    pictures = (rng.random((1000, 784)) < rng.random(784)).astype(np.float32)
    vae = VAE(20, hidden=8 if quick else 500, epochs=1, random_state=0, verbose=False)
    vae.fit(pictures).save(folder / "pictures.aevb")
    table = pd.DataFrame(
        {
            "size": rng.normal(170, 10, 300),
            "city": rng.choice(["Ulm", "Bonn"], 300),
            "visits": rng.poisson(3, 300),
        }
    )
    VAE(2, hidden=16, epochs=1, random_state=0, verbose=False).fit(table).save(
        folder / "table.aevb"
    )


def serve(folder: Path, port: int, batch_rows: int) -> None:
    """Serve in this process: what the benchmark starts as another one."""
    import uvicorn

    from aevb.serve import Settings, create_app

    app = create_app(folder, Settings(batch_rows=batch_rows))
    uvicorn.run(app, host=HOST, port=port, log_level="warning", access_log=False)


@contextmanager
def server(folder: Path, batch_rows: int = 2048) -> Iterator[tuple[int, int]]:
    """Start a server; give its port, and the number of its process."""
    with socket.socket() as some:
        some.bind((HOST, 0))
        port = some.getsockname()[1]
    arguments = [__file__, "--serve", str(folder), str(port), str(batch_rows)]
    process = subprocess.Popen([sys.executable, *arguments])
    try:
        until = time.monotonic() + 300
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("The server did not get ready.")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False


Request = tuple[str, bytes, str]  # path, body, type


def ask(port: int, n_clients: int, requests: Callable[[int], Iterator[Request]]) -> list[float]:
    """Let clients send their requests one after the other; return the seconds of each.

    Every answer must be 200.
    """
    seconds: list[list[float]] = [[] for _ in range(n_clients)]
    wrong: list[str] = []

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=120)
        for path, body, media in requests(number):
            began = time.perf_counter()
            connection.request("POST", path, body, {"Content-Type": media})
            response = connection.getresponse()
            content = response.read()
            seconds[number].append(time.perf_counter() - began)
            if response.status != 200:
                wrong.append(f"{response.status} {path}: {content[:200]!r}")
                break
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise RuntimeError(f"{len(wrong)} requests failed: {wrong[0]}")
    return [each for client in seconds for each in client]


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def load(folder: Path, rounds: int, turn: float) -> tuple[list, list, dict]:
    """Measure requests per second and the 99th percentile, with both ways in turn."""
    rng = np.random.default_rng(1)
    rows = [_npy((rng.random((1, 784)) < 0.5).astype(np.float32)) for _ in range(64)]
    found: dict[str, dict[str, list[float]]] = {}
    with server(folder) as (together, _), server(folder, 1) as (alone, _):
        ports = {TOGETHER: together, ALONE: alone}
        for r in range(rounds + 1):
            for n_clients in CLIENTS:
                for way in [*ports][:: 1 if r % 2 else -1]:
                    began = time.perf_counter()

                    def requests(number: int, until: float = began + turn) -> Iterator[Request]:
                        k = number
                        while time.perf_counter() < until:
                            yield "/models/pictures/encode", rows[k % 64], NPY
                            k += 1

                    seconds = ask(ports[way], n_clients, requests)
                    took = time.perf_counter() - began
                    if r:  # the first round warms up
                        row = found.setdefault(
                            f"{n_clients} {way}", {"rate": [], "p50": [], "p99": []}
                        )
                        row["rate"].append(len(seconds) / took)
                        row["p50"].append(1000 * float(np.quantile(seconds, 0.5)))
                        row["p99"].append(1000 * float(np.quantile(seconds, 0.99)))
    table = []
    for n_clients in CLIENTS:
        for way in (ALONE, TOGETHER):
            row = found[f"{n_clients} {way}"]
            gain = median(
                a / b
                for a, b in zip(row["rate"], found[f"{n_clients} {ALONE}"]["rate"], strict=True)
            )
            table.append(
                {
                    "clients": n_clients,
                    "requests are computed": way,
                    "requests per second": median(row["rate"]),
                    "median, ms": median(row["p50"]),
                    "p99, ms": median(row["p99"]),
                    "× one at a time": gain,
                }
            )
    gain = table[-1]["× one at a time"]
    return table, [report.target("64 clients, × one at a time", gain, ">", 1.0)], found


def _resident(pid: int) -> float:
    """Return the resident memory of a process, MB (of Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(folder: Path, n: int) -> tuple[list, list, dict]:
    """Measure the server's memory while it answers n requests of all kinds."""
    rng = np.random.default_rng(2)
    kinds: list[Request] = []
    for n_rows in (1, 2, 5, 13):
        X = (rng.random((n_rows, 784)) < 0.5).astype(np.float32)
        for method in ("encode", "reconstruct"):
            kinds.append((f"/models/pictures/{method}", _npy(X), NPY))
        kinds.append(("/models/pictures/elbo", json.dumps(X.tolist()).encode(), JSON))
        kinds.append(("/models/pictures/decode", _npy(X[:, :20]), NPY))
        kinds.append((f"/models/table/sample?n={n_rows}", b"", JSON))
        people = [{"size": 160.0 + j, "city": "Ulm", "visits": j} for j in range(n_rows)]
        kinds.append(("/models/table/encode", json.dumps(people).encode(), JSON))
        holes = [{**person, "size": None} for person in people]
        kinds.append(("/models/table/impute", json.dumps(holes).encode(), JSON))
    clients = 8

    def some(number: int) -> Callable[[int], Iterator[Request]]:
        def requests(client: int) -> Iterator[Request]:
            yield from islice(cycle(kinds), client, client + number // clients)

        return requests

    with server(folder) as (port, pid):
        ask(port, clients, some(min(1000, n)))
        sizes = [_resident(pid)]
        for _ in range(10):
            ask(port, clients, some(n // 10))
            sizes.append(_resident(pid))
    grown = sizes[-1] - sizes[0]
    table = [
        {
            "requests": n,
            "at first, MB": sizes[0],
            "after a half, MB": sizes[5],
            "at the end, MB": sizes[-1],
            "grown in the second half, MB": sizes[-1] - sizes[5],
        }
    ]
    targets = [report.target(f"memory grown by {n} requests", grown, "≤", 0.05 * sizes[0], " MB")]
    return table, targets, {"resident, MB": sizes}


def draw_requests(url: str, n: int) -> Counter[int]:
    """Send n requests that Schemathesis draws from a server's OpenAPI page; count status codes.

    Parameters
    ----------
    url : str
        Of the server.
    n : int
        Number of requests, shared out to the operations; half of them do not fit the page.
    """
    import requests
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    share = -(-n // (2 * len(operations)))
    seen: Counter[int] = Counter()
    with requests.Session() as session:
        names = [each["name"] for each in session.get(f"{url}/models").json()]
        for seed in count():  # where an operation has no parameters there is little to draw
            for operation, mode in product(operations, modes):
                cases = operation.as_strategy(generation_mode=mode)
                _draw(session, cases, share, seed, names, seen)
                if seen.total() >= n:
                    return seen


def _draw(
    session: Any, cases: Any, n: int, start: int, names: list[str], seen: Counter[int]
) -> None:
    """Send up to n requests of one operation."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis.errors import Unsatisfiable

    @seed(start)
    @settings(
        max_examples=n,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def send(case: Any) -> None:
        total = seen.total()
        if "model" in (case.path_parameters or {}) and total % 8:  # else nearly all are 404
            case.path_parameters["model"] = names[total % len(names)]
        seen[case.call(session=session, timeout=120).status_code] += 1

    with suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
        send()


def malformed(folder: Path, n: int) -> tuple[list, list, dict]:
    """Send n drawn requests to a server, and count the answers."""
    with server(folder) as (port, _):
        seen = draw_requests(f"http://{HOST}:{port}", n)
    table = [{"status": status, "answers": n} for status, n in sorted(seen.items())]
    failures = sum(n for status, n in seen.items() if status >= 500)
    what = f"errors of the server in {seen.total()} requests"
    return table, [report.target(what, failures, "≤", 0)], {"seen": seen}


def main() -> None:
    """Run the parts that are asked for, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few requests; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        folder, port, batch_rows = arguments.serve
        serve(Path(folder), int(port), int(batch_rows))
        return
    parts = arguments.parts or list(PARTS)
    unknown = set(parts) - set(PARTS)
    if unknown:
        parser.error(f"expected some of {', '.join(PARTS)}; got {', '.join(sorted(unknown))}")
    quick = arguments.quick
    done: dict[str, Any] = {}
    if RESULTS.exists() and not quick:
        done = json.loads(RESULTS.read_text(encoding="utf-8"))["details"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit(folder, quick)
        runs = {
            "load": lambda: load(folder, 1 if quick else arguments.rounds, 1 if quick else 5),
            "memory": lambda: memory(folder, 400 if quick else 100_000),
            "malformed": lambda: malformed(folder, 100 if quick else 10_000),
        }
        for part in parts:
            table, targets, details = runs[part]()
            done[part] = {"table": table, "targets": targets, "details": details}
    report.publish(
        "serving",
        {
            **{title: done[part]["table"] for part, title in PARTS.items() if part in done},
            "Targets": [each for part in PARTS if part in done for each in done[part]["targets"]],
        },
        settings={"rounds": arguments.rounds},
        details=done,
        keep=not quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
