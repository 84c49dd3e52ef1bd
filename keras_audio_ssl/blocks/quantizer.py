"""Vector quantisation by a hard Gumbel-softmax."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer


class GumbelQuantizer(Layer):
    """Replaces groups of a vector by entries of learnt codebooks.

    Training draws a code from a Gumbel-softmax, hard forward and soft
    backward (straight-through); at test the largest logit wins.

    Args:
        dims: Width of each group; they add up to the input's width.
        codes: Number of codes of each group.
        temperature: Of the Gumbel-softmax.

    Call arguments:
        x: `(batch, frames, dim)`.
        seed: `keras.random.SeedGenerator`, needed in training.

    Returns:
        `(quantized (batch, frames, dim), codes (batch, frames, groups))`.

    Reference:
        Chung, Tang & Glass, 2020, "Vector-Quantized Autoregressive
        Predictive Coding", arXiv 2005.08392.
    """

    def __init__(
        self,
        dims: Sequence[int],
        codes: Sequence[int],
        temperature: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(dims) != len(codes) or not dims:
            raise ValueError(
                "`dims` and `codes` need one entry a group. "
                f"Received: dims={dims}, codes={codes}"
            )
        self.logits, self.codebooks = [], []
        for i, (dim, size) in enumerate(zip(dims, codes, strict=True)):
            logit = keras.layers.Dense(
                size, name=f"logits_{i}", dtype=self.dtype_policy
            )
            codebook = keras.layers.Dense(
                dim,
                use_bias=False,
                name=f"codebook_{i}",
                dtype=self.dtype_policy,
            )
            logit.build((None, None, dim))
            codebook.build((None, None, size))
            self.logits.append(logit)
            self.codebooks.append(codebook)

    def call(
        self, x: Tensor, training: bool | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor]:
        vectors, chosen, first = [], [], 0
        for dim, logit, codebook in zip(
            self.dims, self.logits, self.codebooks, strict=True
        ):
            part, first = x[..., first : first + dim], first + dim
            scores = ops.cast(logit(part), "float32")
            size = scores.shape[-1]
            if training:
                uniform = keras.random.uniform(
                    ops.shape(scores), 1e-9, 1.0, seed=seed
                )
                # Gumbel noise: the arg max is a draw from the softmax of the
                # scores.
                noisy = scores - ops.log(-ops.log(uniform))
                soft = ops.softmax(noisy / self.temperature)
                code = ops.argmax(noisy, axis=-1)
                hard = ops.one_hot(code, size, dtype="float32")
                # Straight through: one-hot forwards, the softmax' gradient
                # backwards.
                weights = hard + soft - ops.stop_gradient(soft)
            else:
                code = ops.argmax(scores, axis=-1)
                weights = ops.one_hot(code, size, dtype="float32")
            # (batch, frames, size) times (size, dim): the code's row.
            vectors.append(codebook(ops.cast(weights, x.dtype)))
            chosen.append(ops.cast(code, "int32"))
        return ops.concatenate(vectors, axis=-1), ops.stack(chosen, axis=-1)


def codebook_perplexity(
    codes: Tensor, size: int, mask: Tensor | None = None
) -> Tensor:
    """Perplexity 2^H of the use of a codebook.

    Args:
        codes: `(batch, frames)` integers.
        size: Number of codes.
        mask: Optional boolean `(batch, frames)`, what counts.

    Returns:
        Scalar between 1 (one code is used) and `size` (all alike).
    """
    used = ops.one_hot(codes, size, dtype="float32")
    if mask is not None:
        used *= ops.cast(mask, "float32")[..., None]
    counts = ops.sum(used, axis=(0, 1))
    share = counts / ops.maximum(ops.sum(counts), 1.0)
    entropy = -ops.sum(share * ops.log(ops.maximum(share, 1e-12)))
    # exp of nats is 2 to the bits.
    return ops.exp(entropy)


def group_dims(
    dim: int, codes: Sequence[int], dims: Sequence[int] | None = None
) -> Sequence[int]:
    """Width of each group of a quantiser.

    Args:
        dim: Width in all.
        codes: Number of codes of each group.
        dims: What the user wants; None divides evenly.

    Raises:
        ValueError: They are not as many as the groups, or do not add up.
    """
    dims = list(dims or [dim // len(codes)] * len(codes))
    if len(dims) != len(codes) or sum(dims) != dim:
        raise ValueError(
            f"`codebook_dims` must be {len(codes)} widths that add up to "
            f"{dim}. Received: {dims}"
        )
    return dims
