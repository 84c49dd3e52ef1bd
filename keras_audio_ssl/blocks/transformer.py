"""The transformer of the masked reconstruction methods."""

import math
from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.dropout import drop_out
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by a hyperbolic tangent, off from the exact one by up to 5e-4."""
    return ops.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": backend.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": "relu",
    "swish": "swish",
}


def normal_dense(
    units: int,
    width: int,
    name: str,
    activation: Any = None,
    truncated: bool = False,
    dtype: Any = None,
) -> Any:
    """A built `Dense` with the transformer's initial weights, N(0, 0.02).

    Args:
        units: Width of the output.
        width: Of the input.
        name: Of the layer.
        activation: A key of `ACTIVATIONS`, or None.
        truncated: Whether no weight is more than two deviations from 0.
        dtype: Policy.
    """
    normal = keras.initializers.RandomNormal
    if truncated:
        normal = keras.initializers.TruncatedNormal
    layer = keras.layers.Dense(
        units,
        activation and ACTIVATIONS[activation],
        kernel_initializer=normal(stddev=0.02),
        name=name,
        dtype=dtype,
    )
    layer.build((None, None, width))
    return layer


def layer_norm(
    width: int, name: str, epsilon: float = 1e-12, dtype: Any = None
) -> Any:
    """A built `LayerNormalization` of the last axis."""
    layer = keras.layers.LayerNormalization(
        epsilon=epsilon, name=name, dtype=dtype
    )
    layer.build((None, None, width))
    return layer


def softmax(x: Tensor) -> Tensor:
    """Softmax of the last axis, of one entry too, where Keras' own warns."""
    x = ops.convert_to_tensor(x)
    return ops.ones_like(x) if x.shape[-1] == 1 else ops.softmax(x)


def sinusoids(frames: Size, dim: int) -> Tensor:
    """Fixed position encoding: sines at even places, cosines at odd ones.

    Args:
        frames: How many positions.
        dim: Width, even.

    Returns:
        `(frames, dim)` float32: `[t, 2i]` is `sin(t / 10000 ** (2i / dim))`,
        `[t, 2i + 1]` the cosine of the same.

    Reference:
        Vaswani et al., 2017, arXiv 1706.03762, section 3.5.
    """
    place = ops.cast(ops.arange(frames, dtype="int32"), "float32")
    even = ops.cast(ops.arange(0, dim, 2, dtype="int32"), "float32")
    # t / 10000 ** (2 i / dim).
    angle = place[:, None] * ops.exp(even * (-math.log(10000.0) / dim))
    both = ops.stack([ops.sin(angle), ops.cos(angle)], axis=-1)
    return ops.reshape(both, (-1, dim))


def stack_frames(x: Tensor, stack: int) -> Tensor:
    """Joins neighbouring frames to one, the first frame's bins first.

    Args:
        x: `(batch, time, bins)`.
        stack: Frames in one; a tail that fills none is dropped.

    Returns:
        `(batch, time // stack, stack * bins)`.
    """
    if stack == 1:
        return x
    frames = ops.shape(x)[1] // stack
    shape = (-1, frames, stack * x.shape[-1])
    return ops.reshape(x[:, : frames * stack], shape)


