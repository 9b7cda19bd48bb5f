"""What the tests of sharing have in common: small models, and a hub on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from aevb import VAE

QUICK = {"hidden": (5,), "random_state": 0, "verbose": False}


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """A mixed table, in which no number equals that of a row's position."""
    rng, n = np.random.default_rng(0), 60
    made = pd.DataFrame(
        {
            "size": rng.normal(size=n),
            "count": rng.poisson(3, n),
            "town": rng.choice(["Bonn", "Ulm"], n),
            "level": pd.Categorical(
                rng.choice(["junior", "senior"], n), ["junior", "senior"], ordered=True
            ),
            "owner": rng.random(n) < 0.5,
            "day": pd.Timestamp("2000-01-01") + pd.to_timedelta(rng.integers(0, 999, n), unit="D"),
        }
    )
    made.index = pd.Index(rng.permutation(n) + 7_654_300, name="number")
    return made


@pytest.fixture(scope="session")
def of_table(table) -> VAE:
    """A model of the table."""
    return VAE(2, epochs=3, **QUICK).fit(table)


@pytest.fixture(scope="session")
def of_array(table) -> VAE:
    """A model of an array."""
    return VAE(1, epochs=3, **QUICK).fit(table[["size", "count"]].to_numpy())


class Hub(ThreadingHTTPServer):
    """As much of the Hub as a model needs: repositories of commits of files, behind its protocol.

    Who writes needs the token; private repositories are hidden from others.
    """

    daemon_threads = True
    token = "hf_of_the_tests"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.requests: list[str] = []
        self.refuse_commits = False

    def files(self, repo: str, revision: str = "main") -> tuple[str, dict[str, bytes]] | None:
        """Return a commit, and its files."""
        found = dict(self.commits.get(repo, []))
        if revision == "main" and found:
            revision = [*found][-1]
        return (revision, found[revision]) if revision in found else None


class Handler(BaseHTTPRequestHandler):
    """Answers requests; whatever else is asked for is a 501, which fails the test."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(f"POST {self.path}")
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if not self.is_known:
            return self.answer({"error": "Invalid credentials"}, 401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.server.commits:
                return self.answer({"error": "exists", "url": self.page(repo)}, 409)
            self.server.commits[repo] = []
            self.server.private[repo] = asked.get("private") or asked.get("visibility") == "private"
            return self.answer({"url": self.page(repo), "name": repo})
        if found := re.fullmatch(r"/api/models/(.+/.+)/preupload/main", self.path):
            asked = json.loads(body)["files"]
            told = {"uploadMode": "regular", "shouldIgnore": False}
            return self.answer({"files": [{"path": each["path"], **told} for each in asked]})
        if found := re.fullmatch(r"/api/models/(.+/.+)/commit/main", self.path):
            if self.server.refuse_commits:
                return self.answer({"error": "No space left"}, 403)
            repo, lines = found[1], [json.loads(line) for line in body.splitlines()]
            files = {
                each["value"]["path"]: base64.b64decode(each["value"]["content"])
                for each in lines
                if each["key"] == "file"
            }
            assert [each["key"] for each in lines] == ["header"] + ["file"] * len(files)
            oid = hashlib.sha1(body).hexdigest()
            self.server.commits[repo].append((oid, files))
            url = f"{self.page(repo)}/commit/{oid}"
            return self.answer({"success": True, "commitOid": oid, "commitUrl": url})
        return self.answer({"error": f"not in this stub: {self.path}"}, 501)

    def do_GET(self):
        self.server.requests.append(f"{self.command} {self.path}")
        if found := re.fullmatch(r"/(.+/.+)/resolve/([^/]+)/(.+)", self.path):
            repo, revision, name = found.groups()
            hidden = self.server.private.get(repo) and not self.is_known
            if repo not in self.server.commits or hidden:
                return self.answer({"error": "none"}, 401, {"X-Error-Code": "RepoNotFound"})
            commit = self.server.files(repo, revision)
            if commit is None:
                return self.answer({"error": "none"}, 404, {"X-Error-Code": "RevisionNotFound"})
            oid, files = commit
            if name not in files:
                told = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid}
                return self.answer({"error": "none"}, 404, told)
            etag = hashlib.sha1(files[name]).hexdigest()
            return self.answer(files[name], 200, {"ETag": f'"{etag}"', "X-Repo-Commit": oid})
        return self.answer({"error": f"not in this stub: {self.path}"}, 501)

    do_HEAD = do_GET

    @property
    def is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def page(self, repo: str) -> str:
        return f"{self.server.address}/{repo}"

    def answer(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if body is content else "application/json"
        told = {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A hub on this machine, with nothing in it, in the place of the real one."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub")
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        # What HF_ENDPOINT, HF_HUB_CACHE and HF_TOKEN say when a process begins.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        template = template.replace(constants.ENDPOINT, server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", server.token)
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
