"""Requests drawn from the OpenAPI page, well-formed and malformed: none is an error of the server.

``benchmarks/serving.py malformed`` draws 10,000.
"""

from __future__ import annotations

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="draws the requests; in aevb[dev]")


@pytest.mark.slow
def test_drawn_requests_are_answered_or_refused(limited, vaes):
    from serving import draw_requests

    models = {name: vaes[name] for name in ("numbers", "people")}
    with limited(models, max_rows=100, queue=8) as client:
        seen = draw_requests(str(client.base_url).rstrip("/"), 200)
    assert seen.total() >= 200
    assert not [status for status in seen if status >= 500], seen
    assert seen[200] > 10  # and not all of them were refused
    assert seen[422] > 10
