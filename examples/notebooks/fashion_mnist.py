# %% [markdown]
# # Fashion-MNIST: a look, a search, an alarm, a code
#
# Fashion-MNIST has the size and form of MNIST, 70,000 images of 28 × 28 pixels in ten classes, and
# is harder: pieces of clothing in shades of gray, textures, prints. The steps are those of the
# notebook on MNIST, on data with more to lose, again compared with principal components (PCA).
#
# Conclusions that depend on the run are printed from its tables; the text says how to read them.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from compression import at_equal_length, draw, latent_code, principal_components, rate_distortion
from measures import flat, neighbours, novelty, print_alarms, through
from sklearn.decomposition import PCA

from aevb import VAE, datasets, plotting

# %% tags=["parameters"]
n_train, n_test = 60_000, 10_000
epochs = 40
n_rows = 1000  # test images for the slow measures: log p(x), trustworthiness
novel_epochs, n_novel = 10, 20_000  # the ten models that each miss a class

# %%
CLASSES = np.array(
    [
        "T-shirt",
        "trousers",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "boot",
    ]
)
data = datasets.load_fashion_mnist()
train, train_labels = data.train.images[:n_train], CLASSES[data.train.labels[:n_train]]
test, test_labels = data.test.images[:n_test], CLASSES[data.test.labels[:n_test]]
ends = np.isin(train, (0, 255)).mean()
print(f"{len(train)} training and {len(test)} test images; {ends:.0%} of the pixels are 0 or 255")

# %% [markdown]
# ## A look, in two dimensions

# %%
look = VAE(latent_dim=2, epochs=epochs, random_state=0).fit(train, validation_data=test)
print(look.likelihood_)
ax = look.plot.learning_curve()

# %%
ax = look.plot.manifold(cmap="gray_r")

# %%
ax = look.plot.latent_scatter(test[:3000], test_labels[:3000])

# %% [markdown]
# ## A model to work with
#
# Twenty dimensions. `elbo` is the lower bound on log p(x), `log_likelihood` its importance-sampled
# estimate. Both are in nats per image, and under the Bernoulli likelihood that was chosen. On gray
# levels this is an expected log-likelihood, over pixels turned white with the probability that
# their gray level is, not a density of the image itself. A model with `likelihood="gaussian"` has
# densities, and its numbers cannot be compared with these.

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
scores.astype(float).rename_axis(columns="test images, nats per image").round(2)

# %%
ax = vae.plot.kl_per_dimension()

# %% [markdown]
# ## A search: what is similar?
#
# The training images nearest to each test image (left of the line) in the latent space:

# %%
first = [np.flatnonzero(test_labels == name)[0] for name in CLASSES[[0, 3, 5, 6, 8, 9]]]
nearest = vae.distances(test[first], train[:10_000]).argsort(axis=1)[:, :9]
found = np.concatenate([test[first][:, None], train[nearest]], axis=1)
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
ax.imshow(found.swapaxes(1, 2).reshape(len(first) * 28, -1), cmap="gray_r")
ax.axvline(27.5, color="tab:red")
ax.set_axis_off()

# %% [markdown]
# Distances between a few of them: between the posterior means, and with the uncertainty of both
# codes included (the root of the expected squared distance of a draw from each posterior).

# %%
some = test[first]
pd.concat(
    {
        metric: pd.DataFrame(
            vae.distances(some[:4], some[:4], metric=metric),
            test_labels[first[:4]],
            test_labels[first[:4]],
        ).round(2)
        for metric in ("mean", "expected")
    }
)

# %% [markdown]
# How good the neighbours are, against principal components of the same number and against the
# pixels: the share of test images whose class is the majority's among the 15 nearest training
# images; and trustworthiness, 1 if all neighbours in the latent space are neighbours in pixels.

# %%
pca = PCA(20, random_state=0).fit(flat(train))
spaces = {
    "pixels, 784": (flat(train), flat(test)),
    "PCA, 2": (pca.transform(flat(train))[:, :2], pca.transform(flat(test))[:, :2]),
    "VAE, 2": (look.transform(train), look.transform(test)),
    "PCA, 20": (pca.transform(flat(train)), pca.transform(flat(test))),
    "VAE, 20": (vae.transform(train), vae.transform(test)),
}
distances = neighbours(spaces, train_labels, test_labels, flat(rows))
distances.round(3)

# %% [markdown]
# ## New clothes, and ways between old ones

# %%
ax = vae.plot.samples(64, cmap="gray_r")

# %%
ax = vae.plot.interpolation(test[first[:3]], test[first[3:]], cmap="gray_r")

# %%
ax = vae.plot.traversal(test[first[0]], cmap="gray_r")

# %% [markdown]
# ## The nearest representation
#
# What twenty numbers keep of an image; look for its shape and shade, print and texture. Then the
# same images with their lower half cut off, without telling the model: what comes back is close
# to what it was trained on.

# %%
ax = vae.plot.reconstructions(test[:10], cmap="gray_r")

# %%
cut = rows.copy()
cut[:, 14:] = 0
ax = vae.plot.reconstructions(cut[:10], cmap="gray_r")

# %% [markdown]
# The error against the whole images, and that of twenty principal components, whose pixels are
# clipped to their range:

