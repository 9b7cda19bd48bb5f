"""The Open Inference Protocol, as its specification has it."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from aevb.partitions import written_as

X = np.array([[0.5, -1.0, 0.25], [1.0, 0.0, -0.5]], np.float32)


def infer(client, model="numbers", **request):
    return client.post(f"/v2/models/{model}/infer", json=request)


def tensor(data, shape, datatype="FP32", name="X"):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def test_the_server_says_who_it_is(client):
    about = client.get("/v2").json()
    assert about["name"] == "aevb" and about["extensions"] == [] and about["version"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("path", ["/v2/models/numbers", "/v2/models/numbers/versions/1"])
def test_metadata(client, path):
    assert client.get(path).json() == {
        "name": "numbers",
        "versions": ["1"],
        "platform": "aevb",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [
            {"name": "latent", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "elbo", "datatype": "FP32", "shape": [-1]},
            {"name": "reconstruction", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }
    assert client.get(f"{path}/ready").json() == {"name": "numbers", "ready": True}


@pytest.mark.parametrize("data", [X.ravel().tolist(), X.tolist()], ids=["flat", "nested"])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_outputs_are_the_estimator_s(client, vaes, data, datatype):
    response = infer(client, id="42", inputs=[tensor(data, [2, 3], datatype)])
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["id"], found["model_name"], found["model_version"]) == ("42", "numbers", "1")
    vae = vaes["numbers"]
    expected = {
        "latent": vae.transform(X),
        "elbo": vae.elbo(X),
        "reconstruction": vae.reconstruct(X),
    }
    assert [output["name"] for output in found["outputs"]] == list(expected)
    for output in found["outputs"]:
        array = expected[output["name"]]
        assert output["shape"] == list(array.shape) and output["datatype"] == "FP32"
        assert np.array_equal(np.array(output["data"], np.float32), array.ravel())


def test_outputs_that_are_named_are_all_that_comes(client):
    asked = [{"name": "elbo"}]
    found = infer(client, inputs=[tensor(X.tolist(), [2, 3])], outputs=asked).json()
    assert [output["name"] for output in found["outputs"]] == ["elbo"]
    assert "id" not in found


def test_missing_values_are_null(client, vaes):
    found = infer(client, inputs=[tensor([1.0, None, 0.5], [1, 3])], outputs=[{"name": "latent"}])
    expected = vaes["numbers"].transform(np.array([[1.0, np.nan, 0.5]], np.float32))
    assert np.array_equal(np.array(found.json()["outputs"][0]["data"], np.float32), expected[0])


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_columns_of_a_table_are_inputs_and_outputs(client, vaes, people, shape):
    records = json.loads(people[:3].to_json(orient="records", date_format="iso"))
    metadata = client.get("/v2/models/people").json()
    types = {each["name"]: each["datatype"] for each in metadata["inputs"]}
    assert types == {
        **{"size": "FP64", "visits": "FP64", "member": "BOOL"},
        **{"city": "BYTES", "since": "BYTES"},
    }
    inputs = [
        tensor([record[name] for record in records], shape, datatype, name)
        for name, datatype in types.items()
    ]
    found = infer(client, "people", inputs=inputs)
    assert found.status_code == 200, found.text
    outputs = {output["name"]: output["data"] for output in found.json()["outputs"]}
    vae = written_as(vaes["people"], "pyarrow")
    table = pa.Table.from_pandas(people[:3], preserve_index=False)
    assert np.array_equal(np.array(outputs["elbo"], np.float32), vae.elbo(table))
    assert outputs["reconstruction.city"] == vae.reconstruct(table)["city"].to_pylist()
    assert {*outputs} == {each["name"] for each in metadata["outputs"]}


def test_what_all_cases_share_is_a_parameter(client, vaes):
    told = {"condition": "dog", "exposure": 1.5}
    counts = [[1, 2, 3, 4], [0, 0, 5, 1]]
    inputs = [tensor(counts, [2, 4], "INT32")]
    found = infer(client, "counts", inputs=inputs, parameters=told, outputs=[{"name": "latent"}])
    (output,) = found.json()["outputs"]
    expected = vaes["counts"].transform(counts, **told)
    assert np.array_equal(np.array(output["data"], np.float32), expected.ravel())


WRONG = {
    "no inputs": {},
    "no tensors": {"inputs": []},
    "another name": {"inputs": [tensor([1, 2, 3], [1, 3], name="Y")]},
    "another size": {"inputs": [tensor([1, 2], [1, 3])]},
    "another shape": {"inputs": [tensor([1, 2], [1, 2])]},
    "a negative shape": {"inputs": [tensor([1, 2], [-1, -2])]},
    "an unknown type": {"inputs": [tensor([1, 2, 3], [1, 3], "FP8")]},
    "an unknown output": {
        "inputs": [tensor([1, 2, 3], [1, 3])],
        "outputs": [{"name": "latents"}],
    },
    "texts": {"inputs": [tensor(["a", "b", "c"], [1, 3], "BYTES")]},
    "lists in lists": {"inputs": [tensor([[[[1, 2, 3]]], 4, 5], [1, 3])]},
    "another field": {"inputs": [tensor([1, 2, 3], [1, 3])], "mode": "fast"},
}


@pytest.mark.parametrize("request_", WRONG.values(), ids=WRONG)
def test_errors_are_those_of_the_protocol(client, request_):
    response = infer(client, **request_)
    assert response.status_code == 422, response.text
    assert set(response.json()) == {"error"}
    assert client.get("/v2/models/unknown").json().keys() == {"error"}
    assert infer(client, "unknown").status_code == 404
