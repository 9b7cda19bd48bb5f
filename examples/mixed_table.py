"""A table of mixed columns with holes: filled, asked, and searched for wrong cells.

Simulated people have two latent traits. Each column follows them in its own way: income (skewed),
height, children (a count), town (a category), education (ordered), whether they own their home, and
the day on which they moved. A quarter of all cells are missing.

What is measured, against what a column alone would give:

- texts and truth values that are filled rightly, beside the most frequent value;
- numbers: the error of filled cells as a share of the column's standard deviation (the mean gives
  1);
- `given`: the share of owners among draws given a town, beside that among the people who live
  there;
- `surprise`: how often the wrong one among a row's cells is the most surprising.
"""

import numpy as np
import pandas as pd

from aevb import VAE

TOWNS = np.array(["Bonn", "Köln", "Mainz", "Ulm"])
LEVELS = ["none", "school", "college", "doctorate"]


def simulate(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return a complete table."""
    wealth, age = rng.normal(size=(2, n))
    logits = np.column_stack([2 * wealth, 2 * age, -2 * wealth, -2 * age])
    town = (logits + rng.gumbel(size=(n, 4))).argmax(axis=1)
    level = np.digitize(1.5 * wealth + 0.5 * rng.normal(size=n), [-1.5, 0, 1.5])
    days = np.round(3000 + 1500 * age + 300 * rng.normal(size=n))
    return pd.DataFrame(
        {
            "income": np.exp(10 + 0.5 * wealth + 0.1 * rng.normal(size=n)).round(),
            "height": 175 + 5 * age - 5 * wealth + 2 * rng.normal(size=n),
            "children": rng.poisson(np.exp(0.5 + 0.8 * age)),
            "town": TOWNS[town],
            "education": pd.Categorical.from_codes(level, LEVELS, ordered=True),
            "owner": wealth + age + 0.5 * rng.normal(size=n) > 0,
            "moved": pd.Timestamp("2000-01-01") + pd.to_timedelta(days, unit="D"),
        }
    )


def main(n: int = 3000, epochs: int = 150) -> dict[str, float]:
    rng = np.random.default_rng(0)
    complete = simulate(n, rng)
    gone = rng.random(complete.shape) < 0.25
    table = complete.astype({"children": "Int64", "owner": "boolean"}).mask(gone)
    vae = VAE(4, likelihood={"income": "log-normal"}, epochs=epochs, random_state=0).fit(table)
    print(vae.likelihood_)
    filled = vae.impute(table)
    figures = {}
    for j, name in enumerate(complete):
        truth, found = complete[name][gone[:, j]], filled[name][gone[:, j]]
        if name in ("town", "education", "owner"):
            usual = table[name].mode()[0]
            figures[f"{name} filled rightly"] = float((found == truth).mean())
            figures[f"{name} by the most frequent"] = float((truth == usual).mean())
        else:
            error = (found - truth) / complete[name].std()
            figures[f"{name}, error of filled cells"] = float(np.sqrt(np.mean(error**2)))
    town = "Bonn"
    drawn = vae.sample(4000, random_state=0, given={"town": town})
    figures["owners, given a town"] = float(drawn["owner"].mean())
    figures["owners in that town"] = float(complete["owner"][complete["town"] == town].mean())
    spoilt = complete.astype({"children": "Int64", "owner": "boolean"}).head(200).copy()
    spoilt["height"] = 350 - spoilt["height"]  # of everyone, as far above 175 as it was below
    wrong = abs(spoilt["height"] - 175) > 8
    usual = vae.surprise(complete.astype({"children": "Int64", "owner": "boolean"})[:200]).median()
    odd = (vae.surprise(spoilt) - usual)[wrong].idxmax(axis=1)
    figures["wrong cells found"] = float((odd == "height").mean())
    return figures


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:32s} {value:.3f}")
