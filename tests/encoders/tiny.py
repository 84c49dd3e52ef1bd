"""Small backbones that the package has no like of."""

import keras
import numpy as np
from keras import ops

from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders import Backbone
from keras_audio_ssl.engine import frame_mask


class RoundsUp(Backbone):
    """Two convolutions of stride 2, whose lengths round up: 49, 25, 13."""

    def __init__(self, n_features=5, units=4, output_level=-1, **kwargs):
        super().__init__(**kwargs)
        self.convs, width = [], n_features
        for i in range(2):
            conv = keras.layers.Conv1D(units, 3, strides=2, name=f"conv_{i}")
            conv.build((None, None, width))
            self.convs.append(conv)
            width = units
        self.dims, self.strides = [units, units], [2, 4]
        self.pooling = FramePool(("mean",), name="pooling")

    def level_lengths(self, lengths, level=-1):
        return -(-ops.cast(lengths, "int32") // self.strides[level])

    def levels(self, features, lengths=None, training=None):
        x, hidden = features, []
        for level, conv in enumerate(self.convs):
            x = ops.tanh(conv(ops.pad(x, ((0, 0), (1, 1), (0, 0)))))
            if lengths is not None:
                x = mask_frames(x, self.level_lengths(lengths, level))
            hidden.append(x)
        return hidden


class Attends(Backbone):
    """Two layers of self-attention."""

    has_attention = True

    def __init__(self, n_features=5, heads=2, **kwargs):
        super().__init__(**kwargs)
        self.asked = []
        self.layers = []
        for i in range(2):
            layer = keras.layers.MultiHeadAttention(heads, 3, name=f"layer_{i}")
            layer.build(*[(None, None, n_features)] * 2)
            self.layers.append(layer)
        self.dims, self.strides = [n_features] * 2, [1] * 2
        self.pooling = FramePool(("mean",), name="pooling")

    def levels(
        self, features, lengths=None, training=None, return_attention=False
    ):
        self.asked.append(return_attention)
        x, mask, hidden, maps = features, None, [], []
        if lengths is not None:
            mask = frame_mask(lengths, ops.shape(x)[1])[:, None]
        for layer in self.layers:
            out, scores = layer(
                x, x, attention_mask=mask, return_attention_scores=True
            )
            x = x + out
            if lengths is not None:
                x = mask_frames(x, lengths)
            hidden.append(x)
            maps.append(scores)
        return (hidden, maps) if return_attention else hidden


def array(x):
    return ops.convert_to_numpy(x)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")
