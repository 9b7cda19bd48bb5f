"""One VAE, trained by every contender on the same terms.

All train n-hidden-latent-hidden-n with tanh, in float32, by Adamax (betas 0.9 and 0.999, epsilon
1e-8) on minibatches reshuffled each epoch, with one draw of z per row, a Bernoulli likelihood on
gray levels in [0, 1] and the closed-form KL. All start as `VAE` does: weights uniform within
±1/√inputs and biases at zero, but for the last ones, the logits of the data's mean. Mean and
log-variance of q(z|x) come from one joint layer everywhere, which is the faster way. On a GPU all
products may use TF32, which is JAX's default and is switched on for PyTorch.

Each contender is a function of a `Job` and of a callable, which it calls at the end of every
epoch. So an epoch's duration holds all that the contender does per epoch (shuffling, loading,
logging, copying the best model), and the first one holds its set-up and its compilation too.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

# Read when the libraries are imported, whoever imports them first.
os.environ["KERAS_BACKEND"] = "jax"
# pythae's progress bar has no switch of its own. Without it, pythae is a little faster.
os.environ["TQDM_DISABLE"] = "1"

AfterEpoch = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """What is trained on which rows."""

    images: np.ndarray  # as the user has them: given to `VAE.fit`, which scales them by itself
    pixels: np.ndarray  # the same as (n, d) float32 in [0, 1]: given to everybody else
    latent_dim: int
    epochs: int
    device: str = "cpu"
    threads: int = 1
    hidden: int = 500
    batch_size: int = 100
    learning_rate: float = 2e-3
    seed: int = 0


class Weights(NamedTuple):
    """A trained VAE as arrays; matrices are (in, out)."""

    W1: np.ndarray
    b1: np.ndarray
    Wmu: np.ndarray
    bmu: np.ndarray
    Wlv: np.ndarray
    blv: np.ndarray
    W3: np.ndarray
    b3: np.ndarray
    W4: np.ndarray
    b4: np.ndarray


def unit_floats(images: np.ndarray, maximum: float = 255) -> np.ndarray:
    """Gray levels as (n, d) float32 in [0, 1]."""
    return (images.reshape(len(images), -1) / np.float32(maximum)).astype(np.float32)


def elbo(weights: Weights, x: np.ndarray, n_draws: int = 8, seed: int = 0) -> float:
    """Evaluate any contender's mean ELBO in nats per datapoint: NumPy, one noise for all."""
    w, rng = weights, np.random.default_rng(seed)
    h = np.tanh(x @ w.W1 + w.b1)
    mean, log_var = h @ w.Wmu + w.bmu, h @ w.Wlv + w.blv
    kl = 0.5 * np.sum(mean**2 + np.exp(log_var) - 1 - log_var, axis=1, dtype=np.float64)
    log_likelihood = np.zeros(len(x))
    for _ in range(n_draws):
        noise = rng.standard_normal(mean.shape, dtype=np.float32)
        z = mean + np.exp(0.5 * log_var) * noise
        logits = np.tanh(z @ w.W3 + w.b3) @ w.W4 + w.b4
        per_pixel = x * logits - np.logaddexp(np.float32(0), logits)
        log_likelihood += per_pixel.sum(axis=1, dtype=np.float64) / n_draws
    return float(np.mean(log_likelihood - kl))


def first_logits(pixels: np.ndarray) -> np.ndarray:
    """Return the decoder's last biases before training: logits of the mean, within 1 to 99 %."""
    mean = np.clip(pixels.mean(axis=0, dtype=np.float64), 0.01, 0.99)
    return np.log(mean / (1 - mean)).astype(np.float32)


def joint(first: list, second: list) -> Weights:
    """Name the arrays of an encoder and a decoder, each [W, b, W, b], heads side by side."""
    W1, b1, W2, b2 = map(np.asarray, first)
    Wmu, Wlv = np.split(W2, 2, axis=1)
    bmu, blv = np.split(b2, 2)
    return Weights(W1, b1, Wmu, bmu, Wlv, blv, *map(np.asarray, second))


# --- aevb -----------------------------------------------------------------------------------------


