"""What is compiled is kept for as long as it is among the programs used last."""

import threading

import jax.numpy as jnp
import numpy as np

from aevb.compiling import jit

X = jnp.arange(3)


def counting(most):
    made = []

    def times(x, n):
        made.append(n)
        return x * n

    return jit(times, most=most), made


def test_the_program_not_used_for_longest_is_dropped():
    times, made = counting(most=3)
    for n in (0, 1, 2, 0, 1, 2, 3, 1, 2, 3, 0):
        np.testing.assert_array_equal(times(X, n), X * n)
    assert made == [0, 1, 2, 3, 0]


def test_programs_that_take_turns_are_kept_before_long():
    times, made = counting(most=3)
    for _ in range(10):
        for n in range(7):
            np.testing.assert_array_equal(times(X, n), X * n)
    assert len(made) <= 7 + 7 and made[-1] < 7
    many, made = counting(most=1)
    for _ in range(3):
        for n in range(20):
            many(X, n)
    assert len(made) == 60  # more than eight times as many are never kept


def test_other_shapes_and_types_are_other_programs():
    times, made = counting(most=3)
    for x in (X, X[:2], X.astype(float), X, X[:2]):
        times(x, 2)
    assert len(made) == 3


def test_numbers_that_are_equal_are_not_the_same():
    times, made = counting(most=9)
    assert [times(X, n).dtype.kind for n in (1, 1.0, True)] == ["i", "f", "i"]
    assert made == [1, 1.0, True]
    keep = jit(lambda x, n: (x, n))
    assert [type(keep(X, n)[1]) for n in (1, True, 1.0)] == [int, bool, float]


def test_arguments_have_names_and_results_may_take_their_place():
    @jit
    def by_name(x, *, n, others):
        return {"sum": x + others["a"] * n, "n": n}

    found = by_name(X, n=2, others={"a": X, "b": "text"})
    np.testing.assert_array_equal(found["sum"], 3 * X)
    assert found["n"] == 2
    given = jnp.ones(5)
    in_place = jit(lambda x, y: x + y, in_place=True)
    np.testing.assert_array_equal(in_place(given, 1.0), np.full(5, 2.0))


def test_threads_may_call_it_at_the_same_time():
    times, _ = counting(most=2)
    wrong = []

    def work():
        try:
            for n in np.random.default_rng(0).integers(0, 5, 40).tolist():
                assert (times(X, n) == X * n).all()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
