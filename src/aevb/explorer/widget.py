"""The explorer as a widget for Jupyter, VS Code and Colab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aevb.explorer.content import payload
from aevb.explorer.document import scripts, styles

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise ImportError(
        "The explorer in a notebook needs anywidget, which is not installed: "
        'pip install "aevb[widget]"'
    ) from error

_RENDER = """
export default {
  render({ model, el }) {
    const explorer = aevb.mountExplorer(el, model.get("payload"), {
      onMove(point) {
        model.set("point", [...point]);
        model.save_changes();
      },
    });
    model.on("change:point", () => explorer.moveTo(model.get("point")));
    return () => explorer.remove();
  },
};
"""


class Explorer(anywidget.AnyWidget):
    """The explorer of a fitted model in a notebook; see `VAE.explore`.

    Parameters
    ----------
    vae, X, labels, condition, exposure, image_shape
        As in `aevb.explorer.payload`.

    Attributes
    ----------
    point : list of float
        The latent point that is shown; ``vae.inverse_transform([explorer.point])`` is its case.
        Setting it moves the point.
    """

    _esm = scripts() + _RENDER
    _css = styles()
    payload = traitlets.Dict().tag(sync=True)
    point = traitlets.List(traitlets.Float()).tag(sync=True)

    def __init__(
        self,
        vae: Any,
        X: Any = None,
        labels: Any = None,
        *,
        condition: Any = None,
        exposure: Any = None,
        image_shape: Sequence[int] | None = None,
    ):
        content = payload(
            vae, X, labels, condition=condition, exposure=exposure, image_shape=image_shape
        )
        super().__init__(payload=content, point=content["latent"]["start"])
