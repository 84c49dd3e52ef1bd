"""NPC: predict each frame from those around it, all at once."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import GumbelQuantizer
from keras_audio_ssl.blocks import codebook_perplexity
from keras_audio_ssl.blocks import frame_mask
from keras_audio_ssl.blocks import group_dims
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import MaskedConvStack
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import masked_l1
from keras_audio_ssl.methods.pretext import PretextModel


class NPC(PretextModel):
    """Non-autoregressive predictive coding of log-mel frames.

    Convolutions that mask their middle see the neighbourhood of a frame, and
    neither the frame nor the nearest others; from it the frame is predicted.
    Nothing of the input is hidden, so one pass trains on every frame.

    Args:
        encoder: Settings that override the paper's, `MaskedConvStack` on the
            front end `"npc"`: `{"input_mask": 3}`, `{"bottleneck": 64}` (with
            `codebooks=None`), `{"output": "masked"}`, what the paper hands
            on. Or an `Encoder`, a `Backbone` or a Keras model that keeps the
            frame rate, none of whose frames sees the feature frame of its own
            place; that is measured.
        codebooks: Codes of each group of the quantiser between feature and
            prediction; None for no quantiser.
        codebook_dims: Width of each group, adding up to the feature's; None
            divides evenly.
        temperature: Of the quantiser's Gumbel-softmax.
        learning_rate: Of Adam.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of the quantiser's draws.

    Returns of a call:
        Dict of `"prediction"` and `"target"` `(batch, frames, bins)`,
        `"interpolation"`, the mean of the nearest two frames that can be
        seen, of the same shape, `"mask"` `(batch, frames)`, and with a
        quantiser `"codes"` `(batch, frames, groups)`.

    Raises:
        ValueError: A prediction would see its own frame, or the quantiser
            does not fit.

    Reference:
        Liu, Chung & Glass, 2020, "Non-Autoregressive Predictive Coding for
        Learning Speech Representations from Local Dependencies", arXiv
        2011.00406.
    """

    baseline = "interpolation_l1"
    PRESETS: ClassVar = {
        "tiny": {"encoder": {"units": 96, "blocks": 3}, "codebooks": None},
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 32, "seconds": 15.0, "steps": 325_000},
        "tiny": {"batch_size": 8, "seconds": 2.0, "steps": 400},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        codebooks: Sequence[int] | None = (64, 64, 64, 64),
        codebook_dims: Sequence[int] | None = None,
        temperature: float = 1.0,
        learning_rate: float = 1e-3,
        clip_norm: float = 5.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        paper = {"backbone": "masked_conv", "frontend": "npc"}
        super().__init__(encoder, paper, seed, **kwargs)
        backbone, policy = self.encoder.backbone, {"dtype": self.dtype_policy}
        self.level, self.reach = backbone.output_level, 1
        if isinstance(backbone, MaskedConvStack):
            # Blind by construction, and not where it is read downstream.
            self.level = backbone.blind_level
            self.reach = (backbone.input_mask + 1) // 2
        else:
            refuse_sight(backbone)
        dim = backbone.dims[self.level]
        self.quantizer = None
        if codebooks:
            if getattr(backbone, "bottleneck", None):
                raise ValueError(
                    "A bottleneck stands in the quantiser's place: with it, "
                    f"`codebooks` must be None. Received: {codebooks}"
                )
            dims = group_dims(dim, codebooks, codebook_dims)
            self.quantizer = GumbelQuantizer(
                dims, codebooks, temperature, name="quantizer", **policy
            )
            self.perplexities = [
                keras.metrics.Mean(name=f"codebook_perplexity_{i}")
                for i in range(len(dims))
            ]
        self.postnet = keras.layers.Dense(
            self.encoder.frontend.n_features, name="postnet", **policy
        )
        self.postnet.build((None, None, dim))
        self.interpolation_error = keras.metrics.Mean(name="interpolation_l1")

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        waveform, lengths = waveform_and_lengths(x)
        features, valid = self.encoder.features(waveform, lengths)
        return self.predict_frames(features, valid, training)

    def predict_frames(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool = False,
    ) -> dict[str, Any]:
        """The task on features `(batch, frames, bins)`; see `call`."""
        shape = ops.shape(features)
        if lengths is None:
            mask = ops.ones(shape[:2], "bool")
        else:
            mask = frame_mask(lengths, shape[1])
        read = self.encoder.backbone(
            features, lengths=lengths, training=training
        )
        # (batch, frames, dim), of a level that does not see the frame itself.
        feature, outputs = read["hidden"][self.level], {}
        if self.quantizer is not None:
            feature, outputs["codes"] = self.quantizer(
                feature, training=training, seed=self.seed_generator
            )
        return {
            "prediction": self.postnet(feature),
            "target": features,
            "interpolation": interpolated(features, mask, self.reach),
            "mask": mask,
            **outputs,
        }

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        target, mask = outputs["target"], outputs["mask"]
        # What is lost by the mean of the nearest frames: to be beaten.
        self.interpolation_error.update_state(
            masked_l1(outputs["interpolation"], target, mask)
        )
        if self.quantizer is not None:
            for i, metric in enumerate(self.perplexities):
                codes, size = outputs["codes"][..., i], self.codebooks[i]
                metric.update_state(codebook_perplexity(codes, size, mask))
        return masked_l1(outputs["prediction"], target, mask)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        return keras.optimizers.Adam(
            self.learning_rate, global_clipnorm=self.clip_norm
        )


def interpolated(features: Tensor, mask: Tensor, reach: int) -> Tensor:
    """Mean of the frames `reach` before and after, of those that are there.

    Args:
        features: `(batch, frames, bins)`.
        mask: Boolean `(batch, frames)`, valid frames.
        reach: How far away, positive.

    Returns:
        Like `features`; zero where there is neither.
    """
    frames = ops.shape(features)[1]
    total, count = 0.0, 0.0
    valid = ops.cast(mask, features.dtype)[..., None]
    # Of what is padded on both sides, the frames `reach` before each, then
    # those `reach` after.
    for start in (0, 2 * reach):
        around = ((0, 0), (reach, reach), (0, 0))
        there = ops.pad(valid, around)[:, start : start + frames]
        shifted = ops.pad(features, around)[:, start : start + frames]
        total, count = total + shifted * there, count + there
    return total / ops.maximum(count, 1.0)


def refuse_sight(backbone: Any, frames: int = 64) -> None:
    """Refuses a backbone whose output sees the feature frame it stands for.

    Frames of random features are changed, at either end and in the middle,
    and the output at each is watched, without training.

    Raises:
        ValueError: It moves, or output frames do not stand for feature
            frames.
    """
    name, frames = type(backbone).__name__, max(frames, backbone.min_frames)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, frames, backbone.n_features))
    # Twice: one random value might happen to move nothing.
    places = [0, frames // 2, frames - 1] * 2
    x = np.repeat(x, len(places) + 1, axis=0).astype("float32")
    for row, place in enumerate(places):
        x[row, place] = 3 * rng.standard_normal(backbone.n_features)
    read = backbone(ops.convert_to_tensor(x), training=False)["frames"]
    y = ops.convert_to_numpy(ops.cast(read, "float32"))
    if y.shape[1] != frames:
        raise ValueError(
            "NPC needs an encoder with one frame for each feature frame. "
            f"Received: {name}, which gives {y.shape[1]} for {frames}"
        )
    for row, place in enumerate(places):
        moved = np.abs(y[row, place] - y[-1, place]).max()
        # Rounding alone moves a large kernel's output by less.
        if not moved <= 1e-4 * np.abs(y).max():
            raise ValueError(
                "NPC needs an encoder whose frames do not see the feature "
                "frame that is predicted from them. Measured: feature frame "
                f"{place} of {frames} changed, and the output of {name} at "
                f"frame {place} moved by {moved:.3g}."
            )
