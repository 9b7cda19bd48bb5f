# %% [markdown]
# # MNIST: from fit to compression
#
# The data of the paper: 70,000 handwritten digits, 28 × 28 pixels, 0 to 255. This is what a
# variational auto-encoder does for them, and how well, compared with principal components (PCA)
# where these can do the same: distances, mending, telling what is new, compression.
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
scores.astype(float).rename_axis(columns="test images, nats per image").round(2)

# %% [markdown]
# The second line is nearer to log p(x); what lies between the two is mostly how far q(z|x) is from
# the exact posterior.
#
# What the numbers are: a Bernoulli likelihood is made for black and white. On gray levels it gives
# the expected log-likelihood of the image with each pixel turned white with a probability that is
# its gray level, as in the paper. It is not a density of the gray image. These numbers compare
# models of these images with the same likelihood, and nothing else.
#
# ## Distances: is similar near?
#
# Two measures, also for principal components of the same number and for the pixels themselves: the
# share of test images whose digit is that of the majority of the 15 nearest training images, and
# how far neighbours in the space are also neighbours in pixels (trustworthiness, 1 at best).

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
# of their pixels lost: what comes back is near to what the model was trained on, digits without
# holes.

# %%
ax = vae.plot.reconstructions(test[:10], cmap="gray_r")

# %%
lost = np.random.default_rng(0).random(rows.shape) < 1 / 3
damaged = np.where(lost, 0, rows).astype(np.uint8)
ax = vae.plot.reconstructions(damaged[:10], cmap="gray_r")

# %% [markdown]
# The error that is left, and that of twenty principal components, whose pixels are clipped to
# their range. Neither was told which pixels are lost.

# %%
mended = {
    "damaged": flat(damaged),
    "mended by PCA": through(pca, damaged),
    "mended by the VAE": flat(vae.reconstruct(damaged)),
}
errors = pd.Series({name: np.mean((made - flat(rows)) ** 2) for name, made in mended.items()})
errors.to_frame("mean squared error per pixel").round(4)

# %% [markdown]
# ## What the model has never seen
#
# A case unlike the training images should have a low ELBO. But the ELBO counts nats, and an image
# with little ink costs few of them, known or not. So it is compared with another score of novelty,
# the share of the image that its reconstruction loses: squared error over the sum of squared
# pixels. PCA has that score too. Each is judged by the area under the ROC curve (AUC), the
# probability that a novel image scores higher than a familiar one. First something else altogether,
# clothes from Fashion-MNIST:

# %%
clothes = datasets.load_fashion_mnist().test.images[:n_rows]

found_new = {"clothes": novelty(vae, pca, rows, clothes)}
ax = vae.plot.reconstructions(clothes[:10], cmap="gray_r")

# %% [markdown]
# Now the hard case: for each digit, models are trained that never see it. Above is a digit, below
# the nearest representation that a model without this digit has for it.

# %%
strangers, made = [], []
for digit in range(10):
    known = train[train_labels != digit][:n_novel]
    blind = VAE(latent_dim=20, epochs=novel_epochs, random_state=0).fit(known)
    novel, familiar = test[test_labels == digit], test[test_labels != digit]
    blind_pca = PCA(20, random_state=0).fit(flat(known))
    found_new[digit] = novelty(blind, blind_pca, familiar[:n_rows], novel[:n_rows])
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
# Below 1/2, an alarm calls the novel images more familiar than the familiar ones. Where that is so
# for −ELBO, look at the ink.
#
# ## What the dimensions hold
#
# The KL of each latent dimension, averaged over images, is the nats it carries. A dimension near 0
# is inactive.

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
#   with their frequencies among the training images, and the cost is measured on test images. So
#   many images in one stream have this length; written one by one, each takes up to about 2 bits
#   more. An uncompressed image has 6272 bits. The model, and for PCA its components, are on both
#   sides already and not counted.
# - **Error**: mean squared error per pixel, on a scale of 0 to 1, of test images; and as peak
#   signal-to-noise ratio, PSNR, in decibels. What PCA decodes is clipped to that scale, on which
#   the VAE's pixels lie by construction.
#
# The step of a latent dimension is a multiple of its posterior standard deviation (root mean square
# over training images), which says how exactly the decoder needs it. PCA gets the same: in
# probabilistic PCA the posterior of each score has the same standard deviation, and one step for
# all scores is also the best choice for PCA. It may choose from ten numbers of components and
# fifteen steps; the VAE from three models and eight steps. One of these models is trained with
# `kl_weight=0.25`: it pays less for nats, so it uses more of them.

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
