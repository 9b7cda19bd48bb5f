"""The bar shows the numbers to people who watch, and nothing to anybody else."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from aevb import VAE
from aevb.progress import ProgressBar

X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)


def shown(capfd, **options):
    """Fit, and return what was printed to standard output and standard error."""
    VAE(1, hidden=(4,), epochs=2, random_state=0, **options).fit(X)
    return capfd.readouterr()


@pytest.mark.parametrize("options", [{"verbose": False}, {"verbose": "auto"}, {}], ids=str)
def test_nothing_is_printed_away_from_a_terminal(options, capfd):
    assert shown(capfd, **options) == ("", "")


def test_epoch_bound_and_speed_are_shown_on_request(capfd):
    out, err = shown(capfd, verbose=True)
    assert out == ""
    for part in ("30 cases", "2/2", "ELBO=", "KL=", "reconstruction=", "datapoints/s="):
        assert part in err
    assert "validation" not in err


def test_held_out_bound_is_shown_where_there_is_one(capfd):
    assert "validation ELBO=" in shown(capfd, verbose=True, validation_fraction=0.2).err


def test_likelihood_that_was_chosen_is_said_with_the_reason(capfd):
    chosen = shown(capfd, verbose=True).err
    assert "gaussian" in chosen.lower()
    assert "values outside [0, 1]" in chosen
    given = shown(capfd, verbose=True, likelihood="gaussian").err
    assert "values outside" not in given


def test_numbers_are_those_of_the_history(capfd):
    vae = VAE(1, hidden=(4,), epochs=2, random_state=0, verbose=True).fit(X)
    last = capfd.readouterr().err.split("\r")[-1]
    for name, column in {"ELBO": "elbo", "KL": "kl", "reconstruction": "reconstruction"}.items():
        assert f"{name}={vae.history_[column][-1]:.2f}" in last


def test_metrics_without_a_bound_are_shown(capfd):
    metrics = {"log_joint": -3.0, "acceptance": 0.87, "datapoints_per_second": 1e3}
    with ProgressBar(1, verbose=True) as bar:
        bar(SimpleNamespace(metrics=metrics))
    err = capfd.readouterr().err
    assert "log joint=-3.00, acceptance=0.87, datapoints/s=1,000" in err
    assert "ELBO" not in err


def test_a_terminal_sees_the_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert ProgressBar(1, "auto").shown
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert not ProgressBar(1, "auto").shown


def test_a_notebook_sees_the_bar(monkeypatch):
    class ZMQInteractiveShell:
        """What IPython calls its shell in a notebook."""

    class IPython:
        get_ipython = staticmethod(ZMQInteractiveShell)

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    assert ProgressBar(1, "auto").shown


def test_bar_ends_when_training_is_interrupted(capfd):
    def interrupt(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shown(capfd, verbose=True, callbacks=[interrupt])
    assert capfd.readouterr().err.endswith("\n")


@pytest.mark.parametrize(
    ("verbose", "error"), [("loud", ValueError), (None, TypeError), (0.5, TypeError)]
)
def test_verbose_is_true_false_or_auto(verbose, error):
    with pytest.raises(error, match=r"'auto', True or False for `verbose`; got"):
        ProgressBar(1, verbose)
