"""MPC: rebuild chunks of frames behind convolutions that join four."""

from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import ChunkAlteration
from keras_audio_ssl.blocks import unstack_frames
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import WarmUpRoot
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import masked_l1
from keras_audio_ssl.methods.pretext import PretextModel
from keras_audio_ssl.methods.reconstruction import last_level

# Shares of zero and of replaced chunks.
POLICIES = {"zero_chunks": (1.0, 0.0), "bert": (0.8, 0.1)}


class MPC(PretextModel):
    """Masked predictive coding of log-mel frames.

    Chunks of frames are hidden, cut on the grid of the steps that the
    network makes of four frames each; one dense layer predicts the four
    frames under each step.

    Args:
        encoder: Settings that override the paper's, `MPCTransformer` on the
            front end `"mpc"`: `{"filters": 64}`. With `{"reference_padding":
            True}` it pads as the released code does. Or an `Encoder`, a
            `Backbone` or a Keras model; the frames under one of its steps
            are predicted together.
        policy: `"zero_chunks"`, selected chunks are set to zero; or
            `"bert"`, 80 % of them, 10 % are replaced by other chunks and 10 %
            stay.
        proportion: Share of the chunks that are selected; 0.2 in the
            released recipes.
        chunk_size: Steps in a chunk.
        reference_policy: Draw as the released code does; see
            `ChunkAlteration`.
        reference_loss: Sum over the frames under a step and average over all
            steps, hidden or not, padded or not; and count what is exactly
            zero as hidden, as the released code does.
        learning_rate: Peak of Adam's; None for the paper's, `0.3 / sqrt(2000
            * units)`.
        warm_up: Share of the run in which the rate rises; then it falls as
            the root of the steps.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of what is selected.

    Returns of a call:
        Dict of `"prediction"` and `"target"` `(batch, frames, bins)`,
        `"label"`, boolean of the same shape, what counts, and `"altered"`,
        the encoder's input.

    Reference:
        Jiang et al., 2019, "Improving Transformer-based Speech Recognition
        Using Unsupervised Pre-training", arXiv 1910.09932.
    """

    baseline = "zero_l1"
    # 125 epochs of HKUST's utterances, about 200,000, in batches of 64.
    STEPS = 390_000
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {
                "filters": 16, "units": 96, "heads": 4, "layers": 2,
                "feed_forward": 192,
            },
            "learning_rate": 1e-3,
            # The paper's share of 500 steps would be three.
            "warm_up": 0.1,
        },
    }  # fmt: skip
    TRAINING: ClassVar = {
        "paper": {"batch_size": 64, "seconds": 16.0, "steps": STEPS},
        "tiny": {"batch_size": 16, "seconds": 2.0, "steps": 500},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        policy: str = "zero_chunks",
        proportion: float = 0.15,
        chunk_size: int = 1,
        reference_policy: bool = False,
        reference_loss: bool = False,
        learning_rate: float | None = None,
        warm_up: float = 2000 / STEPS,
        clip_norm: float = 100.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("policy", policy, tuple(POLICIES))
        paper = {"backbone": "mpc_transformer", "frontend": "mpc"}
        super().__init__(encoder, paper, seed, **kwargs)
        backbone, frontend = self.encoder.backbone, self.encoder.frontend
        width = backbone.dims[-1]
        # What the Noam schedule of the paper comes to at the end of its warm-up
        # of 2000 steps.
        self.learning_rate = learning_rate or 0.3 / (2000 * width) ** 0.5
        self.stride = backbone.strides[-1]
        self.time = ChunkAlteration(
            proportion, self.stride, chunk_size, POLICIES[policy],
            reference=reference_policy,
        )  # fmt: skip
        self.head = keras.layers.Dense(
            self.stride * frontend.n_features, name="head",
            dtype=self.dtype_policy,
        )  # fmt: skip
        self.head.build((None, None, width))
        self.zero_error = keras.metrics.Mean(name="zero_l1")

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        waveform, lengths = waveform_and_lengths(x)
        features, valid = self.encoder.features(waveform, lengths)
        return self.rebuild(features, valid, training)

    def rebuild(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool = False,
    ) -> dict[str, Any]:
        """The task on features `(batch, frames, bins)`; see `call`."""
        altered, label = self.alter(features, lengths)
        prediction = self.reconstruct(altered, lengths, training)
        # Less where padding as the reference's cuts the end off.
        frames = ops.shape(prediction)[1]
        label = ops.broadcast_to(label, ops.shape(features))
        return {
            "prediction": prediction,
            "target": features[:, :frames],
            "label": label[:, :frames],
            "altered": altered[:, :frames],
        }

    def alter(
        self, features: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Hides chunks.

        Args:
            features: `(batch, frames, bins)`.
            lengths: `(batch,)` valid frames, or None.

        Returns:
            `(altered, label)`: like `features`, and boolean `(batch, frames,
            bins or 1)`.
        """
        altered, selected = self.time(
            features, lengths=lengths, seed=self.seed_generator
        )
        label = selected[..., None]
        if self.reference_loss:
            # Whatever is exactly 0 counts, be it hidden or not.
            label = altered == 0.0
        if lengths is not None:
            steps = self.encoder.backbone.level_lengths(lengths)
            # Frames of whole steps: the head writes `stride` frames at each.
            seen = frame_mask(self.stride * steps, ops.shape(features)[1])
            label = label & seen[..., None]
        return altered, label

    def reconstruct(
        self,
        altered: Tensor,
        lengths: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """What the head predicts from altered features.

        Args:
            altered: `(batch, frames, bins)`.
            lengths: `(batch,)` valid frames.
            training: Whether dropout is on.

        Returns:
            Like `altered`.
        """
        hidden, _ = last_level(
            self.encoder.backbone, altered, lengths, training
        )
        # (batch, steps, stride * bins) to (batch, steps * stride, bins).
        frames = unstack_frames(self.head(hidden), self.stride)
        return frames[:, : ops.shape(altered)[1]]

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        target, label = outputs["target"], outputs["label"]
        # What is lost by predicting the mean: to be beaten.
        zero = self.distance(ops.zeros_like(target), target, label)
        self.zero_error.update_state(zero)
        return self.distance(outputs["prediction"], target, label)

    def distance(
        self, prediction: Tensor, target: Tensor, label: Tensor
    ) -> Tensor:
        """Mean absolute error over what counts, or the reference's sum."""
        if not self.reference_loss:
            return masked_l1(prediction, target, label)
        clips, frames, _ = ops.shape(target)
        steps = (frames + self.stride - 1) // self.stride
        off = ops.abs(prediction - target) * ops.cast(label, target.dtype)
        return ops.sum(off) / ops.cast(clips * steps, off.dtype)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        return keras.optimizers.Adam(
            WarmUpRoot(
                self.learning_rate, total_steps or self.STEPS, self.warm_up
            ),
            global_clipnorm=self.clip_norm,
        )