def unstack_frames(x: Tensor, stack: int) -> Tensor:
    """What `stack_frames` joined: `(batch, frames * stack, bins)`."""
    if stack == 1:
        return x
    shape = (-1, ops.shape(x)[1] * stack, x.shape[-1] // stack)
    return ops.reshape(x, shape)


def pad_frames(x: Tensor, multiple: int) -> Tensor:
    """Adds zero frames until their number is a multiple.

    Args:
        x: `(batch, time, bins)`.
        multiple: Of which it is to be one.
    """
    time = x.shape[1]
    if isinstance(time, int) and time % multiple == 0:
        return x
    # Enough for any number of frames, then cut to whole multiples.
    x = ops.pad(x, ((0, 0), (0, multiple - 1), (0, 0)))
    return x[:, : ops.shape(x)[1] // multiple * multiple]


class SelfAttention(Layer):
    """Multi-head self-attention over right-padded sequences.

    Args:
        dim: Width of input and output.
        heads: Heads, each of `dim / heads`.
        dropout: Rate on the probabilities, in training.
        truncated: See `normal_dense`.

    Call arguments:
        x: `(batch, frames, dim)`.
        valid: Optional boolean `(batch, frames)`, the frames that are seen;
            what comes out at others means nothing.
        head_mask: Optional `(heads,)`, factor of each head's probabilities:
            0 switches a head off.
        return_attention: Whether to return the probabilities too.

    Returns:
        `(batch, frames, dim)`, or a tuple of that and the probabilities
        `(batch, heads, queries, keys)`, before dropout and `head_mask`.

    Raises:
        ValueError: `heads` does not divide `dim`.

    Reference:
        Vaswani et al., 2017, arXiv 1706.03762, section 3.2.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        dropout: float = 0.0,
        truncated: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if heads < 1 or dim % heads:
            raise ValueError(
                f"`heads` must divide the width {dim}. Received: {heads}"
            )
        policy = {"dtype": self.dtype_policy}
        self.query, self.key, self.value, self.out = (
            normal_dense(dim, dim, name, truncated=truncated, **policy)
            for name in ("query", "key", "value", "out")
        )
        self.drop = drop_out(dropout, "dropout", **policy)

    def call(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        head_mask: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> Any:
        # (batch, heads, frames, dim / heads) from here on.
        shape = (-1, ops.shape(x)[1], self.heads, self.dim // self.heads)
        query, key, value = (
            ops.transpose(ops.reshape(part(x), shape), (0, 2, 1, 3))
            for part in (self.query, self.key, self.value)
        )
        scale = 1.0 / math.sqrt(self.dim // self.heads)
        scores = ops.matmul(query * scale, ops.transpose(key, (0, 1, 3, 2)))
        scores = ops.cast(scores, "float32")
        if valid is not None:
            # No query sees a key past the end.
            scores = ops.where(valid[:, None, None, :], scores, -1e9)
        probabilities = softmax(scores)
        weights = ops.cast(probabilities, self.compute_dtype)
        context = ops.matmul(self.drop(weights, training=training), value)
        if head_mask is not None:
            # Past the softmax: a head that is off gives zeros, and no other
            # changes.
            context = context * ops.cast(
                head_mask[:, None, None], context.dtype
            )
        context = ops.transpose(context, (0, 2, 1, 3))
        out = self.out(ops.reshape(context, (-1, shape[1], self.dim)))
        return (out, probabilities) if return_attention else out


class TransformerBlock(Layer):
    """Self-attention and a feed-forward network, each with a shortcut.

    Args:
        dim: Width.
        heads: Heads of the attention.
        feed_forward: Width inside the feed-forward network.
        dropout: Rate on the probabilities and before each shortcut.
        activation: `"gelu"` (exact), `"gelu_tanh"`, `"relu"` or `"swish"`.
        pre_norm: Whether to normalise before each part, `x + f(norm(x))`, and
            not after it, `norm(x + f(x))`.
        epsilon: Of the layer norms.
        truncated: See `normal_dense`.

    Call arguments and returns as `SelfAttention`.

    Reference:
        Vaswani et al., 2017, arXiv 1706.03762; Devlin et al., 2018, arXiv
        1810.04805.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        feed_forward: int,
        dropout: float = 0.1,
        activation: str = "gelu",
        pre_norm: bool = False,
        epsilon: float = 1e-12,
        truncated: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("activation", activation, tuple(ACTIVATIONS))
        policy = {"dtype": self.dtype_policy}
        self.attention = SelfAttention(
            dim, heads, dropout, truncated, name="attention", **policy
        )
        self.attention_norm = layer_norm(
            dim, "attention_norm", epsilon, **policy
        )
        self.inner = normal_dense(
            feed_forward, dim, "inner", activation, truncated, **policy
        )
        self.outer = normal_dense(
            dim, feed_forward, "outer", truncated=truncated, **policy
        )
        self.outer_norm = layer_norm(dim, "outer_norm", epsilon, **policy)
        self.drops = [
            drop_out(dropout, f"dropout_{i}", **policy) for i in range(2)
        ]

    def call(
        self,
        x: Tensor,
        valid: Tensor | None = None,
        head_mask: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> Any:
        pre = self.pre_norm
        y = self.attention_norm(x) if pre else x
        y = self.attention(
            y, valid=valid, head_mask=head_mask, training=training,
            return_attention=return_attention,
        )  # fmt: skip
        y, maps = y if return_attention else (y, None)
        x = x + self.drops[0](y, training=training)
        x = x if pre else self.attention_norm(x)
        y = self.outer(self.inner(self.outer_norm(x) if pre else x))
        x = x + self.drops[1](y, training=training)
        x = x if pre else self.outer_norm(x)
        return (x, maps) if return_attention else x


class PredictionHead(Layer):
    """Hidden frames to features: Dense, GELU, layer norm, Dense.

    Args:
        dim: Width of the hidden frames.
        output_dim: Bins that are predicted.
        epsilon: Of the layer norm.

    Call arguments:
        x: `(batch, frames, dim)`.

    Returns:
        `(batch, frames, output_dim)`.

    Reference:
        Liu et al., 2020, "Mockingjay", arXiv 1910.12638.
    """

    def __init__(
        self, dim: int, output_dim: int, epsilon: float = 1e-12, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.hidden = normal_dense(dim, dim, "hidden", "gelu", **policy)
        self.norm = layer_norm(dim, "norm", epsilon, **policy)
        self.out = normal_dense(output_dim, dim, "out", **policy)

    def call(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.hidden(x)))
