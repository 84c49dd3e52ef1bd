"""What is quicker, or only possible, in JAX's own words."""

import jax

from keras_audio_ssl.backend.jax.conv import conv
from keras_audio_ssl.backend.jax.conv import depthwise_conv
from keras_audio_ssl.backend.jax.conv import doubling_conv
from keras_audio_ssl.backend.jax.dropout import drop_out
from keras_audio_ssl.backend.jax.features import as_one
from keras_audio_ssl.backend.jax.features import in_chunks
from keras_audio_ssl.backend.jax.features import in_float64
from keras_audio_ssl.backend.jax.features import sliding_frames
from keras_audio_ssl.backend.jax.features import splitting_pays
from keras_audio_ssl.backend.jax.few import conv_batch_norm
from keras_audio_ssl.backend.jax.few import folding_pays
from keras_audio_ssl.backend.jax.gru import gru
from keras_audio_ssl.backend.jax.lstm import lstm
from keras_audio_ssl.backend.jax.norm import conv_norm_pool
from keras_audio_ssl.backend.jax.norm import max_over_time
from keras_audio_ssl.backend.jax.norm import max_pool
from keras_audio_ssl.backend.jax.norm import norm_silu
from keras_audio_ssl.backend.jax.norm import relu_pool

__all__ = [
    "as_one",
    "conv",
    "conv_batch_norm",
    "conv_norm_pool",
    "depthwise_conv",
    "doubling_conv",
    "drop_out",
    "folding_pays",
    "gru",
    "in_chunks",
    "in_float64",
    "is_accelerated",
    "is_stateless",
    "lstm",
    "max_over_time",
    "max_pool",
    "norm_silu",
    "relu_pool",
    "sliding_frames",
    "splitting_pays",
]


def is_accelerated() -> bool:
    return jax.default_backend() != "cpu"


def is_stateless() -> bool:
    return True
