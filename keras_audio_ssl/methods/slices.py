"""What the methods share whose task is made of slices of a clip."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import Windowed
from keras_audio_ssl.encoders import check_frames
from keras_audio_ssl.encoders import window_of
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.methods.pretext import PretextModel


class SliceModel(PretextModel):
    """A task on slices of a clip's features, of one length.

    The encoder makes one vector of a slice. Clips of any length are embedded
    by windows of as many frames: a frame of the encoder is a window's vector,
    and the clip vector their mean; silence follows clips that are shorter
    than a window.

    A method sets `span`. Of the first batch of `fit` it refuses clips with
    fewer frames, and takes no slice of those that come later: they don't
    count in the loss.

    Args:
        encoder: See `PretextModel`.
        paper: See `PretextModel`.
        frames: Feature frames of a slice; unless given as many as are in the
            windows of an `Encoder` that reads windows.
        seed: Of all draws.

    Attributes:
        span: Feature frames that the task needs of a clip.

    Raises:
        ValueError: `frames` are fewer than the encoder needs.
    """

    span: int

    def __init__(
        self,
        encoder: EncoderLike = None,
        paper: dict[str, Any] | None = None,
        frames: int = 96,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if frames < 1:
            raise ValueError(f"`frames` must be positive. Received: {frames}")
        super().__init__(encoder, paper, seed, window_frames=frames, **kwargs)
        check_frames(self.network, frames)
        self.std = keras.metrics.Mean(name="embedding_std")

    @classmethod
    def usual(
        cls, preset: dict[str, Any], given: dict[str, Any]
    ) -> dict[str, Any]:
        # A preset's slices are those of its own encoder.
        if frames := window_of(given.get("encoder")):
            return {**preset, "frames": frames}
        return preset

    @property
    def network(self) -> Any:
        """The backbone that makes a vector of a slice."""
        backbone = self.encoder.backbone
        return backbone.backbone if isinstance(backbone, Windowed) else backbone

    @property
    def min_samples(self) -> int:
        return self.encoder.samples_for(self.span)

    def features_of(self, x: Batch) -> tuple[Tensor, Tensor | None]:
        """Features of a batch, and their valid frames, or None.

        Not the encoder's, which takes a clip that is too short for long
        enough.
        """
        waveform, lengths = waveform_and_lengths(x)
        frontend = self.encoder.frontend
        if lengths is None:
            return frontend(waveform), None
        lengths = ops.cast(lengths, "int32")
        features = frontend(waveform, lengths=lengths)
        return features, frontend.frame_lengths(lengths)

    def encode(self, slices: Tensor, training: bool = False) -> Tensor:
        """Vectors of slices, all in one batch.

        Args:
            slices: `(batch, slices, frames, bins)`.
            training: bool.

        Returns:
            `(batch, slices, dim)`.
        """
        return encode(self.network, slices, training)

    def check_clips(self, waveform: Tensor, lengths: Tensor | None) -> None:
        super().check_clips(waveform, lengths)
        if lengths is None:
            return
        lengths = np.asarray(ops.convert_to_numpy(lengths))
        short = int((lengths < self.min_samples).sum())
        if short:
            seconds = self.min_samples / self.encoder.sample_rate
            seconds = math.ceil(1000 * seconds) / 1000
            raise ValueError(
                f"{type(self).__name__} needs clips of at least "
                f"{self.min_samples} samples ({seconds:.3f} s). Received: "
                f"{short} shorter ones among {len(lengths)}, the shortest of "
                f"{lengths.min()}. Data made with `min_seconds={seconds:.3f}` "
                "leaves them out."
            )


def encode(network: Any, slices: Tensor, training: bool = False) -> Tensor:
    """Vectors of slices by a backbone; see `SliceModel.encode`."""
    # One batch of (batch * slices, frames, bins).
    flat = ops.reshape(slices, (-1, *slices.shape[2:]))
    clip = network(flat, training=training)["clip"]
    return ops.reshape(clip, (-1, slices.shape[1], clip.shape[-1]))


def mean_of_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the rows that count; 0, with zero gradient, if none does.

    Args:
        values: `(batch,)`.
        valid: Boolean `(batch,)`.
    """
    weights = ops.cast(valid, values.dtype)
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1.0)
