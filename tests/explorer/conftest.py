"""Programs run by Node, as a page runs them; a page opened in Chromium."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

RUN = """
const fs = require("node:fs");
(0, eval)(fs.readFileSync(process.argv[1], "utf8"));
const { program, cases } = JSON.parse(fs.readFileSync(0, "utf8"));
if (program === null) {
  console.log(JSON.stringify(aevb.operations));
  process.exit();
}
const run = aevb.compile(program);
const read = (text) => new Float64Array(aevb.bytes(text));
const written = (values) => Buffer.from(Float64Array.from(values).buffer).toString("base64");
console.log(JSON.stringify(cases.map((inputs) => run(...inputs.map(read)).map(written))));
"""


def _text(values):
    return base64.b64encode(np.asarray(values, np.float64).tobytes()).decode("ascii")


@pytest.fixture(scope="session")
def node():
    """A function that runs a program for several cases; each output has rows of one case each."""
    command = shutil.which("node")
    if command is None:
        pytest.skip("Node, which runs the programs of pages, is not installed")
    script = resources.files("aevb.explorer").joinpath("static", "program.js")

    def run(program, *inputs):
        cases = [[_text(x) for x in case] for case in zip(*inputs, strict=True)]
        told = json.dumps({"program": program, "cases": cases}, allow_nan=False)
        call = [command, "-e", RUN, str(script)]
        made = subprocess.run(call, input=told, capture_output=True, text=True, check=True)
        found = json.loads(made.stdout)
        if program is None:
            return found
        shapes = [output["shape"] for output in program["outputs"]]
        read = [[np.frombuffer(base64.b64decode(text)) for text in case] for case in found]
        return [
            np.stack([case[i].reshape(shape) for case in read]) for i, shape in enumerate(shapes)
        ]

    return run
