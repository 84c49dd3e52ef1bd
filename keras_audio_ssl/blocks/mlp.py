"""The head of contrastive and BYOL methods."""

import keras

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
        self, input_dim, hidden_dim, output_dim, epsilon=1e-5, **kwargs
    ):
        super().__init__(**kwargs)
        kind = {"dtype": self.dtype_policy}
        self.hidden = keras.layers.Dense(hidden_dim, name="hidden", **kind)
        self.norm = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=epsilon, name="norm", **kind
        )
        self.out = keras.layers.Dense(output_dim, name="out", **kind)
        self.hidden.build((None, input_dim))
        self.norm.build((None, hidden_dim))
        self.out.build((None, hidden_dim))

    def call(self, x, training=None):
        x = self.norm(self.hidden(x), training=training)
        return self.out(keras.ops.relu(x))
