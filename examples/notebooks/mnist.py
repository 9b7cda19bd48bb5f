# %% [markdown]
# # MNIST: from fit to compression
#
# The data of the paper: 70,000 handwritten digits, 28 × 28 pixels, 0 to 255. This is what a
# variational auto-encoder does for them, and how well, each time against something simple.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from compression import at_equal_length, principal_components, rate_distortion
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from aevb import VAE, datasets, plotting

# %% tags=["parameters"]
n_train, n_test = 60_000, 10_000
epochs = 40
n_rows = 1000  # test images for the slow measures: log p(x), trustworthiness
novel_epochs, n_novel = 10, 20_000  # the ten models that each miss a digit

# %%
data = datasets.load_mnist()
train, train_labels = data.train.images[:n_train], data.train.labels[:n_train]
test, test_labels = data.test.images[:n_test], data.test.labels[:n_test]
print(train.shape, train.dtype, test.shape)

# %% [markdown]
# ## Two dimensions, for a look
#
# The encoder gives each image a Gaussian posterior q(z|x) over a latent point z; the decoder gives
# each z a distribution p(x|z) over images. Both are trained together, to raise a lower bound on log
# p(x), the ELBO. `fit` chooses the likelihood from the data and says which.

# %%
look = VAE(latent_dim=2, epochs=epochs, random_state=0).fit(train, validation_data=test)
print(look.likelihood_)
ax = look.plot.learning_curve()

# %% [markdown]
# What each point of the latent plane decodes to, at equal steps of the prior's probability (figure
# 4 of the paper), and where the test images fall:

# %%
ax = look.plot.manifold(cmap="gray_r")

# %%
ax = look.plot.latent_scatter(test[:3000], test_labels[:3000])

# %% [markdown]
# ## Twenty dimensions, for work

# %%
vae = VAE(latent_dim=20, epochs=epochs, random_state=0).fit(train)
rows = test[:n_rows]
scores = pd.DataFrame(
    {
        f"{model.latent_dim} dimensions": {
            "ELBO": model.elbo(rows).mean(),
            "importance-sampled, 1000 draws": model.log_likelihood(rows).mean(),
        }
        for model in (look, vae)
    }
)
scores.rename_axis(columns="test images, nats per image").round(2)

# %% [markdown]
# The second line is nearer to log p(x); what lies between the two is mostly how far q(z|x) is from
# the exact posterior.
#
# What the numbers are: a Bernoulli likelihood is made for black and white. On gray levels it gives
# the expected log-likelihood of the image with each pixel turned white with a probability that is
# its gray level, as in the paper. It is no density of the gray image. So these numbers compare
# models of these images with the same likelihood, and nothing else.
#
# ## Distances: is similar near?
#
# For distances the two dimensions are too few. Three measures, against principal components of the
# same number, and against the pixels themselves: the share of test images whose digit is that of
# the majority of the 15 nearest training images, and how far neighbours in the latent space are
# neighbours in pixels too (trustworthiness, 1 at best).


# %%
def flat(images):
    return images.reshape(len(images), -1) / np.float32(255)


pca = PCA(20, random_state=0).fit(flat(train))
spaces = {
    "pixels, 784": (flat(train), flat(test)),
    "PCA, 2": (pca.transform(flat(train))[:, :2], pca.transform(flat(test))[:, :2]),
    "VAE, 2": (look.transform(train), look.transform(test)),
    "PCA, 20": (pca.transform(flat(train)), pca.transform(flat(test))),
    "VAE, 20": (vae.transform(train), vae.transform(test)),
}
distances = pd.DataFrame(
    {
        name: {
            "15-nearest-neighbour accuracy": KNeighborsClassifier(15, algorithm="brute")
            .fit(space, train_labels)
            .score(others, test_labels),
            "trustworthiness": trustworthiness(flat(rows), others[: len(rows)], n_neighbors=15),
        }
        for name, (space, others) in spaces.items()
    }
).T
distances.round(3)

