"""MAM: rebuild the whole spectrogram where one vector hides parts of it."""

from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import VectorAlteration
from keras_audio_ssl.blocks import DeconvHead
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import as_float32
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.methods.pretext import PretextModel
from keras_audio_ssl.methods.reconstruction import DISTANCES
from keras_audio_ssl.methods.reconstruction import adamw
from keras_audio_ssl.methods.reconstruction import last_level


class MAM(PretextModel):
    """Masked acoustic modelling for speech translation, or any sound.

    Spans of frames are replaced by one random vector; transposed convolutions
    bring the encoder's steps back to the spectrogram, all of which counts.
    For training beside another task, `reconstruction_loss` is the loss to
    add, and `ReconstructingEncoder` adds it.

    Args:
        encoder: Settings that override the paper's, `MAMTransformer` on the
            front end `"mam"`: `{"layers": 6}`. Or an `Encoder`, a `Backbone`
            or a Keras model, of which a frame is of 1, 2, 4, ... feature
            frames.
        policy: `"span"`, or `"frame"`: single frames.
        proportion: Share of the frames that is hidden, or a little more.
        learned: Whether the vector is trained.
        loss_on: `"all"` frames, or the `"masked"` ones alone.
        distance: `"mse"` or `"l1"`.
        learning_rate: Peak of AdamW's.
        warm_up: Share of the run in which the rate rises; then it falls to 0.
        weight_decay: Not of biases and layer norms.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of what is hidden.

    Returns of a call:
        Dict of `"prediction"` and `"target"` `(batch, frames, bins)`;
        `"label"`, boolean of the same shape, what was hidden; `"valid"`,
        boolean `(batch, frames)`; and `"altered"`, the encoder's input.

    Reference:
        Chen et al., 2020, "MAM: Masked Acoustic Modeling for End-to-End
        Speech-to-Text Translation", arXiv 2010.11445.
    """

    baseline = "zero_error"
    STEPS = 100_000
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {
                "units": 64, "heads": 4, "feed_forward": 128, "layers": 2,
            },
            "learning_rate": 1e-3,
        },
    }  # fmt: skip
    TRAINING: ClassVar = {
        "paper": {"batch_size": 32, "seconds": 15.0, "steps": STEPS},
        "tiny": {"batch_size": 8, "seconds": 2.0, "steps": 400},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        policy: str = "span",
        proportion: float = 0.15,
        learned: bool = False,
        loss_on: str = "all",
        distance: str = "mse",
        learning_rate: float = 5e-4,
        warm_up: float = 0.05,
        weight_decay: float = 0.01,
        clip_norm: float = 5.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("loss_on", loss_on, ("all", "masked"))
        check_choice("distance", distance, tuple(DISTANCES))
        paper = {"backbone": "mam_transformer", "frontend": "mam"}
        super().__init__(encoder, paper, seed, **kwargs)
        backbone, bins = self.encoder.backbone, self.encoder.frontend.n_features
        self.time = VectorAlteration(
            bins, proportion, policy, learned=learned, name="time"
        )
        self.head = DeconvHead(
            backbone.dims[-1], bins, backbone.strides[-1], name="head",
            dtype=self.dtype_policy,
        )  # fmt: skip
        self.masked_error = keras.metrics.Mean(name="masked_error")
        self.zero_error = keras.metrics.Mean(name="zero_error")

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
        clips, frames, _ = ops.shape(features)
        if lengths is None:
            valid = ops.ones((clips, frames), "bool")
        else:
            valid = frame_mask(lengths, frames)
        return {
            "prediction": self.reconstruct(altered, lengths, training),
            "target": features,
            "label": ops.broadcast_to(label, ops.shape(features)),
            "valid": valid,
            "altered": altered,
        }

    def alter(
        self, features: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Hides frames.

        Args:
            features: `(batch, frames, bins)`.
            lengths: `(batch,)` valid frames, or None.

        Returns:
            `(altered, label)`: like `features`, and boolean `(batch, frames,
            1)`.
        """
        altered, selected = self.time(
            features, lengths=lengths, seed=self.seed_generator
        )
        return altered, selected[..., None]

    def reconstruct(
        self,
        altered: Tensor,
        lengths: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """The spectrogram of altered features.

        Args:
            altered: `(batch, frames, bins)`.
            lengths: `(batch,)` valid frames.
            training: Whether dropout is on.

        Returns:
            Like `altered`.
        """
        hidden, lengths = last_level(
            self.encoder.backbone, altered, lengths, training
        )
        rebuilt = self.head(hidden, lengths=lengths)
        return rebuilt[:, : ops.shape(altered)[1]]

    def reconstruction_loss(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """The loss of the task, to be added to that of another one.

        No metric is touched. With the weight w of the paper's, 1:
        `task_loss + w * model.reconstruction_loss(features, lengths)`.

        Args:
            features: `(batch, frames, bins)`.
            lengths: `(batch,)` valid frames, or a boolean mask of them,
                `(batch, frames)`, which stand first; None where all are.
            training: bool.

        Returns:
            Scalar float32.
        """
        if lengths is not None and len(lengths.shape) == 2:
            lengths = ops.sum(ops.cast(lengths, "int32"), axis=1)
        outputs = self.rebuild(features, lengths, training)
        return self.error(keras.tree.map_structure(as_float32, outputs))

    def error(
        self,
        outputs: dict[str, Tensor],
        prediction: Tensor | None = None,
        loss_on: str | None = None,
    ) -> Tensor:
        """Mean error of what a call returned.

        Args:
            outputs: Its dict, in float32.
            prediction: In place of its own.
            loss_on: In place of the model's.
        """
        masked = (loss_on or self.loss_on) == "masked"
        return DISTANCES[self.distance](
            outputs["prediction"] if prediction is None else prediction,
            outputs["target"],
            outputs["label" if masked else "valid"],
        )

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        # What is lost by predicting the mean: to be beaten.
        zero = ops.zeros_like(outputs["target"])
        self.zero_error.update_state(self.error(outputs, zero))
        # With the loss on all frames most of it is copying what is seen.
        self.masked_error.update_state(self.error(outputs, loss_on="masked"))
        return self.error(outputs)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        return adamw(self, total_steps or self.STEPS)


class ReconstructingEncoder(Layer):
    """A `MAM`'s encoder that adds its loss to that of the model it is in.

    In training each call rebuilds what is hidden besides, and adds the loss
    of that, with `add_loss`.

    Args:
        model: A `MAM`.
        weight: Of its loss; 0 adds nothing.

    Call arguments:
        x: As of `Encoder`: waveforms, or a dict with `"lengths"` too.
        training: bool.

    Returns:
        As `Encoder`.

    Example:
        >>> x = keras.Input((16000,))
        >>> y = ReconstructingEncoder(kas.MAM(preset="tiny"))(x)["clip"]
        >>> task = keras.Model(x, keras.layers.Dense(10, "softmax")(y))
    """

    def __init__(self, model: MAM, weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(model, MAM):
            raise ValueError(
                f"`model` must be a MAM. Received: {type(model).__name__}"
            )
        if weight < 0:
            raise ValueError(
                f"`weight` must not be negative. Received: {weight}"
            )

    def call(self, x: Batch, training: bool | None = None) -> dict[str, Tensor]:
        if training and self.weight:
            waveform, lengths = waveform_and_lengths(x)
            features, valid = self.model.encoder.features(waveform, lengths)
            loss = self.model.reconstruction_loss(features, valid, training)
            self.add_loss(self.weight * loss)
        return self.model.encoder(x, training=training)
