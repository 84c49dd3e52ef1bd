"""Denoising autoencoder: the method of CONTRIBUTING's walk-through."""

import keras
from keras import ops

from keras_audio_ssl.augment import RandomCrop
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import make_encoder
from keras_audio_ssl.features import recipe
from keras_audio_ssl.methods.pretext import PretextModel
from keras_audio_ssl.methods.pretext import waveform_and_lengths


@keras.saving.register_keras_serializable(package="keras_audio_ssl")
class Denoising(PretextModel):
    """Predicts a clean log-mel from the vector of a noisy one.

    Args:
        encoder: None, an `Encoder`, a `Backbone` or a Keras model.
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

    def __init__(self, encoder=None, seconds=0.5, noise=0.5, seed=0, **kwargs):
        encoder = encoder or AudioNTT(
            32, dim=32, conv_channels=8, dtype=kwargs.get("dtype")
        )
        encoder = make_encoder(encoder, recipe("byol_a", n_mels=32))
        super().__init__(encoder, seed=seed, **kwargs)
        self.seconds, self.noise = seconds, noise
        self.crop = RandomCrop(round(seconds * encoder.sample_rate))
        frontend = encoder.frontend
        self.shape = (
            int(frontend.frame_lengths(self.crop.length)),
            frontend.n_features,
        )
        self.decoder = keras.layers.Dense(
            self.shape[0] * self.shape[1], dtype=self.dtype_policy
        )
        self.decoder.build((None, encoder.dim))
        self.error = keras.metrics.Mean(name="absolute_error")

    def call(self, x, training=False):
        seed = self.seed_generator
        waveform, lengths = waveform_and_lengths(x)
        clean = self.encoder.frontend(
            self.crop(waveform, lengths=lengths, seed=seed)
        )
        noise = keras.random.normal(ops.shape(clean), seed=seed)
        noisy = clean + self.noise * noise
        clip = self.encoder.backbone(noisy, training=training)["clip"]
        rebuilt = ops.reshape(self.decoder(clip), (-1, *self.shape))
        return {"clean": clean, "rebuilt": rebuilt}

    def pretext_loss(self, outputs, x, y=None):
        off = outputs["rebuilt"] - outputs["clean"]
        self.error.update_state(ops.mean(ops.abs(off)))
        return ops.mean(ops.square(off))

    def get_config(self):
        return {
            **super().get_config(),
            "seconds": self.seconds,
            "noise": self.noise,
        }
