"""A run is one value: stopped and taken up again, in memory or in chunks, it ends the same."""

import jax
import numpy as np
import pytest

import aevb
from aevb.data.placement import OneDevice
from aevb.data.source import Chunk, InMemory, Source

DATA = np.random.default_rng(5).normal(size=(23, 3)).astype(np.float32) + 1
OPTIONS = {"batch_size": 5, "key": 3, "verbose": False}


class InChunks(Source):
    """Rows in chunks of seven, whose order the seed decides."""

    placement = OneDevice()

    def __init__(self, data):
        self.data = data

    @property
    def n_rows(self):
        return len(self.data)

    def example(self):
        return jax.ShapeDtypeStruct(self.data.shape[1:], self.data.dtype), None

    def chunks(self, order, start=0):
        starts = np.arange(0, self.n_rows, 7)
        if order is not None:
            starts = np.random.default_rng(order).permutation(starts)
        done = 0
        for first in starts:
            part = self.data[first : first + 7]
            if done >= start:
                yield Chunk(self.placement.put(part), None, np.arange(len(part)))
            done += len(part)


def same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def without_times(history):
    clock = ("seconds", "datapoints_per_second")
    return {name: column for name, column in history.items() if name not in clock}


SETTINGS = {
    "the automatic rate": {},
    "early stopping": {"patience": 2, "tol": 0.5, "validation_data": DATA[:6]},
    "an optimizer with memory": {"optimizer": "adam", "learning_rate": 0.01},
    "an E step": {"objective": aevb.MonteCarloEM()},
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("source", [InMemory, InChunks])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_a_run_taken_up_again_ends_as_if_it_had_never_stopped(line, source, settings):
    options = {**OPTIONS, **settings, "epochs": 6}
    if "objective" in settings and source is InChunks:  # which has a chain for each row
        with pytest.raises(ValueError, match=r"one chunk for MonteCarloEM.* 7 of them"):
            aevb.train(line(), source(DATA), **options)
        return
    whole = aevb.train(line(), source(DATA), **options)
    runs = []
    aevb.train(
        line(), source(DATA), **options, callbacks=[lambda e: runs.append(e.run) or e.number == 2]
    )
    resumed = aevb.train(line(), source(DATA), **options, resume=runs[-1])
    same(resumed.model, whole.model)
    assert without_times(resumed.history) == without_times(whole.history)


def test_rows_in_chunks_are_all_visited_once_per_epoch(line):
    seen = []

    def objective(model, batch, key, state):
        jax.debug.callback(lambda x, w: seen.append(x[w == 1]), batch.x, batch.weight)
        return -(model.weight**2).sum(), {"count": batch.weight.sum() * 0 + 1}, state

    result = aevb.train(line(), InChunks(DATA), **OPTIONS, objective=objective, epochs=2)
    rows = np.concatenate(seen)
    assert len(rows) == 2 * len(DATA)
    first, second = rows[: len(DATA)], rows[len(DATA) :]
    for epoch in (first, second):
        np.testing.assert_array_equal(np.unique(epoch, axis=0), np.unique(DATA, axis=0))
    assert (first != second).any()  # in another order
    assert result.history["count"] == [1.0, 1.0]


def test_a_resumed_run_is_a_run(line):
    with pytest.raises(TypeError, match=r"Run.*for `resume`; got TrainResult"):
        result = aevb.train(line(), DATA, **OPTIONS, epochs=1)
        aevb.train(line(), DATA, **OPTIONS, epochs=2, resume=result)


def test_a_source_has_its_own_context_and_any_batch_size(line):
    source = InMemory(DATA)
    with pytest.raises(ValueError, match="`context` left at None beside a source"):
        aevb.train(line(), source, context=DATA, **OPTIONS, epochs=1)
    with pytest.raises(ValueError, match="`validation_context` left at None beside a source"):
        aevb.train(
            line(),
            DATA,
            validation_data=source,
            validation_context=DATA,
            **OPTIONS,
            epochs=1,
        )
    with pytest.raises(ValueError, match="`validation_data` beside `validation_context`"):
        aevb.train(line(), DATA, validation_context=DATA, **OPTIONS, epochs=1)
    for batch_size, n_steps in ((5, 5), (23, 1)):
        options = {**OPTIONS, "batch_size": batch_size, "epochs": 1}
        of_source, of_array = (aevb.train(line(), data, **options) for data in (source, DATA))
        assert int(of_source.state.step) == n_steps
        same(of_source.model, of_array.model)


def test_a_context_that_no_method_reads_is_an_error(line):
    vae = aevb.VAE(2, hidden=(4,), epochs=1, random_state=0).fit(DATA)
    with pytest.raises(ValueError, match="`context` left at None for `AutoEncoder`"):
        aevb.train(vae.model_, DATA, context=DATA, **OPTIONS, epochs=1)
    with pytest.raises(ValueError, match="`context` left at None for `Line`"):
        aevb.sgvb(line(), DATA[0], jax.random.key(0), c=DATA[0])
    with pytest.raises(ValueError, match="`context` left at None for `Line`"):
        aevb.log_likelihood(line(), DATA[0], jax.random.key(0), c=DATA[0])
