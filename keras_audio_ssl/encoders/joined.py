"""Encoders side by side: what one reads off a clip, and what the others."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.encoder import Encoder
from keras_audio_ssl.encoders.readout import averaged
from keras_audio_ssl.features import Waveform


class JoinedBackbone(Backbone):
    """Encoders of one waveform, each with a front end of its own.

    Frames are those of the coarsest encoder, joined to the means of the
    others' over as long; the clip vector joins theirs. Levels are all of the
    first encoder, then all of the second, and so on, and the joined frames.

    Args:
        encoders: List of `Encoder`, of one sample rate.

    Call arguments:
        features: `(batch, samples, 1)`.

    Raises:
        ValueError: There are fewer than two, or of several rates.
    """

    n_features = 1

    def __init__(self, encoders: Sequence[Encoder], **kwargs: Any) -> None:
        # Waveforms lose too much in half precision; the encoders choose.
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.encoders = list(encoders)
        rates = {encoder.sample_rate for encoder in self.encoders}
        if len(self.encoders) < 2 or len(rates) > 1:
            raise ValueError(
                "There must be two encoders or more, of one sample rate. "
                f"Received: {len(self.encoders)}, of {sorted(rates)} Hz"
            )
        self.min_frames = max(e.min_samples for e in self.encoders)
        # Samples in one output frame of each.
        self.steps = [
            e.backbone.stride * e.frontend.hop_length for e in self.encoders
        ]
        self.coarsest = self.steps.index(max(self.steps))
        self.strides, self.dims = [], []
        for e in self.encoders:
            hop = e.frontend.hop_length
            self.strides += [hop * stride for stride in e.backbone.strides]
            self.dims += e.backbone.dims
        self.strides.append(max(self.steps))
        self.dims.append(sum(e.backbone.dim for e in self.encoders))
        self.exact_lengths = all(
            e.backbone.exact_lengths for e in self.encoders
        )
        self.pooling = FramePool(("mean",), name="pooling")

    @property
    def clip_dim(self) -> int:
        return sum(e.dim for e in self.encoders)

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        level = range(len(self.dims))[level]
        for e in self.encoders:
            if level < len(e.backbone.dims):
                lengths = ops.maximum(lengths, e.min_samples)
                frames = e.frontend.frame_lengths(lengths)
                return e.backbone.level_lengths(frames, level)
            level -= len(e.backbone.dims)
        return self.encoders[self.coarsest].frame_lengths(lengths)

    def call(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> dict[str, Any]:
        if return_attention:
            raise ValueError(f"{type(self).__name__} has no attention maps.")
        waveform = features[..., 0]
        outputs = [
            encoder(
                waveform, lengths=lengths, return_hidden=True,
                training=training,
            )
            for encoder in self.encoders
        ]  # fmt: skip
        count = ops.shape(outputs[self.coarsest]["frames"])[1]
        frames = []
        for encoder, step, out in zip(
            self.encoders, self.steps, outputs, strict=True
        ):
            valid = None if lengths is None else encoder.frame_lengths(lengths)
            frames.append(
                averaged(out["frames"], count, max(self.steps) // step, valid)
            )
        joined = ops.concatenate(frames, axis=-1)
        hidden = [level for out in outputs for level in out["hidden"]]
        return {
            "frames": joined,
            "clip": ops.concatenate([out["clip"] for out in outputs], axis=-1),
            "hidden": [*hidden, joined],
        }


def join_encoders(encoders: Sequence[Encoder]) -> Encoder:
    """One encoder of several, whose vectors it joins.

    Args:
        encoders: List of `Encoder`, of one sample rate.

    Returns:
        An `Encoder` whose frames and clip vectors are theirs side by side.

    Raises:
        ValueError: There are fewer than two, or their sample rates differ.

    Example:
        >>> names = ("cola", "tera")
        >>> made = [kas.methods.make_method(n, preset="tiny") for n in names]
        >>> both = join_encoders([model.encoder for model in made])
    """
    encoders = list(encoders)
    front_end = Waveform(sample_rate=encoders[0].sample_rate)
    return Encoder(front_end, JoinedBackbone(encoders))
