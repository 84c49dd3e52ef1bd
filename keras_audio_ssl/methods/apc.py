"""APC: predict the frame a few steps ahead; with codes, VQ-APC."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import GumbelQuantizer
from keras_audio_ssl.blocks import codebook_perplexity
from keras_audio_ssl.blocks import group_dims
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import masked_l1
from keras_audio_ssl.methods.pretext import PretextModel


class APC(PretextModel):
    """Autoregressive predictive coding of log-mel frames.

    A recurrent network reads the frames up to t and predicts frame
    t + `n_future`. An utterance of at most `n_future` frames has no target
    and adds nothing to the loss.

    Args:
        n_future: Frames ahead.
        encoder: Settings that override the paper's, `RecurrentStack` on the
            front end `"apc"`: `{"units": 256}`. Or an `Encoder`, a
            `Backbone` or a Keras model that keeps the frame rate and looks
            at the past only. `{"normalize": "utterance"}` (s3prl's) takes
            each utterance's mean and deviation away, and with them much of
            the speaker; `"per_bin"` those of the training data: better where
            the speaker or the place is to be told.
        codebooks: Codes of each group of the quantiser, e.g. `[512]`: with
            them it is VQ-APC.
        codebook_dims: Width of each group, adding up to the encoder's; None
            divides evenly.
        temperature: Of the quantiser's Gumbel-softmax.
        reference_loss: Average over padded frames too, as the released code
            does; short utterances then pull the prediction to its bias.
        learning_rate: Of Adam.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of the quantiser's draws.

    Returns of a call:
        Dict of `"prediction"` and `"target"` `(batch, frames - n_future,
        bins)`, `"mask"` `(batch, frames - n_future)`, and with a quantiser
        `"codes"` `(batch, frames - n_future, groups)`.

    Reference:
        Chung et al., 2019, arXiv 1904.03240; Chung, Tang & Glass, 2020,
        arXiv 2005.08392 (VQ-APC).
    """

    baseline = "copy_l1"
    PRESETS: ClassVar = {
        "tiny": {"encoder": {"units": 96, "layers": 2}, "learning_rate": 2e-3},
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 32, "seconds": 16.0, "steps": 325_000},
        "tiny": {"batch_size": 16, "seconds": 2.0, "steps": 500},
    }
    RETIRED = (
        "units", "layers", "prenet_layers", "dropout", "dropout_last",
        "residual_first", "n_mels", "normalize",
    )  # fmt: skip

    def __init__(
        self,
        n_future: int = 3,
        encoder: EncoderLike = None,
        codebooks: Sequence[int] | None = None,
        codebook_dims: Sequence[int] | None = None,
        temperature: float = 0.5,
        reference_loss: bool = False,
        learning_rate: float = 1e-4,
        clip_norm: float = 1.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if n_future < 1:
            raise ValueError(
                f"`n_future` must be positive. Received: {n_future}"
            )
        paper = {"backbone": "recurrent", "frontend": "apc"}
        super().__init__(encoder, paper, seed, **kwargs)
        backbone = self.encoder.backbone
        if backbone.stride != 1:
            raise ValueError(
                "APC needs an encoder with one frame for each feature frame. "
                f"Received: stride {backbone.stride}"
            )
        self.quantizer = None
        if codebooks:
            dims = group_dims(backbone.dim, codebooks, codebook_dims)
            self.quantizer = GumbelQuantizer(
                dims, codebooks, temperature, name="quantizer",
                dtype=self.dtype_policy,
            )  # fmt: skip
            self.perplexity = keras.metrics.Mean(name="codebook_perplexity")
        self.postnet = keras.layers.Dense(
            self.encoder.frontend.n_features, name="postnet",
            dtype=self.dtype_policy,
        )  # fmt: skip
        self.postnet.build((None, None, backbone.dim))
        self.copy_error = keras.metrics.Mean(name="copy_l1")

    @property
    def min_samples(self) -> int:
        return self.encoder.samples_for(self.n_future + 1)

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        waveform, lengths = waveform_and_lengths(x)
        features, valid = self.encoder.features(waveform, lengths)
        return self.predict_ahead(features, valid, training)

    def predict_ahead(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool = False,
    ) -> dict[str, Any]:
        """The task on features `(batch, frames, bins)`; see `call`."""
        n, frames = self.n_future, ops.shape(features)[1]
        if isinstance(frames, int) and frames <= n:
            raise ValueError(
                f"APC with n_future={n} needs more than {n} frames. "
                f"Received: {frames}"
            )
        # Frame t predicts frame t + n: (batch, frames - n, bins) each.
        known, target = features[:, : frames - n], features[:, n:]
        if lengths is None:
            lengths = ops.full((ops.shape(features)[0],), frames, "int32")
        left = ops.maximum(ops.cast(lengths, "int32") - n, 0)
        read = self.encoder.backbone(known, lengths=left, training=training)
        frames, outputs = read["frames"], {}
        if self.quantizer is not None:
            frames, outputs["codes"] = self.quantizer(
                frames, training=training, seed=self.seed_generator
            )
        return {
            "prediction": self.postnet(frames),
            "target": target,
            "last": known,
            "mask": frame_mask(left, ops.shape(target)[1]),
            **outputs,
        }

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        target, mask = outputs["target"], outputs["mask"]
        # What is lost by repeating the current frame: to be beaten.
        self.copy_error.update_state(masked_l1(outputs["last"], target, mask))
        if self.quantizer is not None:
            codes = outputs["codes"]
            used = [
                codebook_perplexity(codes[..., i], size, mask)
                for i, size in enumerate(self.codebooks)
            ]
            # Mean over the codebooks.
            self.perplexity.update_state(sum(used) / len(used))
        if self.reference_loss:
            # Zeros past the end count as targets too, and make the loss
            # smaller.
            mask = None
        return masked_l1(outputs["prediction"], target, mask)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        return keras.optimizers.Adam(
            self.learning_rate, global_clipnorm=self.clip_norm
        )
