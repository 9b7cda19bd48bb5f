"""What the server answers is what the estimator says, whatever the form, and in any company."""

from __future__ import annotations

import io
import json
import math
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pyarrow as pa
import pytest

from aevb.explorer import NotInAPage
from aevb.partitions import written_as

JSON, NPY, ARROW = "application/json", "application/x-npy", "application/vnd.apache.arrow.stream"
FORMS = {"json": JSON, "npy": NPY, "arrow": ARROW}
METHODS = {
    "encode": "transform",
    "decode": "inverse_transform",
    "reconstruct": "reconstruct",
    "elbo": "elbo",
    "impute": "impute",
}


def rows(n=5):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(n, 3)).astype(np.float32)
    rows[0, 2] = np.nan
    return rows


def body_of(array, media):
    if media == JSON:
        return json.dumps(np.where(np.isnan(array), None, array.astype(object)).tolist()).encode()
    if media == NPY:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()
    return stream_of(pa.table({f"x{j}": column for j, column in enumerate(array.T)}))


def stream_of(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def array_of(response):
    media = response.headers["content-type"]
    if media == JSON:
        return np.array(response.json(), np.float32)
    if media == NPY:
        return np.load(io.BytesIO(response.content), allow_pickle=False)
    table = pa.ipc.open_stream(response.content).read_all()
    array = np.column_stack([column.to_numpy() for column in table.columns])
    return array[:, 0] if table.column_names == ["elbo"] else array


def ask(client, path, content, media=JSON, accept="*/*", **parameters):
    headers = {"content-type": media, "accept": accept}
    return client.post(f"/models/{path}", content=content, headers=headers, params=parameters)


@pytest.mark.parametrize("accept", FORMS.values(), ids=[f"to-{form}" for form in FORMS])
@pytest.mark.parametrize("media", FORMS.values(), ids=[f"from-{form}" for form in FORMS])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_in_every_form_is_the_estimator_s(client, vaes, method, media, accept):
    given = np.array([[0.5, -1.0], [2.0, 0.0]], np.float32) if method == "decode" else rows()
    response = ask(client, f"numbers/{method}", body_of(given, media), media, accept)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == accept
    expected = getattr(vaes["numbers"], METHODS[method])(given)
    assert np.array_equal(array_of(response), expected)


@pytest.mark.parametrize("method", ["encode", "reconstruct", "elbo", "impute"])
def test_tables_are_answered_as_the_estimator_does(client, vaes, method, people):
    table, vae = people[:7], written_as(vaes["people"], "pyarrow")
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    expected = getattr(vae, METHODS[method])(arrow)
    records = json.loads(json.dumps(arrow.to_pylist(), default=str))
    lists = [list(record.values()) for record in records]
    bodies = [(stream_of(arrow), ARROW)]
    bodies += [(json.dumps(each).encode(), JSON) for each in (records, lists, {"rows": records})]
    for content, media in bodies:
        response = ask(client, f"people/{method}", content, media, ARROW)
        assert response.status_code == 200, response.text
        found = pa.ipc.open_stream(response.content).read_all()
        if isinstance(expected, pa.Table):
            assert same_cells(found, expected)
        else:
            assert np.array_equal(array_of(response), expected)


def same_cells(found, expected):
    assert found.column_names == expected.column_names
    pairs = zip(found.columns, expected.columns, strict=True)
    return all(plain(one) == plain(other) for one, other in pairs)


def plain(column):
    cells = column.to_pylist()
    if pa.types.is_integer(column.type):
        return [None if cell is None else float(cell) for cell in cells]
    return [cell.isoformat()[:10] if hasattr(cell, "isoformat") else cell for cell in cells]


def test_records_come_back_as_records(client, vaes, people):
    response = ask(client, "people/decode", b"[[0.5, 1.0]]")
    (record,) = response.json()
    (expected,) = written_as(vaes["people"], "pyarrow").inverse_transform([[0.5, 1.0]]).to_pylist()
    assert record == {**expected, "since": expected["since"].isoformat()}
    again = ask(client, "people/encode", json.dumps([record]).encode())
    assert again.status_code == 200, again.text


def test_a_table_is_not_an_array(client):
    response = ask(client, "people/decode", b"[[0.5, 1.0]]", accept=NPY)
    assert response.status_code == 406
    assert JSON in response.json()["detail"]


def test_requests_that_are_computed_together_do_not_change_each_other(client, vaes):
    """64 clients at once, with rows, holes and numbers of rows of their own."""
    rng = np.random.default_rng(4)
    each = [rng.normal(size=(1 + i % 5, 3)).astype(np.float32) for i in range(64)]
    methods = ["encode", "reconstruct", "elbo", "impute"]

    def one(i):
        method = methods[i % 4]
        return array_of(ask(client, f"numbers/{method}", body_of(each[i], NPY), NPY, NPY))

    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(one, range(64)))
    for i, answer in enumerate(found):
        expected = getattr(vaes["numbers"], METHODS[methods[i % 4]])(each[i])
        assert np.array_equal(answer, expected), i
    text = client.get("/metrics").text
    samples = {
        line.split(" ")[0]: float(line.split(" ")[1])
        for line in text.splitlines()
        if line.startswith("aevb_batch_requests_")
    }
    # Some of them were computed together, or this test shows nothing.
    assert samples["aevb_batch_requests_sum"] > samples["aevb_batch_requests_count"]


