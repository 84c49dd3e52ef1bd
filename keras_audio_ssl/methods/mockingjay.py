"""Mockingjay: rebuild spans of frames from both sides."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import TimeAlteration
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.methods.reconstruction import MaskedReconstruction


class Mockingjay(MaskedReconstruction):
    """Masked acoustic modelling with a bidirectional transformer.

    Args:
        encoder: Settings that override the paper's, `Transformer` on the
            front end `"mockingjay"`: `{"layers": 12, "stack": 3}`. Or an
            `Encoder`, a `Backbone` or a Keras model that keeps the frame
            rate.
        proportion: Share of the frames that is selected, about.
        span: Neighbouring frames of a span, or least and most of them.
        overlap: Whether spans may overlap.
        target: The features to predict: `"online_linear"` for the linear
            spectrum, any recipe or `FrontEnd`; None for the encoder's own.
        distance: `"l1"` or `"mse"`.
        reference_policy: Draw as the released code does; see
            `TimeAlteration`.
        learning_rate: Peak of AdamW's.
        warm_up: Share of the run in which the rate rises.
        weight_decay: Not of biases and layer norms.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of what is selected.

    Returns of a call:
        See `MaskedReconstruction`.

    Reference:
        Liu et al., 2020, "Mockingjay: Unsupervised Speech Representation
        Learning with Deep Bidirectional Transformer Encoders", arXiv
        1910.12638.
    """

    PAPER: ClassVar = {"backbone": "transformer", "frontend": "mockingjay"}

    def __init__(
        self,
        encoder: EncoderLike = None,
        proportion: float = 0.15,
        span: int | Sequence[int] = 7,
        overlap: bool = True,
        target: str | FrontEnd | None = None,
        distance: str = "l1",
        reference_policy: bool = False,
        learning_rate: float = 2e-4,
        warm_up: float = 0.07,
        weight_decay: float = 0.01,
        clip_norm: float = 5.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            encoder, target, distance, learning_rate, warm_up,
            weight_decay, clip_norm, seed, **kwargs,
        )  # fmt: skip
        self.time = TimeAlteration(
            proportion, span, overlap, reference=reference_policy
        )

    def alter(
        self, features: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        altered, selected = self.time(
            features, lengths=lengths, seed=self.seed_generator
        )
        return altered, selected[..., None]
