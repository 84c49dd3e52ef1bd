"""A backbone run over windows of a clip of any length."""

import numpy as np
from keras import ops

from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.blocks import pool_frames
from keras_audio_ssl.encoders.backbone import Backbone


class Windowed(Backbone):
    """A backbone over windows of a clip, each of which gives one frame.

    So an encoder that was trained on segments of one length, or takes no
    other, reads clips of any length: a frame is the clip vector of a window,
    and the clip vector their mean. Windows begin every `hop` feature frames;
    what is left at the end and fills none is not read. A clip shorter than a
    window is followed by zeros, or refused (`pad`).

    A few windows pass the backbone together, so that its memory does not grow
    with the clip. In training all of them do, since normalisation and dropout
    are then about the whole batch; in the place of windows past a clip's end
    stands its last.

    Args:
        backbone: `Backbone` to run.
        frames: Feature frames of a window (samples, after a `Waveform` front
            end).
        hop: Feature frames between the beginnings of windows; None for
            `frames`.
        block: Windows that pass the backbone together, default 32.
        inner_levels: Whether the backbone's own levels are levels here too,
            each window's frames averaged, default False.
        pad: Whether a clip shorter than a window is followed by features that
            are zero, default True. If not, it is too short, and `embed` lets
            silence follow, once.

    Raises:
        ValueError: An argument is not positive, or a window shorter than the
            backbone takes.

    Example:

    >>> windows = kas.encoders.Windowed(encoder.backbone, frames=96, hop=48)
    >>> long = kas.encoders.Encoder(encoder.frontend, windows)
    >>> long.embed_frames("night.flac").shape
    """

    def __init__(
        self,
        backbone,
        frames,
        hop=None,
        block=32,
        inner_levels=False,
        pad=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        hop = frames if hop is None else hop
        if frames < 1 or hop < 1 or block < 1:
            raise ValueError(
                "`frames`, `hop` and `block` must be positive. Received: "
                f"frames={frames}, hop={hop}, block={block}"
            )
        if frames < backbone.min_frames:
            raise ValueError(
                f"`frames` must be at least {backbone.min_frames}, which "
                f"{type(backbone).__name__} needs. Received: {frames}"
            )
        self.n_features = backbone.n_features
        self.min_frames = 1 if pad else frames
        inner = backbone.dims[:-1] if inner_levels else []
        self.dims = [*inner, backbone.clip_dim]
        self.strides = [hop] * len(self.dims)
        self.pooling = FramePool(("mean",), name="pooling")

    def level_lengths(self, lengths, level=-1):
        lengths = ops.cast(lengths, "int32")
        return ops.maximum((lengths - self.frames) // self.stride + 1, 1)

    def levels(self, features, lengths=None, training=None):
        batch, time = ops.shape(features)[:2]
        if lengths is not None:
            features = mask_frames(features, lengths)
        # No clip is longer than the batch, nor shorter than a window.
        count = (time - self.frames) // self.stride + 1
        if isinstance(count, int):
            count = max(count, 1)
            short = max(self.frames - time, 0)
        else:
            count, short = ops.maximum(count, 1), self.frames
        features = ops.pad(features, ((0, 0), (0, short), (0, 0)))
        last = count - 1
        if lengths is not None:
            last = ops.minimum(self.level_lengths(lengths) - 1, last)
        # The beginning of each window in the features of all clips.
        place = ops.minimum(
            ops.arange(count, dtype="int32")[None], ops.reshape(last, (-1, 1))
        )
        clip = ops.arange(batch, dtype="int32")[:, None]
        starts = clip * ops.shape(features)[1] + place * self.stride
        flat = ops.reshape(features, (-1, self.n_features))
        vectors = self._clips(flat, ops.reshape(starts, (-1,)), training)
        vectors = ops.reshape(vectors, (-1, count, sum(self.dims)))
        if lengths is not None:
            vectors = mask_frames(vectors, self.level_lengths(lengths))
        ends = np.cumsum(self.dims).tolist()
        return [
            vectors[..., end - dim : end]
            for end, dim in zip(ends, self.dims, strict=True)
        ]

    def _clips(self, flat, starts, training):
        """Vectors of windows `(windows, sum of dims)`, a block at a time.

        The clip vector is the last; before it, what of other levels there is.
        """
        inside = ops.arange(self.frames, dtype="int32")

        def clips(starts):
            rows = ops.take(flat, starts[:, None] + inside, axis=0)
            read = self.backbone(rows, training=training)
            if not self.inner_levels:
                return read["clip"]
            inner = [
                pool_frames(level, ("mean",))[0] for level in read["hidden"]
            ]
            return ops.concatenate([*inner[:-1], read["clip"]], axis=-1)

        count = ops.shape(starts)[0]
        if training or (isinstance(count, int) and count <= self.block):
            return clips(starts)
        blocks = -(-count // self.block)
        # Windows that only fill the last block: the first one, again.
        more = blocks * self.block - count
        filled = ops.concatenate([starts, ops.zeros((more,), "int32")])
        vectors = ops.map(clips, ops.reshape(filled, (-1, self.block)))
        return ops.reshape(vectors, (-1, sum(self.dims)))[:count]
