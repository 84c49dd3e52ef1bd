"""Denoising autoencoder: the method of CONTRIBUTING's walk-through."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import RandomCrop
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.methods import PretextModel


class Denoising(PretextModel):
    """Predicts a clean log-mel from the vector of a noisy one.

    Args:
        encoder: None, settings, an `Encoder`, a `Backbone` or a Keras model.
        seconds: Length of the segment.
        noise: Standard deviation of the noise on the normalised log-mel.
        seed: Seed of crops and noise.

    Returns of a call:
        Dict of `"clean"` and `"rebuilt"`, `(batch, frames, bins)`.
    """

    TRAINING = {
        "paper": {"batch_size": 32, "seconds": 1.0, "steps": 1000},
        "tiny": {"batch_size": 32, "seconds": 0.5, "steps": 100},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        seconds: float = 0.5,
        noise: float = 0.5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        paper = {"backbone": "audio_ntt", "frontend": "byol_a", "n_mels": 32}
        paper |= {"dim": 32, "conv_channels": 8}
        super().__init__(encoder, paper, seed, **kwargs)
        samples, frontend = self.segment_samples(seconds), self.encoder.frontend
        self.crop = RandomCrop(samples)
        frames = int(frontend.frame_lengths(samples))
        self.shape = (frames, frontend.n_features)
        self.decoder = keras.layers.Dense(
            frames * frontend.n_features, dtype=self.dtype_policy
        )
        self.decoder.build((None, self.encoder.dim))
        self.error = keras.metrics.Mean(name="absolute_error")

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        seed, (waveform, lengths) = self.seed_generator, waveform_and_lengths(x)
        segment = self.crop(waveform, lengths=lengths, seed=seed)
        clean = self.encoder.frontend(segment)
        noise = keras.random.normal(ops.shape(clean), seed=seed)
        noisy = clean + self.noise * noise
        clip = self.encoder.backbone(noisy, training=training)["clip"]
        rebuilt = ops.reshape(self.decoder(clip), (-1, *self.shape))
        return {"clean": clean, "rebuilt": rebuilt}

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        off = outputs["rebuilt"] - outputs["clean"]
        self.error.update_state(ops.mean(ops.abs(off)))
        return ops.mean(ops.square(off))
