"""Every contender's way to train the one VAE of `job.py`.

Each is a function of a `Job` and of a callable, which it calls at the end of every epoch. So an
epoch's duration holds all that the contender does per epoch (shuffling, loading, logging, copying
the best model), and the first one holds its set-up and its compilation too.
"""

import os
import tempfile
from typing import Any

from job import AfterEpoch, Job, Weights, first_logits, joint

# Read when the libraries are imported, whoever imports them first.
os.environ["KERAS_BACKEND"] = "jax"
# pythae's progress bar has no switch of its own. Without it, pythae is a little faster.
os.environ["TQDM_DISABLE"] = "1"

# --- aevb -----------------------------------------------------------------------------------------


def estimator(job: Job) -> Any:
    """Return the `VAE` of a job, unfitted."""
    from aevb import VAE

    return VAE(
        latent_dim=job.latent_dim,
        likelihood="bernoulli",
        hidden=(job.hidden,),
        activation="tanh",
        init="random",
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


def torch_bodies(job: Job) -> tuple[Any, Any]:
    """Encoder body and decoder body as PyTorch modules, at the weights that all start from."""
    import torch
    from torch import nn

    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)
    if job.device == "gpu":
        torch.set_float32_matmul_precision("high")  # allows TF32

    def linear(n_in: int, n_out: int) -> nn.Linear:
        layer = nn.Linear(n_in, n_out)
        nn.init.xavier_uniform_(layer.weight)  # Glorot's, as in Keras by default
        nn.init.zeros_(layer.bias)
        return layer

    n_features = job.pixels.shape[1]
    first, second = linear(n_features, job.hidden), linear(job.hidden, 2 * job.latent_dim)
    third, fourth = linear(job.latent_dim, job.hidden), linear(job.hidden, n_features)
    fourth.bias.data = torch.from_numpy(first_logits(job.pixels))
    return nn.Sequential(first, nn.Tanh(), second), nn.Sequential(third, nn.Tanh(), fourth)


def torch_weights(encoder: Any, decoder: Any) -> Weights:
    """Arrays of what `torch_bodies` made, after training."""

    def arrays(body: Any) -> list:
        return [p.detach().cpu().numpy().T for p in (*body[0].parameters(), *body[2].parameters())]

    return joint(arrays(encoder), arrays(decoder))


def train_torch(job: Job, after_epoch: AfterEpoch, compiled: bool = False) -> Weights:
    """PyTorch by hand: data already a tensor on the device, no loader, no read-back in a step."""
    import torch
    from torch.nn import functional as F

    device = torch.device("cuda" if job.device == "gpu" else "cpu")
    encoder, decoder = (body.to(device) for body in torch_bodies(job))
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
    return torch_weights(encoder, decoder)


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
            dense = keras.layers.Dense
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
    encoder_body, decoder_body = torch_bodies(job)

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
    return torch_weights(model.encoder.body, model.decoder.body)


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
    return torch_weights(model.encoder.body, model.decoder.body)
