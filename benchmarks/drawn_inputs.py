"""What users may hand over as data, drawn by Hypothesis, and what may come of it.

`ARRAYS` and `TABLES` are strategies; `outcome` fits a small model to what they draw. The tests draw
some, `faults.py` draws as many as it is told.
"""

import contextlib
import decimal
import re
import warnings
from datetime import date, timedelta

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from hypothesis.extra import pandas as hpd
from scipy import sparse

from aevb import VAE

FITTED, REFUSED = "fitted, all finite", "refused in words of ours"
# Rows fit into one buffer or two, and are fewer and more than a batch: little is compiled anew.
SETTINGS = {"hidden": (), "epochs": 2, "batch_size": 8, "random_state": 0, "verbose": False}
ROWS = st.sampled_from([1, 2, 3, 6, 8, 15, 16])
COLUMNS = st.sampled_from([1, 2, 2, 2, 3, 20])
EXTREME = st.sampled_from(
    [
        *(0.0, -0.0, 1.0, -1.0, 0.5, 255.0, 1e7, 1.7e9, 1e19, 3e38, -3e38),  # of float32
        *(1e-45, 1e-38, 1e-30, 1e-7, 1e39, 1e300, np.nan, np.inf, -np.inf),
    ]
)
_EXPONENT = st.sampled_from(
    [-320, -45, -40, -38, -37, -30, -19, -7, -3, *[0] * 8]
) | st.sampled_from([3, 7, 9, 19, 30, 36, 37, 38, 39, 300])
_SEED = st.integers(0, 2**32 - 1)


