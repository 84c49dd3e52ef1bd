"""COLA's projection, and its learnt similarity."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer


class COLAHead(Layer):
    """Dense, and for the bilinear similarity layer norm and tanh.

    Args:
        input_dim: Width of the clip vector.
        output_dim: Width of the embedding.
        normalize: Whether layer norm and tanh follow.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.dense = keras.layers.Dense(output_dim, name="dense", **policy)
        self.dense.build((None, input_dim))
        if normalize:
            self.norm = keras.layers.LayerNormalization(
                epsilon=1e-3, name="norm", **policy
            )
            self.norm.build((None, output_dim))

    def call(self, x: Tensor) -> Tensor:
        x = self.dense(x)
        return ops.tanh(self.norm(x)) if self.normalize else x


class BilinearSimilarity(Layer):
    """`a W p`, with a learnt matrix that need not be symmetric.

    Args:
        dim: Width of the embeddings.

    Returns:
        `(rows, columns)`.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.weight = self.add_weight(
            shape=(dim, dim),
            initializer=keras.initializers.RandomNormal(stddev=0.05),
            name="weight",
        )

    def call(self, a: Tensor, p: Tensor) -> Tensor:
        return (a @ self.weight) @ ops.transpose(p)
