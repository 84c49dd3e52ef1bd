"""TERA: rebuild frames and bands that are hidden, through noise."""

import warnings
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import ChannelAlteration
from keras_audio_ssl.augment import NoiseAlteration
from keras_audio_ssl.augment import TimeAlteration
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.methods.reconstruction import MaskedReconstruction


class TERA(MaskedReconstruction):
    """Reconstruction of features altered in time, frequency and magnitude.

    Spans of frames, then a band of channels, are hidden, then some utterances
    get noise. Any of the three is off where its share is 0. Frames and bands
    that were selected count, once; with noise alone everything does.

    Args:
        encoder: Settings that override the paper's, `Transformer` on the
            front end `"tera"`: `{"layers": 6}`. Or an `Encoder`, a
            `Backbone` or a Keras model that keeps the frame rate.
        proportion: Share of the frames that is selected, about.
        span: Neighbouring frames of a span, or least and most of them.
        channel_share: Widest band, a share of the channels.
        channel_groups: How often the channels repeat in a frame (3: a
            filterbank and two deltas); the same band is hidden in each.
        noise_probability: Of an utterance to be noisy.
        noise_std: Standard deviation of the noise.
        target: The features to predict, a recipe or a `FrontEnd`; None for
            the encoder's own.
        distance: `"l1"` or `"mse"`.
        reference_policy: Draw as the released code does: never the last frame
            or channel, one die a batch for noise, noise in the padding.
        reference_loss: With noise alone, count padded frames too, as the
            released code does.
        learning_rate: Peak of AdamW's.
        warm_up: Share of the run in which the rate rises.
        weight_decay: Not of biases and layer norms.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of the alterations.

    Returns of a call:
        See `MaskedReconstruction`.

    Reference:
        Liu, Li & Lee, 2021, "TERA: Self-Supervised Learning of Transformer
        Encoder Representation for Speech", arXiv 2007.06028.
    """

    PAPER: ClassVar = {"backbone": "transformer", "frontend": "tera"}

    def __init__(
        self,
        encoder: EncoderLike = None,
        proportion: float = 0.15,
        span: int | Sequence[int] = 7,
        channel_share: float = 0.2,
        channel_groups: int = 1,
        noise_probability: float = 0.15,
        noise_std: float = 0.2,
        target: str | FrontEnd | None = None,
        distance: str = "l1",
        reference_policy: bool = False,
        reference_loss: bool = False,
        learning_rate: float = 2e-4,
        warm_up: float = 0.07,
        weight_decay: float = 0.01,
        clip_norm: float = 5.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if not (proportion or channel_share or noise_probability):
            raise ValueError(
                "TERA needs an alteration: `proportion`, `channel_share` or "
                "`noise_probability` must be positive."
            )
        super().__init__(
            encoder, target, distance, learning_rate, warm_up,
            weight_decay, clip_norm, seed, **kwargs,
        )  # fmt: skip
        bins = self.stack * self.encoder.frontend.n_features
        if channel_share and target is not None:
            raise ValueError(
                "Hidden channels of the input are none of another target: "
                "with `target`, `channel_share` must be 0."
            )
        self.time = TimeAlteration(proportion, span, reference=reference_policy)
        self.channels = ChannelAlteration(
            channel_share, channel_groups,
            # Every utterance must have something to predict.
            least=0 if proportion or reference_policy else 1,
            reference=reference_policy,
        )  # fmt: skip
        self.noise = NoiseAlteration(
            noise_probability, noise_std, reference=reference_policy
        )
        # Here, and not in the first step, for groups that do not fit.
        if channel_share and not self.channels.widest(bins):
            warnings.warn(
                f"A share of {channel_share} of {bins} channels is less than "
                "one: none is ever hidden.",
                stacklevel=2,
            )

    def alter(
        self, features: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        seed, frames = self.seed_generator, ops.shape(features)[1]
        valid = ops.ones((ops.shape(features)[0], frames, 1), "bool")
        if lengths is not None:
            valid = frame_mask(lengths, frames)[..., None]
        altered, labels = features, []
        if self.proportion:
            altered, selected = self.time(altered, lengths=lengths, seed=seed)
            labels.append(selected[..., None])
        if self.channel_share:
            altered, selected = self.channels(altered, seed=seed)
            # A band is hidden in every frame; padding does not count.
            labels.append(selected & valid)
        if self.noise_probability:
            altered = self.noise(altered, lengths=lengths, seed=seed)
        if not labels:
            # Noise alone hides nothing: all is to be rebuilt, in the reference
            # padding too.
            labels = [valid | self.reference_loss]
        label = labels[0]
        for more in labels[1:]:
            label = label | more
        return altered, label
