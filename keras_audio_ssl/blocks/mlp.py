"""The heads of contrastive and BYOL methods."""

from typing import Any

import keras

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.conv import BatchNorm
from keras_audio_ssl.engine import Layer


class MLPHead(Layer):
    """Dense, batch norm, ReLU, Dense: projector and predictor of BYOL.

    Args:
        input_dim: Width of the input.
        hidden_dim: Width between the two dense layers.
        output_dim: Width of the output.
        epsilon: Of the batch norm.

    Call arguments:
        x: `(batch, input_dim)`.

    Returns:
        `(batch, output_dim)`.

    Reference:
        Grill et al., 2020, "Bootstrap your own latent", arXiv 2006.07733.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.hidden = keras.layers.Dense(hidden_dim, name="hidden", **policy)
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=epsilon, name="norm", **policy
        )
        self.out = keras.layers.Dense(output_dim, name="out", **policy)
        self.hidden.build((None, input_dim))
        self.norm.build((None, hidden_dim))
        self.out.build((None, hidden_dim))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        x = self.norm(self.hidden(x), training=training)
        return self.out(keras.ops.relu(x))


class DeepHead(Layer):
    """Twice dense, batch norm and ReLU, then dense without bias.

    Args:
        input_dim: Width of the input.
        hidden_dim: Width of both layers between.
        output_dim: Width of the output.

    Call arguments:
        x: `(batch, input_dim)`.

    Returns:
        `(batch, output_dim)`.

    Reference:
        Chen et al., 2020, "Big Self-Supervised Models are Strong
        Semi-Supervised Learners", arXiv 2006.10029.
    """

    def __init__(
        self, input_dim: int, hidden_dim: int, output_dim: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.hidden, self.norms, width = [], [], input_dim
        for i in range(2):
            dense = keras.layers.Dense(hidden_dim, name=f"hidden_{i}", **policy)
            dense.build((None, width))
            norm = BatchNorm(
                momentum=0.9, epsilon=1e-5, name=f"norm_{i}", **policy
            )
            norm.build((None, hidden_dim))
            self.hidden.append(dense)
            self.norms.append(norm)
            width = hidden_dim
        self.out = keras.layers.Dense(
            output_dim, use_bias=False, name="out", **policy
        )
        self.out.build((None, hidden_dim))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        for dense, norm in zip(self.hidden, self.norms, strict=True):
            x = keras.ops.relu(norm(dense(x), training=training))
        return self.out(x)


class ClassBranch(Layer):
    """Batch norm, ReLU, and a dense layer without bias: classes of a vector.

    Args:
        input_dim: Width of the input.
        classes: Their number.

    Call arguments:
        x: `(batch, input_dim)`.

    Returns:
        Logits `(batch, classes)`.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542, as released.
    """

    def __init__(self, input_dim: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.norm = BatchNorm(momentum=0.9, epsilon=1e-5, name="norm", **policy)
        self.out = keras.layers.Dense(
            classes, use_bias=False, name="out", **policy
        )
        self.norm.build((None, input_dim))
        self.out.build((None, input_dim))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        return self.out(keras.ops.relu(self.norm(x, training=training)))