def estimator(job: Job) -> Any:
    """Return the `VAE` of a job, unfitted."""
    from aevb import VAE

    return VAE(
        latent_dim=job.latent_dim,
        likelihood="bernoulli",
        hidden=(job.hidden,),
        activation="tanh",
        optimizer="adamax",
        learning_rate=job.learning_rate,
        batch_size=job.batch_size,
        epochs=job.epochs,
        random_state=job.seed,
        verbose=False,
    )


def train_aevb(job: Job, after_epoch: AfterEpoch) -> Weights:
    """`VAE.fit`."""
    vae = estimator(job).set_params(callbacks=(lambda _: after_epoch(),))
    return weights_of(vae.fit(job.images))


def weights_of(vae: Any) -> Weights:
    """Arrays of a fitted `VAE` with one hidden layer on each side."""
    encoder, decoder = vae.model_.encoder, vae.model_.decoder

    def arrays(*layers: Any) -> list:
        return [array for layer in layers for array in (layer.weight.T, layer.bias)]

    return joint(
        arrays(encoder.body.layers[0], encoder.head.linear),
        arrays(decoder.body.layers[0], decoder.head.location.linear),
    )


# --- PyTorch, written by hand ---------------------------------------------------------------------


def _torch_bodies(job: Job) -> tuple[Any, Any]:
    """Encoder body and decoder body as PyTorch modules."""
    import torch
    from torch import nn

    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)
    if job.device == "gpu":
        torch.set_float32_matmul_precision("high")  # allows TF32

    def linear(n_in: int, n_out: int) -> nn.Linear:
        layer = nn.Linear(n_in, n_out)  # weights start uniform within ±1/√n_in
        nn.init.zeros_(layer.bias)
        return layer

    n_features = job.pixels.shape[1]
    first, second = linear(n_features, job.hidden), linear(job.hidden, 2 * job.latent_dim)
    third, fourth = linear(job.latent_dim, job.hidden), linear(job.hidden, n_features)
    fourth.bias.data = torch.from_numpy(first_logits(job.pixels))
    return nn.Sequential(first, nn.Tanh(), second), nn.Sequential(third, nn.Tanh(), fourth)


def _torch_weights(encoder: Any, decoder: Any) -> Weights:
    def arrays(body: Any) -> list:
        return [p.detach().cpu().numpy().T for p in (*body[0].parameters(), *body[2].parameters())]

    return joint(arrays(encoder), arrays(decoder))


def train_torch(job: Job, after_epoch: AfterEpoch, compiled: bool = False) -> Weights:
    """PyTorch by hand: data already a tensor on the device, no loader, no read-back in a step."""
    import torch
    from torch.nn import functional as F

    device = torch.device("cuda" if job.device == "gpu" else "cpu")
    encoder, decoder = (body.to(device) for body in _torch_bodies(job))
    x_train = torch.from_numpy(job.pixels).to(device)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    # Adamax has no fused form. `foreach` saves launches on a GPU; on a CPU both are equally fast.
    optimizer = torch.optim.Adamax(
        parameters,
        lr=job.learning_rate,
        foreach=device.type == "cuda",
        capturable=compiled and device.type == "cuda",
    )

    def negative_elbo(x: torch.Tensor) -> torch.Tensor:
        mean, log_var = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        cross_entropy = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
        return (cross_entropy + kl) / len(x)

    update = optimizer.step
    if compiled:
        # On a GPU this replays CUDA graphs, which is PyTorch's remedy for small steps.
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        negative_elbo = torch.compile(negative_elbo, mode=mode)
        update = torch.compile(optimizer.step, mode=mode)

    for _ in range(job.epochs):
        total = torch.zeros((), device=device)
        for rows in torch.randperm(len(x_train), device=device).split(job.batch_size):
            if compiled:
                torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad(set_to_none=True)
            loss = negative_elbo(x_train[rows])
            loss.backward()
            update()
            total += loss.detach() * len(rows)
        total.item()  # the epoch's mean loss would be printed here; this waits for the device
        after_epoch()
    return _torch_weights(encoder, decoder)


def train_torch_compiled(job: Job, after_epoch: AfterEpoch) -> Weights:
    """The same with `torch.compile` around the loss and the update."""
    return train_torch(job, after_epoch, compiled=True)


# --- Keras 3 on JAX -------------------------------------------------------------------------------