@st.composite
def numbers(draw, n):
    """Draw a column of n numbers: of any scale, constant, whole, with holes, with odd cells."""
    random = np.random.default_rng(draw(_SEED))
    kind = draw(
        st.sampled_from(
            [
                *("normal", "normal", "shifted", "constant", "binary", "unit", "counts", "whole"),
                *("pixels", "lone", "huge whole", "amounts", "alternating", "empty", "extreme"),
            ]
        )
    )
    with np.errstate(over="ignore", under="ignore"):
        scale = np.float64(f"1e{draw(_EXPONENT)}")
        values = {
            "normal": lambda: scale * random.normal(size=n),
            "shifted": lambda: scale * random.normal(size=n) + float(f"1e{draw(_EXPONENT)}"),
            "constant": lambda: np.full(n, draw(EXTREME)),
            "binary": lambda: random.integers(0, 2, n) * draw(st.sampled_from([1.0, 1.0, 255.0])),
            "unit": lambda: random.random(n),
            "counts": lambda: random.poisson(draw(st.sampled_from([0.1, 3.0, 1e5])), n),
            "whole": lambda: random.integers(-9, 9, n),
            "pixels": lambda: random.integers(0, 256, n),
            "lone": lambda: np.where(np.arange(n) == n // 2, scale, random.normal(size=n)),
            "huge whole": lambda: random.integers(-(2**62), 2**62, n),
            "amounts": lambda: (
                scale * np.exp(draw(st.sampled_from([1, 30])) * random.normal(size=n))
            ),
            "alternating": lambda: scale * (-1.0) ** np.arange(n),
            "empty": lambda: np.full(n, np.nan),
            "extreme": lambda: draw(hnp.arrays(np.float64, n, elements=EXTREME)),
        }[kind]()
    values = np.asarray(values, np.float64)
    if draw(st.sampled_from([False] * 5 + [True])):
        odd = draw(st.sampled_from([np.nan, np.nan, np.nan, np.inf, -np.inf]))
        values = np.where(random.random(n) < draw(st.sampled_from([0.1, 0.5])), odd, values)
    return values


@st.composite
def matrices(draw):
    """Draw columns side by side, of which some may repeat or combine others."""
    n, d = draw(ROWS), draw(COLUMNS)
    some = [draw(numbers(n)) for _ in range(min(d, 3))]
    random = np.random.default_rng(draw(_SEED))
    relation = draw(st.sampled_from(["none", "none", "none", "repeated", "summed"]))
    with np.errstate(over="ignore", invalid="ignore"):
        if d > len(some):
            scales = random.normal(size=(d - len(some), n))
            some += [some[j % 3] * (1 + scale) for j, scale in enumerate(scales)]
        elif relation == "repeated":
            some[-1] = some[0]
        elif relation == "summed":
            some[-1] = sum(some[:-1], 3 * some[0])
        X = np.stack(some, axis=1)
        if draw(st.sampled_from([False] * 5 + [True])):  # all on one scale
            X = X * float(f"1e{draw(_EXPONENT)}")
    return X[np.zeros(n, int)] if draw(st.sampled_from([False] * 11 + [True])) else X


NUMERIC = (
    *("float64", "float64", "float32", "float32", "float16", "longdouble", ">f8", ">f4", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint8", "uint16", "uint32", "uint64", ">i4"),
    *("object", "complex64", "complex128"),
)


def _cast(X, dtype):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if np.dtype(dtype).kind in "iu":
            X = np.nan_to_num(X, nan=0, posinf=9, neginf=0)
        return X.astype(dtype)


def _strided(X):
    wide = np.zeros((2 * X.shape[0], *X.shape[1:]), X.dtype)
    wide[::2] = X
    return wide[::2]


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": _strided,
    "reversed": lambda X: X[::-1, ::-1][::-1, ::-1].copy()[::-1],
    "transposed": lambda X: np.ascontiguousarray(X.T).T,
    "read-only": _read_only,
    "broadcast": lambda X: np.broadcast_to(X[:1], X.shape),
    "matrix": lambda X: X.view(np.matrix),
    "lists": lambda X: X.tolist(),
    "tuples": lambda X: tuple(map(tuple, X.tolist())),
    "list of arrays": list,
    "JAX": lambda X: jnp.asarray(X.astype(X.dtype.newbyteorder("=")) if X.dtype.kind in "f" else X),
    "decimals": lambda X: np.array(
        [[decimal.Decimal(str(float(x))) for x in row] for row in X.tolist()]
    ),
}


@st.composite
def plain_arrays(draw):
    """Draw numbers of any type, in any order in memory."""
    X = _cast(draw(matrices()), draw(st.sampled_from(NUMERIC)))
    if draw(st.sampled_from([False] * 7 + [True])):
        mask = np.random.default_rng(draw(_SEED)).random(X.shape) < 0.3
        return np.ma.masked_array(X, mask=mask)
    layout = draw(st.sampled_from([*["C"] * 6, *LAYOUTS]))
    if X.dtype.kind not in "fiub" or X.dtype.itemsize > 8:
        layout = {"JAX": "C", "decimals": "C"}.get(layout, layout)
    return LAYOUTS[layout](X)


@st.composite
def pictures(draw):
    """Draw pictures, of one channel or several."""
    shape = draw(st.sampled_from([(2, 2), (2, 2, 1), (1, 2, 2), (1, 1), (2, 2, 2, 2), (0, 2)]))
    n, random = draw(ROWS), np.random.default_rng(draw(_SEED))
    with np.errstate(all="ignore"):
        X = draw(numbers(n))[:, None] * random.integers(0, 3, (n, int(np.prod(shape))))
    dtype = draw(st.sampled_from(["uint8", "uint8", "float32", "float64", "bool", "float16", "U1"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _cast(X, dtype).reshape(n, *shape)


@st.composite
def sparse_arrays(draw):
    """Draw SciPy's sparse arrays and matrices of all forms, with explicit zeros and duplicates."""
    X, random = draw(matrices()), np.random.default_rng(draw(_SEED))
    X = np.where(random.random(X.shape) < draw(st.sampled_from([0.1, 0.5, 0.9])), X, 0)
    types = ["float64", "float32", "int64", "int8", "uint8", "bool", "complex64", "longdouble"]
    X = _cast(X, draw(st.sampled_from(types)))
    made = sparse.coo_array(X)
    if made.nnz and draw(st.booleans()):
        more = [np.concatenate([part, part[:2]]) for part in (made.data, *made.coords)]
        more[0][-1] = 0
        made = sparse.coo_array((more[0], (more[1], more[2])), shape=X.shape)
    form = draw(st.sampled_from(["csr", "csr", "csc", "coo", "bsr", "lil", "dok", "dia"]))
    if draw(st.booleans()):
        made = sparse.coo_matrix(made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy's: many diagonals
        return made.asformat(form)


FOREIGN = st.one_of(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.array_dtypes() | hnp.nested_dtypes(),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
    ),
    st.lists(st.lists(st.floats() | st.integers() | st.none(), max_size=3), max_size=4),
    st.lists(st.one_of(st.none(), st.text(max_size=3), st.floats(), st.booleans()), max_size=4),
    st.lists(st.tuples(st.floats(-5, 5), st.text(max_size=2) | st.dates()), max_size=4),
    hpd.series(dtype=float),
    st.builds(range, st.integers(0, 5)),
    st.builds(memoryview, st.binary(max_size=4)),
    st.builds(iter, st.just([[1.0], [2.0]])),
)

ARRAYS = st.one_of(
    plain_arrays(), plain_arrays(), plain_arrays(), pictures(), sparse_arrays(), FOREIGN
)


# Tables.


def _holes(draw, n):
    share = draw(st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.0]))
    return np.random.default_rng(draw(_SEED)).random(n) < share


@st.composite
def cells(draw, n):
    """Draw a column of a table: a list of n cells of Python's, None where there is no value."""
    kind = draw(
        st.sampled_from(
            [
                *("numbers", "numbers", "numbers", "integers", "truth", "texts", "few", "dates"),
                *("moments", "durations", "mixed", "objects", "decimals", "bytes", "constant"),
                *("far dates", "huge integers", "zoned"),
            ]
        )
    )
    if kind == "numbers":
        values = draw(numbers(n)).tolist()
    elif kind == "constant":
        values = [draw(st.sampled_from(["a", 1, 2.5, True, date(2020, 1, 1), ""]))] * n
    else:
        day = st.dates(date(1990, 1, 1), date(2030, 1, 1))
        values = draw(
            st.lists(
                {
                    "integers": st.integers(-5, 50),
                    "huge integers": st.integers(-(2**63), 2**63 - 1),
                    "truth": st.booleans(),
                    "texts": st.text(max_size=3),
                    "few": st.sampled_from(["a", "b", "ü"]),
                    "dates": day,
                    "far dates": st.dates(),
                    "moments": st.datetimes(pd.Timestamp("1990-01-01"), pd.Timestamp("2030-01-01")),
                    "zoned": st.builds(pd.Timestamp, day, tz=st.just("Europe/Berlin")),
                    "durations": st.timedeltas(timedelta(-999), timedelta(999)),
                    "mixed": st.integers(0, 3) | st.text(max_size=2) | day | st.booleans(),
                    "objects": st.lists(st.integers(), max_size=1) | st.complex_numbers(),
                    "decimals": st.decimals(-100, 100, places=2) | st.just(decimal.Decimal("NaN")),
                    "bytes": st.binary(max_size=2),
                }[kind],
                min_size=n,
                max_size=n,
            )
        )
    return [None if gone else v for v, gone in zip(values, _holes(draw, n), strict=True)]


PANDAS = (
    *(None,) * 8,
    *("category", "ordered", "object", "string", "Int64", "Float64", "boolean", "float32"),
    *("float16", "int8", "uint8", "uint64", "datetime64[s]", "datetime64[ns, UTC]"),
    *("timedelta64[ms]", "Sparse[float]", "complex128", "double[pyarrow]", "string[pyarrow]"),
    *("period[D]", "interval"),
)


def _typed_of_pandas(values, dtype):
    """Give cells a type of pandas if they can have it."""
    column = pd.Series(values)
    if dtype is None:
        return column
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            if dtype == "ordered":
                return column.astype("category").cat.as_ordered()
            if dtype == "interval":
                return pd.cut(column.astype(float), 3)
            return column.astype(dtype)
    except Exception:  # pandas has many of its own
        return column


@st.composite
def pandas_tables(draw):
    """Draw tables of pandas, with names and indices of any kind."""
    n, d = draw(st.sampled_from([0, 1, 2, 3, 8, 15])), draw(st.sampled_from([0, 1, 2, 3, 3]))
    made = [_typed_of_pandas(draw(cells(n)), draw(st.sampled_from(PANDAS))) for _ in range(d)]
    table = pd.concat(made, axis=1) if made else pd.DataFrame(index=range(n))
    kind = draw(st.sampled_from(["letters"] * 8 + ["twice", "levels", "numbers", "mixed", "empty"]))
    names = {
        "letters": list("abc"),
        "twice": ["a", "b", "a"],
        "levels": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)][:d]) if d else [],
        "numbers": [0, 1, 2],
        "mixed": ["a", 1, None],
        "empty": ["", " ", "\n"],
    }[kind]
    table.columns = names[:d]
    index = draw(st.sampled_from(["range"] * 4 + ["dates", "twice", "texts"]))
    if index == "dates":
        table.index = pd.date_range("2020", periods=n)
    elif index == "twice":
        table.index = [7] * n
    elif index == "texts":
        table.index = list(map(str, range(n)))
    return table


