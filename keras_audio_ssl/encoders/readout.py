"""An encoder read at several of its levels."""

from keras import ops

from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.encoder import Encoder


class Readout(Encoder):
    """An encoder whose vectors join the levels of another one.

    Where a representation is read decides as much as how it was trained.
    Frames of finer levels are averaged to the frame rate of the encoder.

    Args:
        encoder: `Encoder` to read.
        levels: `"all"`, or indices of its levels, first is 0, last is -1.
        pooling: Statistics over time that make the clip vector: some of
            `"mean"`, `"max"`, `"std"`.

    Raises:
        ValueError: A level that the encoder does not have.

    Example:

    >>> kas.Readout(encoder, levels=[0, -1]).embed("clip.flac").shape
    """

    def __init__(
        self, encoder, levels="all", pooling=("mean", "max", "std"), **kwargs
    ):
        if levels != "all":
            levels = [int(i) for i in levels]
        super().__init__(
            encoder.frontend,
            LevelsBackbone(encoder.backbone, levels, tuple(pooling)),
            **kwargs,
        )


class LevelsBackbone(Backbone):
    """A backbone's levels, joined; see `Readout`."""

    def __init__(self, backbone, levels, pooling, **kwargs):
        super().__init__(**kwargs)
        count = len(backbone.dims)
        wanted = list(range(count)) if levels == "all" else levels
        if not wanted or any(not -count <= i < count for i in wanted):
            raise ValueError(
                f"`levels` must be 'all' or indices of {count} levels. "
                f"Received: {levels}"
            )
        self.indices = [i % count for i in wanted]
        self.n_features = backbone.n_features
        self.stride, self.min_frames = backbone.stride, backbone.min_frames
        self.dims = [backbone.dims[i] for i in self.indices]
        self.dim = sum(self.dims)
        self.strides = [backbone.strides[i] for i in self.indices]
        self.pooling = FramePool(pooling, join="concat", name="pooling")

    def frame_lengths(self, lengths):
        return self.backbone.frame_lengths(lengths)

    def call(self, features, lengths=None, training=None):
        outputs = self.backbone(features, lengths=lengths, training=training)
        hidden = [outputs["hidden"][i] for i in self.indices]
        frames, clip = [], []
        count = ops.shape(outputs["frames"])[1]
        for level, stride in zip(hidden, self.strides, strict=True):
            valid = None
            if lengths is not None:
                valid = self.backbone.level_lengths(lengths, stride)
            clip.append(self.pooling(level, lengths=valid))
            step = self.stride // stride
            if step > 1:
                shape = (-1, count, step, level.shape[-1])
                whole = level[:, : count * step]
                level = ops.mean(ops.reshape(whole, shape), axis=2)
            frames.append(level[:, :count])
        return {
            "frames": ops.concatenate(frames, axis=-1),
            "clip": ops.concatenate(clip, axis=-1),
            "hidden": hidden,
        }
