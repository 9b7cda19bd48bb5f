"""The Hugging Face Hub: a model as a repository of two files, the model and its card."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from aevb.persistence import load
from aevb.report.collect import facts
from aevb.share.libraries import check_installed
from aevb.share.model_card import card
from aevb.share.model_file import FILE, write


def push(
    vae: Any,
    repo_id: str,
    X: Any = None,
    *,
    condition: Any = None,
    exposure: Any = None,
    license: str | None = None,
    text: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Push a fitted estimator and its card, in one commit; return its address.

    Parameters
    ----------
    vae, repo_id, X, condition, exposure, license, text, private, revision, token
        See `VAE.push_to_hub`.
    """
    check_installed("huggingface_hub", "hub", "push_to_hub")
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import validate_repo_id

    if repo_id.count("/") != 1:
        raise ValueError(f"Expected 'user/name' for `repo_id`; got {repo_id!r}.")
    validate_repo_id(repo_id)
    if text is not None and not (X is None and license is None):
        raise ValueError(
            "Expected no `X` and `license` beside a `card` of your own, as they go into the one "
            "that is made here; got both."
        )
    if text is None:
        known = facts(vae, X, condition=condition, exposure=exposure)
        text = card(known, repo_id, license=license)
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Any] = {FILE: write(vae, folder), "README.md": text.encode()}
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message="Add a model of aevb and its card",
            revision=revision,
        )
    return str(commit.repo_url)


def download(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Fetch the file of a model, and return where it is.

    Raises
    ------
    ValueError
        When the repository holds no model of aevb.
    """
    check_installed("huggingface_hub", "hub", "from_hub")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(repo_id, FILE, revision=revision, token=token))
    except RemoteEntryNotFoundError as error:
        raise ValueError(
            f"Expected a repository with the file {FILE}, as `push_to_hub` writes it, for "
            f"`repo_id`; {repo_id} has none."
        ) from error


def pull(
    estimator: type,
    repo_id: str,
    parameters: dict[str, Any],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Any:
    """Fetch an estimator; see `VAE.from_hub`."""
    return load(estimator, download(repo_id, revision=revision, token=token), parameters)
