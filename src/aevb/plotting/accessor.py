"""`vae.plot`: the pictures, of a fitted estimator's own predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr
from sklearn.utils.validation import check_is_fitted

from aevb.errors import integer
from aevb.latents import INACTIVE
from aevb.plotting import cases, decoded, images, latent, predictions, training
from aevb.plotting.quantiles import is_independent, quantiles
from aevb.plotting.style import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class PlotAccessor:
    """Pictures of a fitted estimator: ``vae.plot.samples()``, ``vae.plot.latent_scatter(X)``, ...

    Each method draws into the axes ``ax``, or into those of a new figure, and returns them.

    Pictures of images need cases of shape (n, h, w[, c]). Where images were fitted as flat rows,
    their shape is given as ``image_shape=(h, w)`` or ``(h, w, c)``. ``cmap`` is the colour map of
    gray images, ``"gray_r"`` is ink on paper, and ``limits=(low, high)`` are the values at its two
    ends: by default those that the data can have under a Bernoulli likelihood, 0 and 1 (255 for
    8-bit data), else the range of the picture (of the originals, for reconstructions).

    Parameters
    ----------
    vae : VAE
        The estimator.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from aevb import VAE, datasets
    >>> X = datasets.load_digits().train.images[:200]
    >>> vae = VAE(latent_dim=2, hidden=(8,), epochs=1, random_state=0).fit(X)
    >>> left, right = Figure(figsize=(12, 6)).subplots(1, 2)
    >>> vae.plot.samples(9, ax=left).get_title()
    'E[x|z] of 9 draws from p(z)'
    >>> vae.plot.latent_scatter(X, ax=right).get_title()
    '200 cases in the latent space'
    """

    def __init__(self, vae: Any):
        self._vae = vae

    def manifold(
        self,
        n: int = 20,
        ax: Axes | None = None,
        *,
        cmap: str = "gray",
        limits: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> Axes:
        """Draw what a two-dimensional latent space decodes to, as in figure 4 of the paper.

        Parameters
        ----------
        n : int, default=20
            Images along each axis, at quantiles of the estimator's prior.
        ax, cmap, limits, image_shape
            See `PlotAccessor`.

        Returns
        -------
        Axes
            The axes; see `aevb.plotting.manifold`.

        Raises
        ------
        ValueError
            When there are not two latent dimensions, or they depend on each other under the prior.
        """
        vae = self._fitted()
        if vae.config_.latent_dim != 2:
            raise ValueError(
                "Expected two latent dimensions for a manifold; got "
                f"latent_dim={vae.config_.latent_dim}. See plot.traversal() and plot.samples() for "
                "other numbers."
            )
        prior = vae.model_.prior()
        if not is_independent(prior):
            raise ValueError(
                "Expected a prior with independent dimensions for a manifold, whose grid follows "
                f"the quantiles of each; got prior={vae.config_.prior!r}. See plot.samples() and "
                "plot.traversal(), or give aevb.plotting.manifold a `quantile` of your own."
            )
        return decoded.manifold(
            vae.inverse_transform,
            self._shape(image_shape),
            n,
            ax,
            cmap=cmap,
            limits=self._limits(limits),
            quantile=lambda levels: quantiles(prior, levels),
        )

    def samples(
        self,
        n_samples: int = 64,
        ax: Axes | None = None,
        *,
        mean: bool = True,
        random_state: int | np.random.RandomState | None = None,
        cmap: str = "gray",
        limits: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> Axes:
        """Draw new cases, as in figure 5 of the paper.

        Parameters
        ----------
        n_samples : int, default=64
            Number of cases.
        mean : bool, default=True
            Draw E[x|z] of each z ~ p(z); False: a draw from p(x|z), with its noise.
        random_state : int, RandomState or None
            Seed; None: the estimator's own.
        ax, cmap, limits, image_shape
            See `PlotAccessor`.

        Returns
        -------
        Axes
            The axes; see `aevb.plotting.samples`.
        """
        vae, shape = self._fitted(), self._shape(image_shape)
        drawn = np.asarray(vae.sample(n_samples, random_state, mean=mean))
        limits = self._limits(limits)
        ax = images.samples(drawn.reshape(-1, *shape), ax, cmap=cmap, limits=limits)
        ax.set_title(
            f"E[x|z] of {counted(n_samples, 'draw')} from p(z)"
            if mean
            else f"{counted(n_samples, 'sample')} from the model"
        )
        return ax

    def reconstructions(
        self,
        X: ArrayLike,
        ax: Axes | None = None,
        *,
        cmap: str = "gray",
        limits: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> Axes:
        """Draw cases with their reconstructions beneath, ten pairs to a line.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases: a few, all are drawn; or one alone.
        ax, cmap, limits, image_shape
            See `PlotAccessor`.

        Returns
        -------
        Axes
            The axes; see `aevb.plotting.reconstructions`.
        """
        vae, shape = self._fitted(), self._shape(image_shape)
        X = cases.as_cases(X, vae.feature_shape_, shape)
        originals, made = (np.reshape(a, (-1, *shape)) for a in (X, vae.reconstruct(X)))
        return images.reconstructions(originals, made, ax, cmap=cmap, limits=self._limits(limits))

    def latent_scatter(
        self,
        X: ArrayLike,
        labels: ArrayLike | None = None,
        ax: Axes | None = None,
        *,
        dimensions: Sequence[int] = (0, 1),
    ) -> Axes:
        """Draw cases as points in two latent dimensions, coloured by class or by a number.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w[, c])
            Cases.
        labels : array-like of shape (n,), optional
            Classes, at most 40, each named among its points. Floating-point numbers, dates
            (datetime64) and more than 40 distinct integers get a colour scale. Cases whose label
            is missing (None, NaN) are gray.
        ax : Axes, optional
            Where to draw; None: a new figure.
        dimensions : sequence of two int, default=(0, 1)
            The latent dimensions to draw.

        Returns
        -------
        Axes
            The axes; see `aevb.plotting.latent_scatter`.
        """
        Z = predictions.codes(self._fitted(), X)
        return latent.latent_scatter(Z, labels, ax, dimensions=dimensions)

    def interpolation(
        self,
        start: Any,
        end: Any,
        n: int = 10,
        ax: Axes | None = None,
        *,
        cmap: str = "gray",
        limits: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> Axes:
        """Draw the way from one case to another, on the straight line between their latent points.

        Parameters
        ----------
        start, end : array-like
            Two cases, or as many pairs of cases as both have rows: a line of images for each.
        n : int, default=10
            Latent points on each line, both ends among them.
        ax, cmap, limits, image_shape
            See `PlotAccessor`.

        Returns
        -------
        Axes
            The axes, the cases themselves at both sides; see `aevb.plotting.interpolation`.
        """
        vae, shape = self._fitted(), self._shape(image_shape)
        n = integer(n, "n", minimum=2)
        start, end = (cases.as_cases(X, vae.feature_shape_, shape) for X in (start, end))
        if len(start) != len(end):
            raise ValueError(
                "Expected as many cases for `start` as for `end`, a pair for each line; got "
                f"{len(start)} and {len(end)}."
            )
        t = np.linspace(0, 1, n)[:, None]
        first, last = (predictions.codes(vae, X)[:, None] for X in (start, end))
        way = predictions.decode(vae, (1 - t) * first + t * last, shape)
        ends = np.stack([np.reshape(X, (-1, *shape)) for X in (start, end)], axis=1)
        return decoded.interpolation(way, ax, ends=ends, cmap=cmap, limits=self._limits(limits))

    def traversal(
        self,
        x: ArrayLike | None = None,
        n: int = 11,
        dimensions: Sequence[int] | None = None,
        ax: Axes | None = None,
        *,
        cmap: str = "gray",
        limits: Sequence[float] | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> Axes:
        """Draw what each latent dimension does, through the quantiles of the prior.

        Parameters
        ----------
        x : array-like, optional
            The case where the other dimensions stay; None: the middle (median) of the prior, 0 for
            N(0, I).
        n : int, default=11
            Steps along each dimension, each for the same share of p(z_j).
        dimensions : sequence of int, optional
            The latent dimensions to draw. None: those with most KL first, at most ten, without
            inactive ones (below 0.01 nats).
        ax, cmap, limits, image_shape
            See `PlotAccessor`.

        Returns
        -------
        Axes
            The axes; see `aevb.plotting.traversal`.
        """
        vae, shape = self._fitted(), self._shape(image_shape)
        n = integer(n, "n", minimum=2)
        shown = predictions.dimensions_to_draw(vae, dimensions)
        levels = (np.arange(n) + 0.5) / n
        steps = quantiles(vae.model_.prior(), levels)
        kl = np.asarray(vae.explained_nats_)[shown]
        return decoded.traversal(
            predictions.one_moves(vae, x, shown, steps, shape),
            shown,
            ax,
            levels=levels,
            kl=kl if np.isfinite(kl).all() else None,
            cmap=cmap,
            limits=self._limits(limits),
        )

    def learning_curve(self, ax: Axes | None = None) -> Axes:
        """Draw the bound against the epochs, of training and of held-out cases.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; None: a new figure.

        Returns
        -------
        Axes
            The axes; see `aevb.plotting.learning_curve`.
        """
        return training.learning_curve(self._fitted().history_, ax)

    def kl_per_dimension(self, ax: Axes | None = None, *, inactive_below: float = INACTIVE) -> Axes:
        """Draw how many nats each latent dimension holds, the most first, and which are inactive.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; None: a new figure.
        inactive_below : float, default=0.01
            Nats below which a dimension is called inactive.

        Returns
        -------
        Axes
            The axes, with ``explained_nats_``; see `aevb.plotting.kl_per_dimension`.
        """
        kl = self._fitted().explained_nats_
        return latent.kl_per_dimension(kl, ax, inactive_below=inactive_below)

    def column_effects(
        self,
        X: ArrayLike,
        dimensions: Sequence[int] | None = None,
        ax: Axes | None = None,
        *,
        x: ArrayLike | None = None,
    ) -> Axes:
        """Draw which columns of a table each latent dimension moves, as a heat map.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Cases, two at least, for the standard deviation of each column.
        dimensions : sequence of int, optional
            The latent dimensions to draw. None: those with most KL first, at most ten, without
            inactive ones (below 0.01 nats).
        ax : Axes, optional
            Where to draw; None: a new figure.
        x : array-like, optional
            The case where the other dimensions stay; None: the middle (median) of the prior, 0 for
            N(0, I).

        Returns
        -------
        Axes
            The axes: change of E[x|z] as one dimension goes from -1 to +1 (under another prior than
            N(0, I): from its quantile at 16 % to that at 84 %), in standard deviations of the
            column; see `aevb.plotting.column_effects`. Columns that do not vary stay empty.
        """
        vae = self._fitted()
        if len(vae.feature_shape_) != 1:
            raise ValueError(
                "Expected a table, cases of shape (n, d), for column effects; got cases of shape "
                f"{vae.feature_shape_}. See plot.traversal() for images."
            )
        shown = predictions.dimensions_to_draw(vae, dimensions)
        unit = predictions.spread(vae, X)
        both = quantiles(vae.model_.prior(), ndtr([-1, 1]))
        made = predictions.one_moves(vae, x, shown, both, vae.feature_shape_).astype(np.float64)
        effects = (made[:, 1] - made[:, 0]) / unit
        columns = getattr(vae, "feature_names_in_", None)
        if np.allclose(both[:, shown].T, [-1, 1], atol=1e-4):
            return latent.column_effects(effects, columns, shown, ax)
        step = "from the 16 % to the 84 % quantile of p(z)"
        return latent.column_effects(effects, columns, shown, ax, step=step)

    def _fitted(self) -> Any:
        check_is_fitted(self._vae)
        return self._vae

    def _shape(self, given: Sequence[int] | None) -> tuple[int, ...]:
        return cases.image_shape(self._fitted().feature_shape_, given)

    def _limits(self, given: Sequence[float] | None) -> Sequence[float] | None:
        return predictions.data_range(self._vae) if given is None else given
