"""TemporalGap: how far apart in time two slices of a clip are."""

from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import RandomPairs
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.losses import correlation
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.methods.slices import SliceModel
from keras_audio_ssl.methods.slices import mean_of_valid


class TemporalGap(SliceModel):
    """Estimates the distance in time of two slices, in either order.

    The distance is a share of the largest that a window of the clip allows,
    uniform, and the loss the cross-entropy with this share as soft target: it
    cannot be below 0.5 on average, and an answer of one half costs 0.693.

    Fades and silence at the ends of clips tell where a slice is from:
    `trim` leaves them out. A stationary sound says nothing of time: the loss
    then stays at 0.693.

    Args:
        encoder: Settings that override the paper's, `SliceCNN` on the front
            end `"temporal_gap"`: `{"channels": [8, 16, 32], "dim": 64}`; or
            an `Encoder`, a `Backbone` or a Keras model.
        frames: Feature frames of a slice.
        window_seconds: Length of the part of a clip that both slices are
            from, at a random place. No clip may be shorter.
        trim: Seconds at both ends of a clip that are not used.
        overlap: Whether slices may overlap, as the paper allows.
        distance: `"cross_entropy"`, or `"mse"` of the shares.
        hidden_dim: Width of the head.
        learning_rate: Of Adam.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of the places of slices.

    Returns of a call:
        Dict of `"logit"` and `"gap"` `(batch,)`, what is estimated and what
        is true, a share; `"embedding"` `(batch, 2, dim)` and `"valid"`
        `(batch,)`.

    Raises:
        ValueError: The window has no room for two slices at different
            distances.

    Reference:
        Tagliasacchi et al., 2019, "Self-supervised audio representation
        learning for mobile devices", arXiv 1905.11796.
    """

    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {"n_mels": 32, "channels": [8, 16, 32], "dim": 64},
            "frames": 24,
            # 300 frames.
            "window_seconds": 3.015,
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 256, "seconds": 10.0, "steps": 100_000},
        "tiny": {"batch_size": 64, "seconds": 3.1, "steps": 600},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        frames: int = 96,
        window_seconds: float = 10.0,
        trim: float = 0.0,
        overlap: bool = True,
        distance: str = "cross_entropy",
        hidden_dim: int = 64,
        learning_rate: float = 1e-3,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("distance", distance, ("cross_entropy", "mse"))
        if trim < 0 or window_seconds <= 0:
            raise ValueError(
                "`window_seconds` must be positive and `trim` not negative. "
                f"Received: window_seconds={window_seconds}, trim={trim}"
            )
        paper = {"backbone": "slice_cnn", "frontend": "temporal_gap"}
        super().__init__(encoder, paper, frames, seed, **kwargs)
        frontend = self.encoder.frontend
        samples = round(window_seconds * frontend.sample_rate)
        self.pairs = RandomPairs(
            frames,
            int(frontend.frame_lengths(samples)),
            round(trim * frontend.frame_rate),
            overlap,
        )
        self.span = self.pairs.span
        policy = {"dtype": self.dtype_policy}
        self.hidden = keras.layers.Dense(
            hidden_dim, "relu", name="hidden", **policy
        )
        self.hidden.build((None, 2 * self.network.clip_dim))
        self.out = keras.layers.Dense(1, name="out", **policy)
        self.out.build((None, hidden_dim))
        names: tuple[str, ...] = ("gap_error_seconds", "correlation")
        if distance == "cross_entropy":
            names += ("excess",)
        self.told = {n: keras.metrics.Mean(name=n) for n in names}

    @property
    def longest_gap(self) -> float:
        """Seconds of the largest distance, of which a gap is a share."""
        return self.pairs.most / self.encoder.frontend.frame_rate

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        features, valid = self.features_of(x)
        slices, distance, valid = self.pairs(
            features, lengths=valid, seed=self.seed_generator
        )
        gap = ops.cast(distance, "float32") / self.pairs.most
        return {
            **self.compare(slices, training), "gap": gap, "valid": valid,
        }  # fmt: skip

    def compare(
        self, slices: Tensor, training: bool = False
    ) -> dict[str, Tensor]:
        """Estimates of pairs of slices `(batch, 2, frames, bins)`.

        Returns:
            Dict of `"logit"` `(batch,)` and `"embedding"`.
        """
        vectors = self.encode(slices, training)
        return {"logit": self.logit(vectors), "embedding": vectors}

    def logit(self, vectors: Tensor) -> Tensor:
        """Logits `(batch,)` of pairs of vectors `(batch, 2, dim)`."""
        # Both vectors side by side: which is first makes a difference.
        both = ops.reshape(vectors, (-1, 2 * vectors.shape[-1]))
        # From here on in float32: a share near 0 or 1 needs its digits.
        return ops.cast(self.out(self.hidden(both))[:, 0], "float32")

    def predict_gap(self, first: Tensor, second: Tensor) -> Tensor:
        """How far apart slices are, whichever is the earlier.

        Args:
            first: `(batch, samples)` at the encoder's rate, at least a slice;
                what is longer is cut.
            second: The same.

        Returns:
            numpy float32 `(batch,)`, seconds.

        Raises:
            ValueError: They are shorter than a slice.

        Example:
            >>> model = kas.TemporalGap(preset="tiny")
            >>> clips = np.random.default_rng(0).normal(size=(2, 32000))
            >>> model.predict_gap(clips[:, :16000], clips[:, 16000:]).shape
            (2,)
        """
        frontend, slices = self.encoder.frontend, []
        for wave in (first, second):
            least = self.encoder.samples_for(self.frames)
            if wave.shape[1] < least:
                raise ValueError(
                    f"Slices must have at least {least} samples. "
                    f"Received: {wave.shape[1]}"
                )
            features = frontend(ops.convert_to_tensor(wave, "float32"))
            slices.append(features[:, : self.frames])
        vectors = self.encode(ops.stack(slices, axis=1))
        # The head has seen both orders, and has no reason to say the same.
        logit = self.logit(vectors) + self.logit(ops.flip(vectors, axis=1))
        share = ops.sigmoid(0.5 * logit)
        return self.longest_gap * ops.convert_to_numpy(ops.stop_gradient(share))

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        logit, gap, valid = (outputs[k] for k in ("logit", "gap", "valid"))
        share = ops.sigmoid(logit)
        error = mean_of_valid(ops.abs(share - gap), valid)
        self.told["gap_error_seconds"].update_state(self.longest_gap * error)
        self.told["correlation"].update_state(correlation(share, gap, valid))
        vectors = outputs["embedding"]
        self.std.update_state(
            embedding_std(ops.reshape(vectors, (-1, vectors.shape[-1])))
        )
        if self.distance == "mse":
            return mean_of_valid(ops.square(share - gap), valid)
        # -gap ln p - (1 - gap) ln(1 - p), p the sigmoid of the logit.
        loss = mean_of_valid(ops.softplus(logit) - gap * logit, valid)
        # What no answer can be below.
        self.told["excess"].update_state(
            loss - mean_of_valid(binary_entropy(gap), valid)
        )
        return loss


def binary_entropy(share: Tensor) -> Tensor:
    """Entropy of a coin that falls so often on one side, in nats."""
    sides = share, 1.0 - share
    return -sum(p * ops.log(ops.maximum(p, 1e-30)) for p in sides)
