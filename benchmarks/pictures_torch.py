"""The convolutional VAE of the package, written by hand in PyTorch, at the weights of a given one.

The same layers in the same order: stride-2 convolutions whose zeros stand as XLA's "SAME" has them,
residual blocks that are activated first, doubling to the nearest, mixing by windows of 1 x 1, a
bias for each pixel, and the linear paths beside the networks. Pictures have their channels in
front, as PyTorch likes them; weights of flattened pictures are put into that order once. On a
processor PyTorch's convolutions are those of oneDNN.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def array(values: Any) -> torch.Tensor:
    """Return an array of JAX as a tensor."""
    return torch.from_numpy(np.array(values, np.float32))


class Convolution(nn.Module):
    """A convolution of which zeros at the edges stand before and after as in XLA's "SAME"."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(array(given.weight).permute(3, 2, 0, 1).contiguous())
        self.bias = nn.Parameter(array(given.bias))
        self.stride = given.stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        width = self.weight.shape[-1]
        totals = [max((-(-n // self.stride) - 1) * self.stride + width - n, 0) for n in x.shape[2:]]
        high, wide = totals
        if any(total % 2 for total in totals):
            x = F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
            return F.conv2d(x, self.weight, self.bias, self.stride)
        return F.conv2d(x, self.weight, self.bias, self.stride, (high // 2, wide // 2))


def activate(x: torch.Tensor) -> torch.Tensor:
    """Return JAX's gelu."""
    return F.gelu(x, approximate="tanh")


class Residual(nn.Module):
    """What two convolutions find, added."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.first, self.second = Convolution(given.first), Convolution(given.second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(activate(self.first(activate(x))))


class Linear(nn.Module):
    """An affine map whose weights are held as multiples where there are many inputs."""

    def __init__(self, weight: torch.Tensor, given: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous())
        self.bias = nn.Parameter(array(given.bias))
        self.unit = min(1.0, 1024 / weight.shape[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight.T, alpha=self.unit)


class Start(nn.Module):
    """The affine map at which a network begins, and the units in which it departs from it."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        for name in ("weight", "bias", "unit"):
            self.register_buffer(name, array(getattr(given, name)))

    def forward(self, x: torch.Tensor, departure: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight.T) + self.unit * departure


class VAE(nn.Module):
    """Encoder and decoder of a fitted `aevb.VAE` with ``architecture="conv"`` on gray pictures."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        encoder, decoder = vae.model_.encoder, vae.model_.decoder
        self.shape = vae.feature_shape_
        body, departure = encoder.body.body, encoder.head.linear
        self.stages = nn.ModuleList(
            nn.Sequential(Convolution(halve), Residual(residual)) for halve, residual in body.stages
        )
        sizes = decoder.body.body.sizes
        self.first_shape = (*sizes[-1], body.stages[-1][0].bias.shape[0])
        weight = array(departure.linear.weight)
        n_pictured = int(np.prod(self.first_shape))
        pictured = self._channels_first(weight[:, :n_pictured])
        self.head = Linear(torch.cat([pictured, weight[:, n_pictured:]], 1), departure.linear)
        self.start = Start(departure.start.value)
        # Standardised on the way in, as the package does it; black and white are 0 and 1 here.
        around = decoder.body
        body = around.body
        first = body.layers[0]
        self.first = Linear(self._channels_first(array(first.weight).T).T, first)
        self.first.bias = nn.Parameter(self._channels_first(array(first.bias)[None])[0])
        self.undo = nn.ModuleList(
            nn.Sequential(Residual(residual), Convolution(mix)) for residual, mix in body.stages
        )
        self.sizes = sizes[-2::-1]
        self.last = Convolution(body.last)
        self.bias = nn.Parameter(array(body.bias))
        self.around = Start(around.start.value)

    def _channels_first(self, flat: torch.Tensor) -> torch.Tensor:
        height, width, channels = self.first_shape
        pictures = flat.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        return pictures.reshape(len(flat), -1).contiguous()

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log-variance of q(z|x)."""
        h = x[:, None]
        for stage in self.stages:
            h = stage(h)
        x = x.flatten(1)
        features = torch.cat([activate(h).flatten(1), x], 1)
        return self.start(x, self.head(features)).chunk(2, 1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the logits of p(x|z)."""
        height, width, channels = self.first_shape
        h = self.first(z).reshape(-1, channels, height, width)
        for stage, (height, width) in zip(self.undo, self.sizes, strict=True):
            h = F.interpolate(stage(h), scale_factor=2, mode="nearest")[..., :height, :width]
        departure = self.last(activate(h)).flatten(1) + self.bias
        return self.around(z, departure)

    def negative_elbo(self, x: torch.Tensor) -> torch.Tensor:
        """Return minus the bound, with one draw of z, a mean over the pictures."""
        mean, log_variance = self.encode(x)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.decode(z)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (cross_entropy + kl) / len(x)


def n_parameters(parameters: Iterable[torch.Tensor]) -> int:
    """Return how many numbers are trained."""
    return sum(each.numel() for each in parameters)