def test_rows_behind_the_first_block_are_the_estimator_s(client, vaes):
    many = rows(2500)
    response = ask(client, "numbers/encode", body_of(many, NPY), NPY, NPY)
    assert np.array_equal(array_of(response), vaes["numbers"].transform(many))


@pytest.mark.parametrize("n", [1, 3, 8, 9])
@pytest.mark.parametrize("mean", [False, True])
def test_samples_of_a_seed_are_the_estimator_s(client, vaes, n, mean):
    response = ask(client, "numbers/sample", b"", accept=NPY, n=n, seed=7, mean=mean)
    assert response.headers["aevb-seed"] == "7"
    expected = vaes["numbers"].sample(n, random_state=7, mean=mean)
    assert np.array_equal(array_of(response), expected)


def test_samples_without_a_seed_differ_and_say_theirs(client, vaes):
    one, other = (ask(client, "numbers/sample", b"", n=2) for _ in range(2))
    assert one.json() != other.json()
    seed = int(one.headers["aevb-seed"])
    assert np.array_equal(array_of(one), vaes["numbers"].sample(2, random_state=seed))


@pytest.mark.parametrize("method", ["elbo", "impute"])
def test_a_seed_is_that_of_the_draws(client, vaes, method):
    response = ask(client, f"numbers/{method}", body_of(rows(), NPY), NPY, NPY, seed=5)
    assert np.array_equal(
        array_of(response), getattr(vaes["numbers"], method)(rows(), random_state=5)
    )


@pytest.mark.parametrize("condition", [["cat", "dog", "cat"], "dog"], ids=["each", "all"])
@pytest.mark.parametrize("exposure", [[1.0, 3.0, 2.5], 2.0], ids=["each", "all"])
def test_conditions_and_exposures_come_beside_the_rows(client, vaes, condition, exposure):
    counts = [[1, 2, 3, 4], [0, 0, 5, 1], [9, 1, 0, 0]]
    told = {"condition": condition, "exposure": exposure}
    found = array_of(ask(client, "counts/encode", json.dumps({"rows": counts, **told}).encode()))
    assert np.array_equal(found, vaes["counts"].transform(counts, **told))
    new = ask(client, "counts/sample", json.dumps(told).encode(), n=3, seed=1)
    assert np.array_equal(array_of(new), vaes["counts"].sample(3, random_state=1, **told))


