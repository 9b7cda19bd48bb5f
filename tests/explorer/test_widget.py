"""The explorer in a notebook."""

import json

import numpy as np
import pytest

from aevb import VAE

pytest.importorskip("anywidget", reason="anywidget is not installed")
X = np.random.default_rng(0).normal(size=(40, 3))


def test_a_widget_has_the_page_and_the_point():
    vae = VAE(2, hidden=(3,), epochs=1, random_state=0).fit(X)
    widget = vae.explore(X, np.arange(40) % 2)
    state = widget.get_state()
    assert "mountExplorer" in state["_esm"] and ".aevb-explorer" in state["_css"]
    assert json.loads(json.dumps(state["payload"]))["cases"]["n"] == 40
    assert vae.inverse_transform([widget.point]).shape == (1, 3)
