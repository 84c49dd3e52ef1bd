"""Any Keras model or layer as a backbone."""

import keras
from keras import ops

from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.encoders.backbone import Backbone


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
        self.network = network
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
        dim = int(shape[-1])
        if len(shape) == 4:
            dim *= int(shape[2])
        frames = 1 if len(shape) == 2 else int(shape[1])
        self.rank = len(shape)
        self.dims, self.strides = [dim], [max(1, round(time / frames))]
        self.pooling = FramePool(("mean",), name="pooling")

    def _output_shape(self, shape):
        spec = keras.KerasTensor(shape, dtype="float32")
        return self.network(spec).shape

    def level_lengths(self, lengths, level=-1):
        if self.rank == 2:
            return ops.ones_like(ops.cast(lengths, "int32"))
        return super().level_lengths(lengths, level)

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