def test_a_model_of_whole_rows_fills_holes_as_well(client, vaes):
    told = {"condition": "cat", "exposure": 1.0}
    body = json.dumps({"rows": [[1, None, 3, 4]], **told}).encode()
    expected = vaes["counts"].impute([[1, np.nan, 3, 4]], **told)
    assert np.array_equal(array_of(ask(client, "counts/impute", body)), expected)


def test_numbers_that_are_not_finite_are_null(client):
    from aevb.serve import bodies

    text = bodies.write(np.array([[1.5, np.nan], [np.inf, 2.0]]), JSON, "decode").decode()
    assert text == "[[1.5,null],[null,2.0]]"
    assert bodies.plain(np.array([math.nan])) == [None]


def test_metrics_are_by_route_and_status(client):
    ask(client, "numbers/encode", b"[[1, 2, 3]]")
    ask(client, "numbers/encode", b"[[1, 2]]")
    client.get("/somewhere/else")
    text = client.get("/metrics").text
    for route, status in (("/models/{model}/encode", 200), ("/models/{model}/encode", 422)):
        assert f'aevb_requests_total{{route="{route}",status="{status}"}}' in text
    assert 'aevb_request_seconds_count{route="/models/{model}/encode"}' in text
    assert "somewhere" not in text  # as many as callers can think of
    assert "aevb_requests_inside 0.0" in text


def test_what_there_is(client):
    models = client.get("/models").json()
    assert [model["name"] for model in models] == ["numbers", "people", "counts"]
    about = client.get("/models/people").json()
    assert about["columns"] == ["size", "visits", "city", "member", "since"]
    needs = client.get("/models/counts").json()
    assert needs["needs_condition"] is True and needs["needs_exposure"] is True


def test_pages_fetch_nothing_from_elsewhere(client):
    for path in ("/", "/docs", "/models/numbers/explorer"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http" not in policy
        text = response.text.replace("http://www.w3.org", "").replace(str(client.base_url), "")
        assert "http:" not in text and "https:" not in text
    assert "/models/numbers/explorer" in client.get("/").text
    assert "/models/{model}/encode" in client.get("/docs").text
    assert (
        f"curl -X POST &#x27;{client.base_url}/models/numbers/sample?n=3"
        in client.get("/docs").text
    )


def test_one_model_is_shown_at_the_root(limited, vaes):
    with limited({"counts": vaes["counts"]}) as client:
        assert client.get("/").text == client.get("/models/counts/explorer").text


def test_a_model_that_cannot_run_in_a_page_has_one_that_says_why(vaes, limited, monkeypatch):
    def refuse(vae):
        raise NotInAPage("It needs <sort>.")

    monkeypatch.setattr("aevb.serve.pages.page_of", refuse)
    with limited({"numbers": vaes["numbers"]}) as client:
        response = client.get("/")
    assert response.status_code == 200
    assert "It needs &lt;sort&gt;." in response.text


def test_nothing_is_compiled_once_a_method_was_asked(client):
    """Whatever the numbers of rows and the seeds: a server that compiles on and on fills up."""
    compiled = []

    def listen(event, duration, **about):
        if "backend_compile" in event:
            compiled.append(event)

    def everything(n, seed):
        for method in ("encode", "reconstruct", "elbo", "impute"):
            options = {"seed": seed} if method in ("elbo", "impute") else {}
            content = body_of(rows(n), NPY)
            assert ask(client, f"numbers/{method}", content, NPY, **options).is_success
        assert ask(client, "numbers/decode", json.dumps([[0.5, 1]] * n).encode()).is_success
        assert ask(client, "numbers/sample", b"", n=n, seed=seed).is_success

    for n in (1, 2, 3, 5, 9):
        everything(n, n)  # the powers of two up to 16
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for n in (1, 4, 6, 7, 11, 13, 16):
            everything(n, 100 + n)
        assert compiled == []
        jax.jit(lambda x: x * np.float32(compiled == []))(1.0)
        assert compiled  # the listener listens
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