# %% [markdown]
# The neighbours of a case, by the distance of the posterior means: each line has a test image
# first, then the training images nearest to it.

# %%
nearest = vae.distances(test[:6], train[:10_000]).argsort(axis=1)[:, :9]
table = np.concatenate([test[:6, None], train[nearest]], axis=1)
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
ax.imshow(table.swapaxes(1, 2).reshape(6 * 28, -1), cmap="gray_r")
ax.axvline(27.5, color="tab:red")
ax.set_axis_off()

# %% [markdown]
# `metric="expected"` counts the uncertainty of both codes as well: the root of the expected squared
# distance of one draw from either posterior. Two images of which little is known are then not as
# near as their means.

# %%
pd.DataFrame(
    {
        metric: vae.distances(test[:1], test[1:7], metric=metric)[0]
        for metric in ("mean", "expected")
    },
    index=[f"a {test_labels[0]} and a {label}" for label in test_labels[1:7]],
).round(2)

# %% [markdown]
# ## New cases
#
# z from the prior, then E[x|z]:

# %%
ax = vae.plot.samples(64, cmap="gray_r")

# %% [markdown]
# ## The nearest representation of a case
#
# `reconstruct` sends a case through the code and back. Test images, and then the same with a third
# of their pixels lost: what comes back is what the model holds for likely, a digit without holes.

# %%
ax = vae.plot.reconstructions(test[:10], cmap="gray_r")

# %%
lost = np.random.default_rng(0).random(test[:10].shape) < 1 / 3
damaged = np.where(lost, 0, test[:10]).astype(np.uint8)
ax = vae.plot.reconstructions(damaged, cmap="gray_r")


# %%
def error(images):
    return np.mean((images / 255 - test[:10] / 255) ** 2)


mended = vae.reconstruct(damaged)
print(f"mean squared error per pixel: damaged {error(damaged):.4f}, mended {error(mended):.4f}")

# %% [markdown]
# ## What the model has never seen
#
# A case unlike the training images should have a low ELBO. But the ELBO counts nats, and an image
# with little ink costs few of them, known or not. So two scores of novelty are compared: −ELBO, and
# the share of the image that its reconstruction loses, squared error over the sum of squared
# pixels. Each is judged by the area under the ROC curve (AUC), the probability that a novel image
# scores higher than a familiar one. First something else altogether, clothes from Fashion-MNIST:

# %%
clothes = datasets.load_fashion_mnist().test.images[:n_rows]


def novelty_auc(model, familiar, novel):
    images = np.concatenate([familiar, novel])
    pixels, made = flat(images), flat(model.reconstruct(images))
    scores = {
        "−ELBO": -model.elbo(images),
        "share lost": ((made - pixels) ** 2).sum(axis=1) / (pixels**2).sum(axis=1),
    }
    is_novel = np.repeat([0, 1], [len(familiar), len(novel)])
    return {name: roc_auc_score(is_novel, score) for name, score in scores.items()}


novel_auc = {"clothes": novelty_auc(vae, rows, clothes)}
ax = vae.plot.reconstructions(clothes[:10], cmap="gray_r")

# %% [markdown]
# Now the hard case: for each digit a model is trained that never sees it. Above, a digit; below,
# the nearest representation that a model without this digit has for it.

# %%
strangers, made = [], []
for digit in range(10):
    known = train[train_labels != digit][:n_novel]
    blind = VAE(latent_dim=20, epochs=novel_epochs, random_state=0).fit(known)
    novel, familiar = test[test_labels == digit], test[test_labels != digit]
    novel_auc[digit] = novelty_auc(blind, familiar[:n_rows], novel[:n_rows])
    strangers.append(novel[0])
    made.append(blind.reconstruct(novel[:1])[0])
ax = plotting.reconstructions(strangers, made, cmap="gray_r")

