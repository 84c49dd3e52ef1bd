"""Masked reconstruction: what its methods share."""

from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import PredictionHead
from keras_audio_ssl.blocks import pad_frames
from keras_audio_ssl.blocks import stack_frames
from keras_audio_ssl.blocks import unstack_frames
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import WarmUpDecay
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.losses import masked_l1
from keras_audio_ssl.losses import masked_mse
from keras_audio_ssl.methods.pretext import PretextModel

DISTANCES = {"l1": masked_l1, "mse": masked_mse}


class MaskedReconstruction(PretextModel):
    """Rebuilds features of which some are hidden; a method says which.

    A head on the last level predicts every frame; what was selected counts,
    and one division makes the mean over the whole batch.

    Args:
        encoder: See `PretextModel`; any that keeps the frame rate.
        target: The features to predict: a recipe, e.g. `"online_linear"`, or
            a `FrontEnd` of as many frames; None for the encoder's own.
        distance: `"l1"` or `"mse"`.
        learning_rate: Peak of AdamW's.
        warm_up: Share of the run in which the rate rises; then it falls to 0.
        weight_decay: Not of biases and layer norms.
        clip_norm: Largest global norm of the gradient.
        seed: Seed of what is hidden.

    Returns of a call:
        Dict of `"prediction"` and `"target"` `(batch, frames, bins)`,
        `"label"`, boolean of the same shape, what counts, and `"altered"`,
        the encoder's input `(batch, frames, bins of the input)`. Where the
        encoder stacks frames, a frame is a stacked one.
    """

    baseline = "zero_l1"
    # The paper's encoder, and its run.
    PAPER: ClassVar[dict[str, Any]]
    STEPS = 1_000_000
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {
            "encoder": {
                "units": 96, "heads": 4, "feed_forward": 192, "layers": 2,
            },
            "learning_rate": 1e-3,
        },
    }  # fmt: skip
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"batch_size": 32, "seconds": 15.0, "steps": STEPS},
        "tiny": {"batch_size": 8, "seconds": 2.0, "steps": 600},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        target: str | FrontEnd | None = None,
        distance: str = "l1",
        learning_rate: float = 2e-4,
        warm_up: float = 0.07,
        weight_decay: float = 0.01,
        clip_norm: float = 5.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("distance", distance, tuple(DISTANCES))
        super().__init__(encoder, self.PAPER, seed, **kwargs)
        backbone, frontend = self.encoder.backbone, self.encoder.frontend
        self.stack = getattr(backbone, "stack", 1)
        if backbone.strides[-1] != self.stack:
            raise ValueError(
                f"{type(self).__name__} needs an encoder with one frame for "
                "each feature frame. Received: stride "
                f"{backbone.strides[-1]}"
            )
        if isinstance(target, str):
            target = recipe(
                target, hop_length=frontend.hop_length,
                sample_rate=frontend.sample_rate,
            )  # fmt: skip
        self.target_frontend = target
        frontend = target or frontend
        self.head = PredictionHead(
            backbone.dims[-1], self.stack * frontend.n_features,
            name="head", dtype=self.dtype_policy,
        )  # fmt: skip
        self.zero_error = keras.metrics.Mean(name="zero_l1")

    def alter(
        self, features: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Hides a part.

        Args:
            features: `(batch, frames, bins)`.
            lengths: `(batch,)` valid frames, or None.

        Returns:
            `(altered, label)`: like `features`, and boolean `(batch, frames
            or 1, bins or 1)`.
        """
        raise NotImplementedError

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        waveform, lengths = waveform_and_lengths(x)
        features, valid = self.encoder.features(waveform, lengths)
        target = features
        if self.target_frontend is not None:
            target = self.target_frontend(waveform, lengths=lengths)
        stacked = stack_frames(features, self.stack)
        of_stacked = valid
        if valid is not None:
            # Whole steps are hidden: (batch, frames / stack, stack * bins).
            of_stacked = self.encoder.backbone.level_lengths(valid)
        altered, label = self.alter(stacked, of_stacked)
        target = stack_frames(target, self.stack)
        label = ops.broadcast_to(label, ops.shape(target))
        return {
            "prediction": self.reconstruct(altered, valid, training),
            "target": target,
            "label": label,
            "altered": altered,
        }

    def reconstruct(
        self,
        altered: Tensor,
        lengths: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """What the head predicts from altered features.

        Args:
            altered: `(batch, frames, bins)`, stacked where the encoder does.
            lengths: `(batch,)` valid frames before they are stacked.
            training: Whether dropout is on.

        Returns:
            `(batch, frames, bins)` of the target, stacked likewise.
        """
        read = self.encoder.backbone(
            unstack_frames(altered, self.stack),
            lengths=lengths,
            training=training,
        )
        return self.head(read["hidden"][-1])

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        target, label = outputs["target"], outputs["label"]
        # What is lost by predicting the mean: to be beaten.
        zero = masked_l1(ops.zeros_like(target), target, label)
        self.zero_error.update_state(zero)
        return DISTANCES[self.distance](outputs["prediction"], target, label)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        return adamw(self, total_steps or self.STEPS)


def adamw(model: Any, steps: int) -> keras.Optimizer:
    """AdamW over a run, as a method's arguments of these names have it.

    Args:
        model: Method with `learning_rate`, `warm_up`, `weight_decay` and
            `clip_norm`.
        steps: Updates of the whole run.
    """
    optimizer = keras.optimizers.AdamW(
        WarmUpDecay(model.learning_rate, steps, model.warm_up),
        weight_decay=model.weight_decay,
        global_clipnorm=model.clip_norm,
    )
    # Biases and the factors of layer norms do not decay.
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if len(v.shape) < 2]
    )
    return optimizer


def last_level(
    backbone: Any,
    features: Tensor,
    lengths: Tensor | None = None,
    training: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """The last level of features, of which the last step may be cut short.

    Args:
        backbone: Any.
        features: `(batch, frames, bins)`.
        lengths: `(batch,)` valid frames, or None.
        training: bool.

    Returns:
        `(hidden, lengths)`: `(batch, steps, dim)`, as many steps as hold all
        frames; and valid frames, None where all are and fill their steps.

    Raises:
        ValueError: The backbone gives another number of steps.
    """
    stride, x = backbone.strides[-1], features
    # Who pads as the reference did wants to see it all.
    if not getattr(backbone, "reference_padding", False):
        x = pad_frames(features, stride)
        if x is not features and lengths is None:
            clips, frames, _ = ops.shape(features)
            lengths = ops.full((clips,), frames, "int32")
    read = backbone(x, lengths=lengths, training=training)
    hidden = read["hidden"][-1]
    steps, time = hidden.shape[1], x.shape[1]
    known = isinstance(steps, int) and isinstance(time, int)
    if known and steps != time // stride:
        raise ValueError(
            f"The encoder must give one frame for each {stride} feature "
            f"frames. Received: {steps} for {time}"
        )
    return hidden, lengths
