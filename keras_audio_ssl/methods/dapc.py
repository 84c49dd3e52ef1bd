"""DAPC: latents whose past tells their future."""

import warnings
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import BandMasks
from keras_audio_ssl.blocks import FrameDecoder
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import LatentStack
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import masked_l1
from keras_audio_ssl.losses import masked_mse
from keras_audio_ssl.losses import orthogonality
from keras_audio_ssl.losses import predictive_information
from keras_audio_ssl.methods.pretext import PretextModel


class DAPC(PretextModel):
    """Deep autoencoding predictive components.

    Maximises the predictive information of the latents under a Gaussian
    assumption, without negatives: `-PI + ortho_weight * R +
    reconstruction_weight * rec`. R keeps their covariance near the identity;
    rec is the error of a decoder on elements of the input that were hidden
    from a second pass of the encoder.

    The estimate couples the whole batch, so gradients accumulated over small
    batches are not those of a large one.

    Args:
        encoder: Settings that override the paper's, `LatentStack` on the
            front end `"dapc"`: `{"dim": 16}`, `{"layers": 0}` for the linear
            encoder of DCA, `{"kind": "dense"}`, `{"input_context": 2}`. Or an
            `Encoder`, a `Backbone` or a Keras model that keeps the frame
            rate; its last level is the latents.
        window: Frames of the past, and of the future.
        toeplitz: Whether covariances of equal lag are averaged.
        diagonal: Added to the variances.
        scales: Time scales: each further one takes every second latent frame
            of the one before, and their predictive information is added.
        ortho_weight: Of R (alpha).
        reconstruction_weight: Of rec (beta). A small one lets the predictive
            information lead a recurrent encoder away from what it hears; see
            the Lorenz attractor in `docs/results.md`.
        distance: Of the reconstruction: `"l1"`, or `"mse"` as the authors'
            code has it.
        masked: Whether elements are hidden and count alone; else a frame's
            summed squared error counts on every valid frame.
        mask_channels: Widest hidden band of channels.
        mask_frames: Widest hidden band of frames.
        mask_count: Bands of each kind.
        reference_policy: Draw bands as the released code does; see
            `BandMasks`.
        decoder_layers: Hidden layers of the decoder.
        decoder_units: Their width.
        dropout: Rate in the decoder.
        learning_rate: Of Adam.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of what is hidden.

    Returns of a call:
        Dict of `"latent"` `(batch, frames, dim)`, `"prediction"`, `"target"`
        and `"altered"` `(batch, frames, bins)`, `"label"`, boolean of the same
        shape, what counts, and `"lengths"` `(batch,)` valid frames.

    Reference:
        Bai et al., 2021, "Representation Learning for Sequence Data with Deep
        Autoencoding Predictive Components", arXiv 2010.03135.
    """

    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {"layers": 1, "units": 64, "dim": 8},
            "window": 3,
            "decoder_layers": 1,
            "decoder_units": 128,
            "mask_channels": 10,
            "mask_frames": 20,
            "learning_rate": 2e-3,
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 32, "seconds": 4.0, "steps": 100_000},
        "tiny": {"batch_size": 16, "seconds": 2.0, "steps": 300},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        window: int = 4,
        toeplitz: bool = True,
        diagonal: float = 1e-4,
        scales: int = 1,
        ortho_weight: float = 0.1,
        reconstruction_weight: float = 5.0,
        distance: str = "l1",
        masked: bool = True,
        mask_channels: int = 27,
        mask_frames: int = 40,
        mask_count: int = 2,
        reference_policy: bool = False,
        decoder_layers: int = 3,
        decoder_units: int = 512,
        dropout: float = 0.0,
        learning_rate: float = 1e-3,
        clip_norm: float = 5.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("distance", distance, ("l1", "mse"))
        if window < 1 or scales < 1:
            raise ValueError(
                "`window` and `scales` must be positive. Received: "
                f"window={window}, scales={scales}"
            )
        paper = {"backbone": "latent", "frontend": "dapc"}
        super().__init__(encoder, paper, seed, **kwargs)
        backbone = self.encoder.backbone
        if backbone.strides[-1] != 1:
            raise ValueError(
                "DAPC needs an encoder with one frame for each feature frame. "
                f"Received: stride {backbone.strides[-1]}"
            )
        bins = self.encoder.frontend.n_features
        self.masks = BandMasks(
            min(mask_channels, bins), mask_frames, mask_count,
            reference=reference_policy,
        )  # fmt: skip
        self.decoder = FrameDecoder(
            backbone.dims[-1], bins, decoder_units, decoder_layers, dropout,
            name="decoder", dtype=self.dtype_policy,
        )  # fmt: skip
        self.measured = [
            keras.metrics.Mean(name=name)
            for name in (
                "predictive_information",
                "orthogonality",
                "reconstruction_error",
            )
        ]

    @property
    def min_samples(self) -> int:
        return self.encoder.samples_for(2 * self.window)

    def check_clips(self, waveform: Tensor, lengths: Tensor | None) -> None:
        super().check_clips(waveform, lengths)
        frames = self.encoder.frontend.frame_lengths(
            waveform.shape[1] if lengths is None else lengths
        )
        # Windows of 2 T frames in each clip.
        each = keras.ops.convert_to_numpy(frames) - 2 * self.window + 1
        windows = int(each.clip(0).sum()) * (
            len(waveform) if lengths is None else 1
        )
        needed = 4 * self.window * self.encoder.backbone.dims[-1]
        if windows < needed:
            warnings.warn(
                f"A batch has {windows} windows of {2 * self.window} frames, "
                f"and the covariance wants at least {needed}: take larger "
                "batches, longer clips or fewer latent dimensions.",
                stacklevel=2,
            )

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        waveform, lengths = waveform_and_lengths(x)
        features, valid = self.encoder.features(waveform, lengths)
        if valid is None:
            clips, frames = ops.shape(features)[:2]
            valid = ops.full((clips,), frames, "int32")
        altered, hidden = features, None
        if self.masked:
            altered, hidden = self.masks(
                features, lengths=valid, seed=self.seed_generator
            )
        return self.components(features, altered, hidden, valid, training)

    def components(
        self,
        features: Tensor,
        altered: Tensor,
        hidden: Tensor,
        lengths: Tensor,
        training: bool = False,
    ) -> dict[str, Any]:
        """The task on features.

        Args:
            features: `(batch, frames, bins)`.
            altered: The same with elements hidden.
            hidden: Boolean of the same shape, or None: every valid element.
            lengths: `(batch,)` valid frames.
            training: Whether dropout is on.

        Returns:
            As of a call.
        """
        # Two passes with the same weights: whole for the latents, altered
        # for what is rebuilt.
        latent, seen = (
            self.encoder.backbone(x, lengths=lengths, training=training)[
                "hidden"
            ][-1]
            for x in (features, altered)
        )
        if hidden is None:
            hidden = frame_mask(lengths, ops.shape(features)[1])[..., None]
            hidden = ops.broadcast_to(hidden, ops.shape(features))
        return {
            "latent": latent,
            "prediction": self.decoder(seen, training=training),
            "target": features,
            "altered": altered,
            "label": hidden,
            "lengths": lengths,
        }

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        latent, lengths = outputs["latent"], outputs["lengths"]
        information = 0.0
        for scale in range(self.scales):
            step = 2**scale
            # Every so many frames, the first one included.
            information = information + predictive_information(
                latent[:, ::step], (lengths + step - 1) // step, self.window,
                self.toeplitz, self.diagonal,
            )  # fmt: skip
        penalty = self.penalty(latent, lengths)
        error = self.reconstruction_error(outputs)
        for metric, value in zip(
            self.measured, (information, penalty, error), strict=True
        ):
            metric.update_state(value)
        return (
            # L = -PI + alpha R + beta rec.
            -information
            + self.ortho_weight * penalty
            + self.reconstruction_weight * error
        )

    def penalty(self, latent: Tensor, lengths: Tensor) -> Tensor:
        """R: of the latents, or for a linear encoder of its weights."""
        backbone = self.encoder.backbone
        if isinstance(backbone, LatentStack) and backbone.is_linear:
            kernel = ops.cast(backbone.projection.kernel, "float32")
            gram = ops.transpose(kernel) @ kernel
            # ||V'V - I||^2, the linear encoder's own.
            return ops.sum(ops.square(gram - ops.eye(gram.shape[0])))
        return orthogonality(latent, lengths)

    def reconstruction_error(self, outputs: dict[str, Tensor]) -> Tensor:
        """rec: over hidden elements, or a frame's sum over valid frames."""
        parts = outputs["prediction"], outputs["target"], outputs["label"]
        if not self.masked:
            # The mean over bins times their number: a frame's sum.
            return masked_mse(*parts) * parts[0].shape[-1]
        return (masked_l1 if self.distance == "l1" else masked_mse)(*parts)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        return keras.optimizers.Adam(
            self.learning_rate, global_clipnorm=self.clip_norm
        )