# %%
pd.DataFrame(novel_auc).rename_axis(columns="AUC; unknown:").round(3)

# %% [markdown]
# −ELBO is no safe alarm: look at the 1, which has the least ink of all digits.
#
# ## What the dimensions hold
#
# The KL of each latent dimension, averaged over images, is the nats it carries. A dimension near 0
# is not in use.

# %%
ax = vae.plot.kl_per_dimension()

# %% [markdown]
# What the dimensions with most nats do to one digit, and the way from one digit to another:

# %%
ax = vae.plot.traversal(test[0], cmap="gray_r")

# %%
ax = vae.plot.interpolation(test[:4], test[4:8], cmap="gray_r")

# %% [markdown]
# ## Lossy compression
#
# The code of an image is its latent means, rounded: more bits and less error with a finer step.
# What is counted:
#
# - **Bits per image**: what an arithmetic coder writes. It codes the integers of each dimension
#   with their frequencies among the training images, and the cost is measured on test images, so
#   this is a code length that can be had. An uncompressed image has 6272 bits. The model, and for
#   PCA its components, are on both sides already and not counted.
# - **Error**: mean squared error per pixel, on a scale of 0 to 1, of test images; and as peak
#   signal-to-noise ratio, PSNR, in decibels.
#
# The step of a latent dimension is a multiple of its posterior standard deviation (root mean square
# over training images), which says how exactly the decoder needs it. PCA gets the same: in
# probabilistic PCA the posterior of each score has the same standard deviation, and one step for
# all scores is also the best choice for PCA. It may choose from ten numbers of components and
# fifteen steps; the VAE from three models. One of these is trained with `kl_weight=0.25`: it pays
# less for nats, so it uses more of them.

# %%
fine = VAE(latent_dim=50, kl_weight=0.25, epochs=epochs // 2, random_state=0).fit(train)
pixels = flat(test).reshape(test.shape)
curves = {}
for name, model in [("2 dimensions", look), ("20 dimensions", vae), ("50, KL weight 0.25", fine)]:
    unit = np.sqrt(model.encode(train[:5000]).variance.mean(axis=0))
    codec = (
        model.transform(train),
        model.transform(test),
        lambda z, m=model: m.inverse_transform(z) / 255,
    )
    curves[name] = rate_distortion(codec, pixels, unit, [0.5, 1, 1.5, 2, 3, 4, 6])
pca_curves = principal_components(flat(train), pixels)
curves["20 dimensions"].round(4)

# %%
figure, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
for name, curve in curves.items():
    ax.plot(curve["bits"], curve["mse"], "o-", label=f"VAE, {name}")
for _, curve in pca_curves.groupby("dimensions"):
    ax.plot(curve["bits"], curve["mse"], color="0.75", linewidth=0.8, zorder=0)
pca_curves = pca_curves.sort_values("bits")
best = pca_curves[pca_curves["mse"] <= pca_curves["mse"].cummin()]
ax.plot(best["bits"], best["mse"], "k--", label="PCA, the best of all (gray)")
ax.set(
    xscale="log", yscale="log", xlabel="bits per test image", ylabel="mean squared error per pixel"
)
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# At equal code length, the best of each:

# %%
budgets = [10, 20, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960]
comparison = at_equal_length(pd.concat(curves.values()), pca_curves, budgets)
comparison.round(4)

# %%
vae_loses_less = comparison["error, VAE"] < comparison["error, PCA"]
print(f"Less error by the VAE within {comparison.index[vae_loses_less].tolist()} bits,")
print(f"by PCA within {comparison.index[~vae_loses_less].tolist()} bits.")

# %% [markdown]
# Where bits abound PCA wins: each further component lowers its error, down to none. The error of a
# VAE ends where its decoder does; a finer step than a posterior standard deviation buys almost
# nothing. (Both were free to choose model and step by the test images' error; PCA had many more to
# choose from.)
