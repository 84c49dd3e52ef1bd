"""Dropout of 16 bits a draw."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend.portable import PARTS
from keras_audio_ssl.backend.portable import kept_parts


def drop_out(x: Tensor, rate: float, seed: Any) -> Tensor:
    x = jnp.asarray(x)
    # Two draws of each number; asked for 16 bits, JAX makes as many numbers.
    words = jax.random.bits(seed.next(), (-(-x.size // 2),), "uint32")
    parts = lax.bitcast_convert_type(words, "uint16").reshape(-1)
    parts = parts[: x.size].reshape(x.shape)
    kept = kept_parts(rate)
    scale = jnp.asarray(PARTS / kept, x.dtype)
    return jnp.where(parts < kept, x * scale, jnp.zeros((), x.dtype))
