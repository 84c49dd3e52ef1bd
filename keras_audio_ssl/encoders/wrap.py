"""What a method's `encoder=` takes: an encoder, a backbone, any layer."""

import keras
from keras import ops

from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.encoder import Encoder


def make_encoder(encoder, frontend):
    """Makes an `Encoder` of what the user gave.

    Args:
        encoder: An `Encoder`, which is taken as it is; a `Backbone`; or any
            Keras model or layer that maps `(batch, time, bins)` or `(batch,
            time, bins, 1)` to `(batch, frames, dim)`, `(batch, frames,
            bins, channels)` or `(batch, dim)`.
        frontend: `FrontEnd` for a backbone or a layer.

    Returns:
        An `Encoder`.

    Raises:
        ValueError: `encoder` is something else, or of another rank.
    """
    if isinstance(encoder, Encoder):
        return encoder
    if isinstance(encoder, Backbone):
        return Encoder(frontend, encoder)
    if isinstance(encoder, keras.layers.Layer):
        return Encoder(frontend, KerasBackbone(encoder, frontend.n_features))
    raise ValueError(
        "`encoder` must be an Encoder, a Backbone or a Keras layer. "
        f"Received: {encoder!r}"
    )


@keras.saving.register_keras_serializable(package="keras_audio_ssl")
class KerasBackbone(Backbone):
    """Any Keras model or layer as a backbone.

    Such a model knows nothing of padding: `lengths` select the frames that
    are pooled, but what a padded frame holds may leak into its neighbours.

    Args:
        network: Model or layer, see `make_encoder`.
        n_features: Bins of the features.
    """

    def __init__(self, network, n_features, **kwargs):
        super().__init__(**kwargs)
        self.network, self.n_features = network, n_features
        time = 128
        self.channel_axis = False
        try:
            shape = self._output_shape((1, time, n_features))
        except ValueError:
            self.channel_axis = True
            shape = self._output_shape((1, time, n_features, 1))
        if len(shape) not in (2, 3, 4):
            raise ValueError(
                "The encoder must give (batch, frames, dim), (batch, frames, "
                f"bins, channels) or (batch, dim). Received: {shape}"
            )
        self.dim = int(shape[-1])
        if len(shape) == 4:
            self.dim *= int(shape[2])
        frames = 1 if len(shape) == 2 else int(shape[1])
        self.stride = max(1, round(time / frames))
        self.rank = len(shape)
        self.dims, self.strides = [self.dim], [self.stride]
        self.pooling = FramePool(("mean",), name="pooling")
        self.built = True

    def _output_shape(self, shape):
        spec = keras.KerasTensor(shape, dtype="float32")
        return self.network(spec).shape

    def level_lengths(self, lengths, stride):
        if self.rank == 2:
            return ops.ones_like(ops.cast(lengths, "int32"))
        return super().level_lengths(lengths, stride)

    def levels(self, features, lengths=None, training=None):
        x = features[..., None] if self.channel_axis else features
        if self.network._call_has_training_arg:
            x = self.network(x, training=training)
        else:
            x = self.network(x)
        if self.rank == 2:
            x = x[:, None, :]
        if self.rank == 4:
            x = ops.reshape(x, (-1, ops.shape(x)[1], self.dim))
        return [x]

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "n_features": self.n_features,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["network"] = keras.saving.deserialize_keras_object(
            config["network"]
        )
        return cls(**config)
