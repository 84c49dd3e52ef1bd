"""A backbone run over windows of a clip of any length."""

from typing import Any

import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.blocks import pool_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import check_choice


class Windowed(Backbone):
    """A backbone over windows of a clip, each of which gives one frame.

    So an encoder that was trained on segments of one length, or takes no
    other, reads clips of any length: a frame is the clip vector of a window,
    and the clip vector their mean. Windows begin every `hop` feature frames;
    what is left at the end and fills none is not read. A clip shorter than a
    window is followed by zeros, repeated until it fills one, or refused.

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
        short: What fills the window of a clip that is shorter: features that
            are `"zeros"` (default), or the clip itself (`"repeat"`). With
            `"refuse"` it is too short, and `embed` lets silence follow.

    Raises:
        ValueError: An argument is not positive, or a window shorter than the
            backbone takes.

    Example:
        >>> windows = kas.encoders.Windowed(encoder.backbone, frames=96, hop=48)
        >>> long = kas.encoders.Encoder(encoder.frontend, windows)
        >>> long.embed_frames("night.flac").shape[1] == long.dim
        True
    """

    def __init__(
        self,
        backbone: Backbone,
        frames: int,
        hop: int | None = None,
        block: int = 32,
        inner_levels: bool = False,
        short: str = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("short", short, ("zeros", "repeat", "refuse"))
        hop = frames if hop is None else hop
        if frames < 1 or hop < 1 or block < 1:
            raise ValueError(
                "`frames`, `hop` and `block` must be positive. Received: "
                f"frames={frames}, hop={hop}, block={block}"
            )
        check_frames(backbone, frames)
        self.n_features = backbone.n_features
        self.min_frames = frames if short == "refuse" else 1
        inner = backbone.dims[:-1] if inner_levels else []
        self.dims = [*inner, backbone.clip_dim]
        self.strides = [hop] * len(self.dims)
        self.pooling = FramePool(("mean",), name="pooling")

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        lengths = ops.cast(lengths, "int32")
        return ops.maximum((lengths - self.frames) // self.stride + 1, 1)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        batch, time = ops.shape(features)[:2]
        if lengths is not None:
            features = mask_frames(features, lengths)
        # No clip is longer than the batch, nor shorter than a window.
        count = (time - self.frames) // self.stride + 1
        known = isinstance(count, int)
        count = backend.at_least(count, 1)
        short = max(self.frames - time, 0) if known else self.frames
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
        # After so many feature frames a window begins again.
        span = self.frames
        if self.short == "repeat":
            whole = time if lengths is None else lengths
            span = ops.clip(ops.cast(whole, "int32"), 1, self.frames)
        span = ops.reshape(ops.cast(span, "int32"), (-1, 1))
        vectors = self._of_all(
            ops.reshape(features, (-1, self.n_features)),
            ops.reshape(starts, (-1,)),
            ops.reshape(ops.zeros_like(starts) + span, (-1,)),
            training,
        )
        # (batch, windows, all levels side by side).
        vectors = ops.reshape(vectors, (-1, count, sum(self.dims)))
        if lengths is not None:
            vectors = mask_frames(vectors, self.level_lengths(lengths))
        ends = np.cumsum(self.dims).tolist()
        return [
            vectors[..., end - dim : end]
            for end, dim in zip(ends, self.dims, strict=True)
        ]

    def of_windows(self, rows: Tensor, training: bool | None = None) -> Tensor:
        """The levels of windows, one behind the other; the last is the clip's.

        Args:
            rows: `(windows, frames, bins)`.
            training: Whether dropout and batch statistics are on.

        Returns:
            `(windows, sum of dims)`.
        """
        read = self.backbone(rows, training=training)
        if not self.inner_levels:
            return read["clip"]
        inner = [pool_frames(level, ("mean",))[0] for level in read["hidden"]]
        return ops.concatenate([*inner[:-1], read["clip"]], axis=-1)

    def _of_all(
        self, flat: Tensor, starts: Tensor, spans: Tensor, training: bool | None
    ) -> Tensor:
        """`of_windows` of all windows, a block at a time."""
        inside = ops.arange(self.frames, dtype="int32")

        def of_block(starts_and_spans: Tensor) -> Tensor:
            starts, spans = starts_and_spans[:, :1], starts_and_spans[:, 1:]
            # (windows, frames, bins).
            rows = ops.take(flat, starts + inside % spans, axis=0)
            return self.of_windows(rows, training)

        windows = ops.stack([starts, spans], axis=1)
        count = ops.shape(windows)[0]
        few = isinstance(count, int) and count <= self.block
        if training or few or backend.is_for_export():
            return of_block(windows)
        blocks = -(-count // self.block)
        # Windows that only fill the last block: the first one, again.
        more = blocks * self.block - count
        first = windows[:1] + ops.zeros((more, 2), "int32")
        filled = ops.concatenate([windows, first])
        vectors = ops.map(of_block, ops.reshape(filled, (-1, self.block, 2)))
        return ops.reshape(vectors, (-1, sum(self.dims)))[:count]


def check_frames(backbone: Backbone, frames: int) -> None:
    """Refuses windows that are shorter than a backbone takes.

    Args:
        backbone: What is to read them.
        frames: Feature frames of a window.

    Raises:
        ValueError: They are too few.
    """
    if frames < backbone.min_frames:
        raise ValueError(
            f"`frames` must be at least {backbone.min_frames}, which "
            f"{type(backbone).__name__} needs. Received: {frames}"
        )


def window_of(encoder: Any) -> int | None:
    """Feature frames of an encoder's windows.

    Args:
        encoder: An `Encoder`; of anything else, and of one that reads whole
            clips, they are None.
    """
    backbone = getattr(encoder, "backbone", None)
    return backbone.frames if isinstance(backbone, Windowed) else None
