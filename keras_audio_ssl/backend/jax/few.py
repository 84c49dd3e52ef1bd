"""Batch norm of a convolution whose values are each made of a few.

Mean and variance of the map follow from those of the few values and of their
products. So the map, many times as large, is made once, normalised, and no
pass over it is needed, in neither direction.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import portable
from keras_audio_ssl.backend.jax.conv import as_rows
from keras_audio_ssl.backend.jax.conv import conv
from keras_audio_ssl.backend.jax.conv import shifts
from keras_audio_ssl.backend.portable import half_pad

# Products of all pairs of more are more work than a pass over the map.
FEW = 4


def folding_pays(x: Tensor, kernel: Tensor) -> bool:
    on_cpu = jax.default_backend() == "cpu"
    few = math.prod(kernel.shape[:3]) <= FEW
    return on_cpu and few and x.dtype == "float32"


def conv_batch_norm(
    x: Tensor,
    kernel: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    around: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    if not folding_pays(x, kernel):
        y = conv(x, kernel)
        return portable.batch_norm(y, gamma, beta, epsilon, around, relu)
    height, width, channels, filters = kernel.shape
    # What each weight is multiplied by, in the order of the kernel.
    parts = [
        part[..., i : i + 1]
        for part in shifts(x, height, width, 1, half_pad(kernel.shape))
        for i in range(channels)
    ]
    kernel = kernel.reshape(len(parts), filters)
    centers = jnp.stack([jnp.mean(part) for part in parts])
    off = [part - c for part, c in zip(parts, centers, strict=True)]
    covariance = jnp.stack(
        [jnp.stack([jnp.mean(a * b) for b in off]) for a in off]
    )
    mean = centers @ kernel
    variance = jnp.sum(kernel * (covariance @ kernel), axis=0)
    kernel = kernel * (gamma * lax.rsqrt(variance + epsilon))
    # ReLU here, if nothing comes in between: in one pass.
    y = summed(off, kernel, beta, relu and around is None)
    if around is not None:
        y = portable.finished(y, around, relu)
    return y, mean, variance


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def summed(
    parts: Sequence[Tensor], matrix: Tensor, offset: Tensor, relu: bool
) -> Tensor:
    """Maps `(..., 1)` by the rows of a matrix, summed, with an offset."""
    y = sum(part * row for part, row in zip(parts, matrix, strict=True))
    return jax.nn.relu(y + offset) if relu else y + offset


def _summed_forward(
    parts: Sequence[Tensor], matrix: Tensor, offset: Tensor, relu: bool
) -> tuple[Any, Any]:
    y = summed(parts, matrix, offset, relu)
    return y, (parts, matrix, y if relu else None)


def _summed_backward(
    relu: bool, saved: Sequence[Any], grad: Tensor
) -> tuple[Any, ...]:
    parts, matrix, y = saved
    grad = jnp.where(y > 0, grad, 0.0) if relu else grad
    # As one product: XLA's sums for each weight take several times as long.
    rows = as_rows([*parts, jnp.ones_like(parts[0])])
    total = rows @ grad.reshape(-1, grad.shape[-1])
    d_parts = [jnp.sum(grad * row, -1, keepdims=True) for row in matrix]
    return d_parts, total[:-1], total[-1]


summed.defvjp(_summed_forward, _summed_backward)
