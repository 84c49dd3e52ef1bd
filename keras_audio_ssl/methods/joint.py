"""Joint: crops of a clip agree, and are heard through what hides them."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import AugmentationsLike
from keras_audio_ssl.augment import RandomCrop
from keras_audio_ssl.augment import SpecAugment
from keras_audio_ssl.augment import StretchedCrop
from keras_audio_ssl.augment import log_mixup
from keras_audio_ssl.augment import make_augmentations
from keras_audio_ssl.blocks import MLPHead
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import scaled_as_segments
from keras_audio_ssl.engine import partners
from keras_audio_ssl.engine import warm_up_cosine
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import nt_xent
from keras_audio_ssl.losses import unit
from keras_audio_ssl.methods.pretext import PretextModel


class Joint(PretextModel):
    """Contrast of two crops and denoising of both, on one encoder.

    The package's own recipe for small machines, of known parts. Two crops of
    a clip are brought to one length at random tempo, warped and coloured, and
    mixed with another clip. Their clip vectors are to agree against those of
    the other clips (SimCLR's loss), and from each frame's vector a linear
    layer rebuilds the features as they were before the mixing. The contrast
    teaches what a clip is as a whole, the denoising what happens in it, which
    the contrast alone would learn to leave out.

    Args:
        encoder: Settings that override the usual ones, `AudioNTT` on the front
            end `"cola"`, normalised by bin: `{"dim": 1024}`; or an `Encoder`,
            a `Backbone` or a Keras model.
        seconds: Length of a view. Parts of the clip as long as the largest of
            `stretch` times it are drawn, shorter clips are repeated.
        stretch: Least and largest length of what becomes a view, as factors
            of `seconds`.
        augmentations: Of each view, in their order: names of
            `augment.AUGMENTATIONS`, or such layers, of features.
        mixup_ratio: Largest share of another clip in a view.
        mask: Bands that are hidden of a view, as of `SpecAugment`: widest in
            bins, widest in frames, and how many of each kind. None for none.
        temperature: Of the contrast.
        contrast_weight: Of its loss.
        denoise_weight: Of the mean absolute error, in deviations of a bin.
        projection: Hidden width and width of the projection.
        learning_rate: Of AdamW, at its peak; it rises for 5 % of the run and
            falls as a cosine.
        weight_decay: Of AdamW.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of all draws.

    Returns of a call:
        Dict of `"first"` and `"second"`, `(batch, projection[1])`, of unit
        length, `"embedding"`, `(batch, dim)`, and `"prediction"` and
        `"target"`, `(batch, 2, frames, bins)`, of both views.

    Reference:
        Of the contrast: Chen et al., 2020, "A Simple Framework for
        Contrastive Learning of Visual Representations", arXiv 2002.05709; of
        the mixing: Niizumi et al., 2021, "BYOL for Audio", arXiv 2103.06695.
    """

    # A view is mixed with that of the next clip, the other one with that of
    # the one after it.
    min_batch = 3
    augments = "features"
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {"n_mels": 32, "conv_channels": 16, "dim": 64},
            "seconds": 0.485,
            "projection": (128, 64),
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 128, "seconds": 2.0, "steps": 3000},
        "tiny": {"batch_size": 48, "seconds": 2.0, "steps": 300},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        seconds: float = 0.955,
        stretch: Sequence[float] = (0.7, 1.4),
        augmentations: AugmentationsLike = ("frequency_warp", "colour"),
        mixup_ratio: float = 0.3,
        mask: Sequence[int] | None = None,
        temperature: float = 0.2,
        contrast_weight: float = 1.0,
        denoise_weight: float = 1.0,
        projection: Sequence[int] = (1024, 128),
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        usual: dict[str, Any] = {
            "backbone": "audio_ntt",
            "frontend": "cola",
            "normalize": "per_bin",
            "dropout": 0.0,
        }
        usual = scaled_as_segments(
            encoder, usual, max(stretch) * seconds, kwargs.get("sample_rate")
        )
        super().__init__(encoder, usual, seed, **kwargs)
        if temperature <= 0 or min(contrast_weight, denoise_weight) < 0:
            raise ValueError(
                "`temperature` must be positive, and weights not negative. "
                f"Received: temperature={temperature}, "
                f"contrast_weight={contrast_weight}, "
                f"denoise_weight={denoise_weight}"
            )
        if not 0 <= mixup_ratio < 1:
            raise ValueError(
                f"`mixup_ratio` must be in [0, 1). Received: {mixup_ratio}"
            )
        frontend, backbone = self.encoder.frontend, self.encoder.backbone
        policy = {"dtype": self.dtype_policy}
        samples = self.segment_samples(seconds)
        frames = int(frontend.frame_lengths(samples))
        self.stretched = StretchedCrop(frames, stretch)
        more = (self.stretched.longest - frames) * frontend.hop_length
        self.crop = RandomCrop(samples + max(more, 0), pad="repeat")
        self.augmentations = make_augmentations(augmentations, "features")
        self.masking = SpecAugment(*mask) if mask else None
        self.projector = MLPHead(
            backbone.clip_dim, *projection, name="projector", **policy
        )
        # From a frame to all feature frames that it stands for.
        self.decoder = keras.layers.Dense(
            backbone.stride * frontend.n_features, name="decoder", **policy
        )
        self.decoder.build((None, None, backbone.dim))
        self.std = keras.metrics.Mean(name="embedding_std")
        self.retrieval = keras.metrics.Mean(name="view_retrieval")
        self.contrast = keras.metrics.Mean(name="contrast")
        self.error = keras.metrics.Mean(name="denoising_l1")
        self.zero_error = keras.metrics.Mean(name="zero_l1")

    def view(self, x: Batch, other: int) -> tuple[Tensor, Tensor]:
        """A view of each clip, and what is to be heard in it.

        Args:
            x: As of a call.
            other: Which clip is mixed in, counted from each one.

        Returns:
            `(view, target)`, each `(batch, frames, bins)`, normalised.
        """
        waveform, lengths = waveform_and_lengths(x)
        seed, frontend = self.seed_generator, self.encoder.frontend
        part = self.crop(waveform, lengths=lengths, seed=seed)
        features = self.stretched(frontend.unnormalized(part), seed=seed)
        for layer in self.augmentations:
            features = layer(features, seed=seed)
        target = view = frontend.normalized(features)
        if self.mixup_ratio:
            share = self.mixup_ratio * keras.random.uniform(
                (ops.shape(features)[0],), seed=seed
            )
            mixed = log_mixup(
                features, ops.roll(features, other, axis=0), share
            )
            view = frontend.normalized(mixed)
        if self.masking:
            bands = self.masking.draw(ops.shape(view), seed=seed)
            hidden = bands["frames"][:, :, None] | bands["bins"][:, None, :]
            # By the mean, which says nothing.
            view = ops.where(hidden, 0.0, view)
        # Nothing before the backbone learns.
        return ops.stop_gradient(view), ops.stop_gradient(target)

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        view_1, target_1 = self.view(x, 1)
        view_2, target_2 = self.view(partners(x), 2)
        return {
            **self.compare(view_1, view_2, training=training),
            "target": ops.stack([target_1, target_2], axis=1),
        }

    def compare(
        self, view_1: Tensor, view_2: Tensor, training: bool = False
    ) -> dict[str, Tensor]:
        """What a call returns of two ready views, but for the target."""
        outputs, predictions = {}, []
        # One view after the other: the batch norm's statistics are per view.
        for name, view in (("first", view_1), ("second", view_2)):
            heard = self.encoder.backbone(view, training=training)
            z = self.projector(heard["clip"], training=training)
            outputs[name] = unit(ops.cast(z, "float32"))
            outputs.setdefault("embedding", heard["clip"])
            # (batch, frames, stride * bins) to (batch, feature frames, bins).
            made = self.decoder(heard["frames"])
            bins = self.encoder.frontend.n_features
            count = made.shape[1] * self.encoder.backbone.stride
            predictions.append(ops.reshape(made, (-1, count, bins)))
        return {**outputs, "prediction": ops.stack(predictions, axis=1)}

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        prediction, target = outputs["prediction"], outputs["target"]
        # Strides drop a remainder, or round up.
        frames = min(prediction.shape[2], target.shape[2])
        target = target[:, :, :frames]
        error = ops.mean(ops.abs(prediction[:, :, :frames] - target))
        contrast, accuracy = nt_xent(
            outputs["first"], outputs["second"], self.temperature
        )
        self.std.update_state(embedding_std(outputs["embedding"]))
        self.retrieval.update_state(accuracy)
        self.contrast.update_state(contrast)
        self.error.update_state(error)
        # Of a decoder that always says the mean.
        self.zero_error.update_state(ops.mean(ops.abs(target)))
        return self.contrast_weight * contrast + self.denoise_weight * error

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        total = total_steps or self.TRAINING["paper"]["steps"]
        rate = warm_up_cosine(self.learning_rate, total, 0.05)
        return keras.optimizers.AdamW(rate, weight_decay=self.weight_decay)