# %%
completed = {
    "cut": flat(cut),
    "completed by PCA": through(pca, cut),
    "completed by the VAE": flat(vae.reconstruct(cut)),
}
errors = pd.Series({name: np.mean((made - flat(rows)) ** 2) for name, made in completed.items()})
errors.to_frame("mean squared error per pixel").round(4)

# %% [markdown]
# ## An alarm: what is new?
#
# Two scores of novelty: −ELBO; and the share of the image that its reconstruction loses, squared
# error over the sum of squared pixels. PCA has the latter too. Each is judged by the area under the
# ROC curve (AUC), the probability that a novel image scores higher than a familiar one. First,
# handwritten digits:

# %%
digits = datasets.load_mnist().test.images[:n_rows]

found_new = {"digits": novelty(vae, pca, rows, digits)}
ax = vae.plot.reconstructions(digits[:10], cmap="gray_r")

# %% [markdown]
# Then each class in turn, for models that were trained without it. Above is an image of the class,
# below the nearest representation that this VAE has.

# %%
strangers, made = [], []
for name in CLASSES:
    known = train[train_labels != name][:n_novel]
    blind = VAE(latent_dim=20, epochs=novel_epochs, random_state=0).fit(known)
    novel, familiar = test[test_labels == name], test[test_labels != name]
    blind_pca = PCA(20, random_state=0).fit(flat(known))
    found_new[name] = novelty(blind, blind_pca, familiar[:n_rows], novel[:n_rows])
    strangers.append(novel[0])
    made.append(blind.reconstruct(novel[:1])[0])
ax = plotting.reconstructions(strangers, made, cmap="gray_r")

# %% [markdown]
# The area under the curve of each score; and the novel images' ink, their mean gray over that of
# the familiar ones:

# %%
novel_auc = pd.DataFrame(found_new).T
novel_auc.rename_axis("unknown:").round(3)

# %%
print_alarms(novel_auc.drop(columns="ink"))

# %% [markdown]
# Below 1/2, an alarm calls the novel images more familiar than the familiar ones. For −ELBO the ink
# says why: black pixels cost few nats, whatever the image shows, so images that cover few pixels
# pass for familiar. That models can give foreign images a higher likelihood than those they were
# trained on is known ([Nalisnick et al. 2019](https://arxiv.org/abs/1810.09136)). The share that
# the reconstruction loses does not reward emptiness. But it is small for a class that the model can
# draw from its neighbours, such as one kind of top from the others. The lines above say which score
# is the best for which class; one that is below 1/2 for any is not safe alone.

# %% [markdown]
# ## A code: lossy compression
#
# The latent means, rounded. Bits per image are those of an arithmetic coder that knows how often
# each integer occurs, by dimension, among the training images; they are counted on test images.
# Many images in one stream have this length; written one by one, each takes up to about 2 bits
# more. An uncompressed image has 6272 bits. Error is mean squared error per pixel of test images,
# on a scale of 0 to 1, to which what PCA decodes is clipped. Step sizes are multiples of each
# dimension's posterior standard deviation; for PCA, the same step for all scores, which is both its
# equivalent in probabilistic PCA and the best choice. What sender and receiver share already is not
# counted: the model, the components, the frequencies.
#
# One more model takes part, with fifty dimensions and `kl_weight=0.25`: it pays less for each nat
# of its code, and uses more of them.

# %%
fine = VAE(latent_dim=50, kl_weight=0.25, epochs=epochs // 2, random_state=0).fit(train)
curves = {
    name: rate_distortion(latent_code(model, train, test), test, [0.5, 1, 1.5, 2, 3, 4, 6, 9])
    for name, model in [
        ("2 dimensions", look),
        ("20 dimensions", vae),
        ("50 dimensions, KL weight 0.25", fine),
    ]
}
pca_curves = principal_components(train, test)
curves["20 dimensions"].round(4)

# %%
ax = draw(curves, pca_curves)

# %% [markdown]
# At equal code length, the best of each. Between two points of its curves either may code some of
# the images by the one and some by the other, so each is read from the lower convex hull of its
# points. The last column is the number of bits at which PCA reaches the error of the VAE.

# %%
budgets = [10, 20, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960]
comparison = at_equal_length(pd.concat(curves.values()), pca_curves, budgets)
comparison.round(4)

# %%
vae_loses_less = comparison["error, VAE"] < comparison["error, PCA"]
print(f"Less error by the VAE within {comparison.index[vae_loses_less].tolist()} bits,")
print(f"by PCA within {comparison.index[~vae_loses_less].tolist()} bits.")
at = curves["20 dimensions"].set_index("step")
for name in ("bits", "mse"):
    print(f"20 dimensions, half the step: {at[name][0.5] / at[name][1] - 1:+.1%} {name}")

# %% [markdown]
# How to read this: each further component lowers PCA's error, down to none with all of them. The
# error of a VAE ends where its decoder does: a finer step costs bits, and mends nothing that the
# decoder cannot draw. So where bits abound PCA must lose less in the end; the lines above say from
# where on, and what half the step costs and mends. (Both were free to choose model and step by the
# test images' error; PCA had many more to choose from.)