@st.composite
def other_tables(draw):
    """Draw tables of Polars and PyArrow."""
    n, d = draw(st.sampled_from([0, 1, 2, 3, 8, 15])), draw(st.sampled_from([0, 1, 2, 3, 3]))
    columns = {name: draw(cells(n)) for name in "abc"[:d]}
    library = draw(st.sampled_from(["polars", "pyarrow"]))
    if library == "polars":
        series = []
        for name, values in columns.items():
            if any(isinstance(each, decimal.Decimal) for each in values):  # Polars aborts at NaN
                values = [None if each is None or each.is_nan() else each for each in values]
            try:
                made = pl.Series(name, values, strict=False)
            except Exception:  # types that Polars refuses
                made = pl.Series(name, list(map(str, values)))
            for dtype in draw(
                st.sampled_from(
                    [(), (), (pl.Categorical,), (pl.Float32,), (pl.UInt8,), (pl.Int128,)]
                )
            ):
                try:
                    made = made.cast(dtype)
                except Exception:  # of values that do not fit the type; it stays as it is
                    continue
            series.append(made)
        return pl.DataFrame(series)
    arrays = []
    for values in columns.values():
        try:
            made = pa.array(values)
        except Exception:  # types that Arrow refuses
            made = pa.array(list(map(str, values)))
        if draw(st.sampled_from([False, False, False, True])):
            with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
                made = made.dictionary_encode()
        if draw(st.sampled_from([False, False, True])):
            made = pa.chunked_array([made[: n // 2], made[n // 2 :]], type=made.type)
        arrays.append(made)
    return pa.table(arrays, names=list(columns))


TABLES = st.one_of(pandas_tables(), pandas_tables(), other_tables())


# What may come of it.

# scikit-learn's, on which we rely: plain, and what its users know.
_PLAIN = (
    r"Found array with \d+ (sample|feature)\(s\) .* while a minimum of \d+ is required",
    r"Expected 2D array, got (scalar|1D) array instead",
    r"Expected a 2-dimensional container but got",
    r"np\.matrix is not supported",
    r"Complex data not supported",
    r"Feature names are only supported if all input features have string names",
)
_WARNINGS = (
    "dwarfs the differences",
    "No value in (columns|rows)",
    "vary so little beside their size",
    "(is|are) left out",
)


def is_ours(error):
    """Whether a message says what was expected and what was given, or is a plain one."""
    said = str(error)
    return isinstance(error, (ValueError, TypeError)) and bool(
        re.search(r"(?s)^(In `\w+`: )?Expected .*\bgot ", said)
        or any(re.search(p, said) for p in _PLAIN)
    )


def outcome(X):
    """Fit X, and use the model; return what came of it.

    Whatever is neither of the two raises: an error in other words, any warning but ours, numbers
    that are not finite.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for said in _WARNINGS:
            warnings.filterwarnings("ignore", f"(?s).*{said}", UserWarning)
        vae = VAE(1, **SETTINGS)
        try:
            vae.fit(X)
        except (ValueError, TypeError) as error:
            if not is_ours(error):
                raise
            assert not [name for name in vars(vae) if name.endswith("_")], "half fitted"
            return REFUSED
        _use(vae, X)
    return FITTED


def _use(vae, X):
    """Check that whatever a fitted model says of its data is finite."""
    schema = vae.schema_
    known = np.concatenate(
        [np.broadcast_to(p.measured.n_rows > 0, np.prod(p.shape)) for p in schema.parts.values()]
    )
    if schema.columns is not None:
        known = ~np.isnan([c.value if c.likelihood is None else 0 for c in schema.columns.choices])

    def check(name, values):
        if schema.columns is not None and name in ("reconstruct", "sample", "impute"):
            values = schema.columns.read(values)  # a table of the same columns again
        values = np.asarray(values.toarray() if sparse.issparse(values) else values)
        bad = ~np.isfinite(values.astype(np.float64))
        if name == "impute":  # nothing is known of columns without a value
            bad = bad.reshape(len(values), -1)[:, known]
        assert not bad.any(), f"{name} is not finite"

    check("explained_nats_", vae.explained_nats_)
    for name in ("transform", "elbo", "score_samples", "reconstruct"):
        check(name, getattr(vae, name)(X))
    check("sample", vae.sample(5))
    if not sparse.issparse(X):
        check("impute", vae.impute(X, n_draws=10))
