"""Dropout by hashed places."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend.hashing import is_kept


def drop_out(x: Tensor, rate: float, seed: Any) -> Tensor:
    x = jnp.asarray(x)
    # Keys of neighbouring seeds have nothing in common.
    key = jax.random.bits(seed.next(), (2,), "uint32")
    kept = is_kept(lax.iota("uint32", x.size), key, rate).reshape(x.shape)
    scale = jnp.asarray(1.0 / (1.0 - rate), x.dtype)
    return jnp.where(kept, x * scale, jnp.zeros((), x.dtype))
