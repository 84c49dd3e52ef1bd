"""Audio2Vec: a slice of a clip from its neighbours, or they from it."""

import warnings
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import RandomSlices
from keras_audio_ssl.augment import RunningMean
from keras_audio_ssl.blocks import SliceDecoder
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import masked_mse
from keras_audio_ssl.methods.slices import SliceModel

FRONTENDS = {"log_mel": "audio2vec", "mfcc": "audio2vec_mfcc"}


class Audio2Vec(SliceModel):
    """Word2Vec on sound: slices of a spectrogram stand for words.

    `"cbow"` rebuilds the middle one of neighbouring slices from the vectors
    of those around it, in their order; `"skipgram"` rebuilds those around it
    from the middle one's.

    Args:
        task: `"cbow"` or `"skipgram"`.
        encoder: Settings that override the paper's, `SliceCNN` on the front
            end of `features`: `{"channels": [8, 16, 32], "dim": 64}`; or an
            `Encoder`, a `Backbone` or a Keras model.
        features: `"log_mel"`, 64 bands, or `"mfcc"`, 32 coefficients.
        frames: Feature frames of a slice. Like the number of features, a
            multiple of 2 to the number of `decoder_channels`.
        context: Slices on each side of the middle one.
        gap: Frames between slices that are left out. With fewer than two the
            windows of neighbouring slices share samples, at the front end's
            own hop.
        decoder_channels: Filters of each block of the decoder.
        learning_rate: Of Adam.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of the places of slices.

    Returns of a call:
        Dict of `"prediction"` and `"target"`, `(batch, frames, bins)`, the
        slices that are rebuilt one after the other; `"seen_mean"` `(batch,
        bins)`, the mean over time of what the encoder saw, `"embedding"`
        `(batch, slices, dim)` of it, and `"valid"` `(batch,)`.

    Raises:
        ValueError: Sizes do not fit; the nearest that do are named.

    Reference:
        Tagliasacchi et al., 2019, "Self-supervised audio representation
        learning for mobile devices", arXiv 1905.11796.
    """

    baseline = "seen_mean_mse"
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {"n_mels": 32, "channels": [8, 16, 32], "dim": 64},
            "frames": 24,
            "decoder_channels": [16, 8, 8],
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 256, "seconds": 10.0, "steps": 100_000},
        "tiny": {"batch_size": 32, "seconds": 2.0, "steps": 400},
    }

    def __init__(
        self,
        task: str = "cbow",
        encoder: EncoderLike = None,
        features: str = "log_mel",
        frames: int = 96,
        context: int = 2,
        gap: int = 2,
        decoder_channels: Sequence[int] = (64, 32, 16, 8, 8),
        learning_rate: float = 1e-3,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("task", task, ("cbow", "skipgram"))
        check_choice("features", features, tuple(FRONTENDS))
        if context < 1:
            raise ValueError(f"`context` must be positive. Received: {context}")
        paper = {"backbone": "slice_cnn", "frontend": FRONTENDS[features]}
        super().__init__(encoder, paper, frames, seed, **kwargs)
        self.slices = RandomSlices(frames, 2 * context + 1, gap)
        self.span = self.slices.span
        frontend = self.encoder.frontend
        shared = getattr(frontend, "win_length", 0)
        shared -= (gap + 1) * frontend.hop_length
        if shared > 0:
            warnings.warn(
                f"With gap={gap} neighbouring slices share {shared} samples: "
                "the encoder hears a little of what is to be rebuilt.",
                stacklevel=2,
            )
        seen, rebuilt = 2 * context, 1
        if task == "skipgram":
            seen, rebuilt = rebuilt, seen
        self.decoder = SliceDecoder(
            seen * self.network.clip_dim, frames, frontend.n_features, rebuilt,
            decoder_channels, name="decoder", dtype=self.dtype_policy,
        )  # fmt: skip
        self.bands = RunningMean(frontend.n_features, name="bands")
        names = ("explained", "seen_mean_mse", "band_mean_mse")
        self.told = {n: keras.metrics.Mean(name=n) for n in names}

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        features, valid = self.features_of(x)
        slices, valid = self.slices(
            features, lengths=valid, seed=self.seed_generator
        )
        return {**self.rebuild(slices, training), "valid": valid}

    def rebuild(self, slices: Tensor, training: bool = False) -> dict[str, Any]:
        """The task on slices `(batch, 2 context + 1, frames, bins)`.

        Returns:
            As `call`, without `"valid"`.
        """
        before, after = self.context, self.context + 1
        middle = slices[:, before:after]
        around = ops.concatenate(
            [slices[:, :before], slices[:, after:]], axis=1
        )
        seen, target = around, middle
        if self.task == "skipgram":
            seen, target = middle, around
        vectors = self.encode(seen, training)
        # Side by side, in their order: (batch, seen slices * dim).
        width = vectors.shape[1] * vectors.shape[2]
        rebuilt = self.decoder(
            ops.reshape(vectors, (-1, width)), training=training
        )
        self.bands(target, training=training)
        # Slices one after the other: (batch, slices * frames, bins).
        frames = (-1, target.shape[1] * self.frames, target.shape[-1])
        return {
            "prediction": ops.reshape(rebuilt, frames),
            "target": ops.reshape(target, frames),
            "seen_mean": ops.mean(seen, axis=(1, 2)),
            "embedding": vectors,
        }

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        target = outputs["target"]
        valid = ops.broadcast_to(
            outputs["valid"][:, None], ops.shape(target)[:2]
        )

        def error(prediction: Tensor) -> Tensor:
            return masked_mse(prediction, target, valid)

        loss = error(outputs["prediction"])
        # What is lost by the mean of each band, to be beaten, and by the mean
        # of what is seen, harder to beat.
        variance = error(self.bands.mean.value)
        self.told["band_mean_mse"].update_state(variance)
        seen = error(outputs["seen_mean"][:, None])
        self.told["seen_mean_mse"].update_state(seen)
        explained = 1.0 - loss / ops.maximum(variance, 1e-8)
        self.told["explained"].update_state(explained)
        vectors = outputs["embedding"]
        self.std.update_state(
            embedding_std(ops.reshape(vectors, (-1, vectors.shape[-1])))
        )
        return loss