def train_keras(job: Job, after_epoch: AfterEpoch) -> Weights:
    """`keras.Model.fit` on arrays, compiled by XLA."""
    import keras
    from keras import ops

    keras.utils.set_random_seed(job.seed)
    n_features, bias = job.pixels.shape[1], first_logits(job.pixels)

    class KerasVAE(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # ±1/√n_in
            dense = functools.partial(keras.layers.Dense, kernel_initializer=uniform)
            self.encoder = keras.Sequential(
                [dense(job.hidden, activation="tanh"), dense(2 * job.latent_dim)]
            )
            self.decoder = keras.Sequential(
                [
                    dense(job.hidden, activation="tanh"),
                    dense(n_features, bias_initializer=lambda *_, **__: bias),
                ]
            )
            self.noise = keras.random.SeedGenerator(job.seed)

        def call(self, x: Any) -> tuple[Any, Any, Any]:
            mean, log_var = ops.split(self.encoder(x), 2, axis=1)
            noise = keras.random.normal(ops.shape(mean), seed=self.noise)
            return self.decoder(mean + ops.exp(0.5 * log_var) * noise), mean, log_var

        def compute_loss(
            self,
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any:
            logits, mean, log_var = y_pred
            cross_entropy = ops.sum(ops.softplus(logits) - x * logits)
            kl = 0.5 * ops.sum(ops.square(mean) + ops.exp(log_var) - 1 - log_var)
            return (cross_entropy + kl) / ops.shape(x)[0]

    model = KerasVAE()
    optimizer = keras.optimizers.Adamax(job.learning_rate, epsilon=1e-8)
    # Several steps between two looks at the callbacks: 9 % faster here than one.
    model.compile(optimizer=optimizer, jit_compile=True, steps_per_execution=10)
    model.fit(
        job.pixels,
        batch_size=job.batch_size,
        epochs=job.epochs,
        shuffle=True,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: after_epoch())],
    )
    return joint(model.encoder.get_weights(), model.decoder.get_weights())


# --- pythae ---------------------------------------------------------------------------------------


def _pythae(job: Job, after_epoch: AfterEpoch, folder: str) -> tuple[Any, Any, Any]:
    """Model, training configuration and per-epoch callback, as pythae's documentation has them."""
    import logging

    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    logging.disable(logging.INFO)  # pythae logs to the screen, and has no switch for that either
    encoder_body, decoder_body = _torch_bodies(job)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.body = encoder_body

        def forward(self, x: Any) -> ModelOutput:
            mean, log_var = self.body(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.body = decoder_body

        def forward(self, z: Any) -> ModelOutput:
            return ModelOutput(reconstruction=self.body(z).sigmoid())

    class EpochEnd(TrainingCallback):
        def on_epoch_end(self, training_config: Any, **_: Any) -> None:
            after_epoch()

    model_config = VAEConfig(
        input_dim=(job.pixels.shape[1],),
        latent_dim=job.latent_dim,
        reconstruction_loss="bce",
    )
    training_config = BaseTrainerConfig(
        output_dir=folder,
        num_epochs=job.epochs,
        per_device_train_batch_size=job.batch_size,
        optimizer_cls="Adamax",
        learning_rate=job.learning_rate,
        no_cuda=job.device != "gpu",
        seed=job.seed,
    )
    model = VAE(model_config=model_config, encoder=Encoder(), decoder=Decoder())
    return model, training_config, EpochEnd()


def train_pythae(job: Job, after_epoch: AfterEpoch) -> Weights:
    """pythae as documented: `TrainingPipeline(...)(train_data=X)`."""
    with tempfile.TemporaryDirectory() as folder:
        model, training_config, callback = _pythae(job, after_epoch, folder)
        from pythae.pipelines import TrainingPipeline

        pipeline = TrainingPipeline(model=model, training_config=training_config)
        pipeline(train_data=job.pixels, callbacks=[callback])
    return _torch_weights(model.encoder.body, model.decoder.body)


def train_pythae_prebatched(job: Job, after_epoch: AfterEpoch) -> Weights:
    """pythae's trainer with a loader that fetches a batch by one index instead of row by row."""
    with tempfile.TemporaryDirectory() as folder:
        model, training_config, callback = _pythae(job, after_epoch, folder)
        from pythae.data.preprocessors import DataProcessor
        from pythae.trainers import BaseTrainer
        from torch.utils.data import BatchSampler, DataLoader, RandomSampler

        class PrebatchedTrainer(BaseTrainer):
            def get_train_dataloader(self, train_dataset: Any) -> DataLoader:
                batches = BatchSampler(
                    RandomSampler(train_dataset), job.batch_size, drop_last=False
                )
                return DataLoader(
                    train_dataset, batch_size=None, sampler=batches, collate_fn=lambda batch: batch
                )

        processor = DataProcessor()
        PrebatchedTrainer(
            model=model,
            train_dataset=processor.to_dataset(processor.process_data(job.pixels)),
            training_config=training_config,
            callbacks=[callback],
        ).train()
    return _torch_weights(model.encoder.body, model.decoder.body)


# --- the floor ------------------------------------------------------------------------------------
# The matrix products of one step and nothing else but a plain SGD update: a linear network
# x -> h -> (mean, log-variance) -> z = their sum -> g -> y with loss ||y||^2 / 2, so that every
# product waits for real data. Nothing is constant, and so nothing can be hoisted out of the loop.
# No product is spent on the gradient with respect to x.

FLOOR_RATE = 1e-9  # so small that the weights stay finite; a step costs the same at any rate


def _floor_weights(job: Job) -> list[np.ndarray]:
    rng = np.random.default_rng(job.seed)
    n, h, z = job.pixels.shape[1], job.hidden, job.latent_dim
    shapes = [(n, h), (h, 2 * z), (z, h), (h, n)]
    return [(rng.standard_normal(s) / np.sqrt(s[0])).astype(np.float32) for s in shapes]


def _floor_batches(job: Job) -> Iterator[tuple[int, int]]:
    """Rows of the full batches; the floor may skip a last short one."""
    return pairwise(range(0, len(job.pixels) + 1, job.batch_size))


def train_floor_jax(job: Job, after_epoch: AfterEpoch) -> None:
    """The floor in JAX: an epoch is one jitted `lax.fori_loop`."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    k, batch_size, n_batches = job.latent_dim, job.batch_size, len(list(_floor_batches(job)))

    @jax.jit
    def epoch(weights: list[jax.Array], pixels: jax.Array, rate: jax.Array) -> list[jax.Array]:
        def step(i: jax.Array, weights: list[jax.Array]) -> list[jax.Array]:
            W1, W2, W3, W4 = weights
            x = lax.dynamic_slice_in_dim(pixels, i * batch_size, batch_size)
            h = x @ W1
            m = h @ W2
            z = m[:, :k] + m[:, k:]
            g = z @ W3
            y = g @ W4
            dW4, dg = g.T @ y, y @ W4.T
            dW3, dz = z.T @ dg, dg @ W3.T
            dm = jnp.concatenate([dz, dz], axis=1)
            dW2, dh = h.T @ dm, dm @ W2.T
            dW1 = x.T @ dh
            return [W - rate * dW for W, dW in zip(weights, (dW1, dW2, dW3, dW4), strict=True)]

        return lax.fori_loop(0, n_batches, step, weights)

    weights = [jnp.asarray(W) for W in _floor_weights(job)]
    pixels, rate = jnp.asarray(job.pixels), jnp.float32(FLOOR_RATE)
    for _ in range(job.epochs):
        weights = jax.block_until_ready(epoch(weights, pixels, rate))
        after_epoch()


def train_floor_numpy(job: Job, after_epoch: AfterEpoch) -> None:
    """The same floor in NumPy, updating in place."""
    k, rate = job.latent_dim, np.float32(FLOOR_RATE)
    W1, W2, W3, W4 = weights = _floor_weights(job)
    for _ in range(job.epochs):
        for start, stop in _floor_batches(job):
            x = job.pixels[start:stop]
            h = x @ W1
            m = h @ W2
            z = m[:, :k] + m[:, k:]
            g = z @ W3
            y = g @ W4
            dW4, dg = g.T @ y, y @ W4.T
            dW3, dz = z.T @ dg, dg @ W3.T
            dm = np.concatenate([dz, dz], axis=1)
            dW2, dh = h.T @ dm, dm @ W2.T
            dW1 = x.T @ dh
            for W, dW in zip(weights, (dW1, dW2, dW3, dW4), strict=True):
                dW *= rate
                W -= dW
        after_epoch()
