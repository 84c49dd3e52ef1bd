"""COLA: two segments of one clip agree, those of other clips don't."""

from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import AugmentationsLike
from keras_audio_ssl.augment import FaintNoise
from keras_audio_ssl.augment import RandomCrop
from keras_audio_ssl.augment import make_augmentations
from keras_audio_ssl.blocks import BilinearSimilarity
from keras_audio_ssl.blocks import COLAHead
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import scaled_as_segments
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import of_both
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.features import scale_amplitude
from keras_audio_ssl.losses import contrastive_accuracy
from keras_audio_ssl.losses import cosine_similarity
from keras_audio_ssl.losses import row_cross_entropy
from keras_audio_ssl.methods.pretext import PretextModel


class COLA(PretextModel):
    """Contrastive learning of general-purpose audio representations.

    Two random segments of a clip are a pair; the other clips' segments are
    the negatives. The similarity is bilinear, with a learnt matrix.

    Args:
        encoder: Settings that override the paper's, EfficientNet-B0 on the
            front end `"cola"`: `{"n_mels": 80}`; `"cnn"`, BYOL-A's, far
            quicker on a CPU; or an `Encoder`, a `Backbone` or a Keras model.
        embedding_dim: Width of the projection.
        similarity: `"bilinear"` or `"cosine"`.
        temperature: Divides the similarity; None for the paper's: 1
            (bilinear) or 0.2 (cosine).
        seconds: Length of a segment. The default gives 98 frames.
        noise: Standard deviation of the noise on the positive segment, of
            which the waveform's Euclidean norm is 1.
        augmentations: Of the positive segment, before the noise: names of
            `augment.AUGMENTATIONS`, or such layers, of waveforms; none in
            the paper.
        normalize: `"segment"` scales each segment to unit norm, as use
            downstream does; `"clip"` the whole clip before the crops, as
            the released code trains.
        legacy_rescale: Divides the features by 255, as the network of the
            released code does by accident.
        symmetric: Also classify the positives' rows.
        gather_negatives: Whether the replicas of `tf.distribute` see each
            other's clips, or each its own; see `compared`.
        learning_rate: Of Adam.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of crops and noise.

    Call arguments:
        x: `(batch, samples)`, or `{"waveform", "lengths"}`, or
            `{"anchor", "positive"}` of `(batch, samples)` ready segments.

    Returns:
        Dict of `"anchor"` and `"positive"`, `(batch, embedding_dim)`.

    Reference:
        Saeed, Grangier & Zeghidour, 2021, "Contrastive Learning of
        General-Purpose Audio Representations", arXiv 2010.10915.
    """

    min_batch = 2
    augments = "waveform"
    RETIRED = ("n_mels",)
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {
                "backbone": "cnn",
                "n_mels": 32,
                "dim": 64,
                "conv_channels": 16,
            },
            "embedding_dim": 64,
            "seconds": 0.485,
            "learning_rate": 1e-3,
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 64, "seconds": 10.0, "steps": 100_000},
        "tiny": {"batch_size": 48, "seconds": 2.0, "steps": 1000},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        embedding_dim: int = 512,
        similarity: str = "bilinear",
        temperature: float | None = None,
        seconds: float = 1.0,
        noise: float = 0.001,
        augmentations: AugmentationsLike = (),
        normalize: str = "segment",
        legacy_rescale: bool = False,
        symmetric: bool = False,
        gather_negatives: bool = False,
        learning_rate: float = 1e-3,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("similarity", similarity, ("bilinear", "cosine"))
        check_choice("normalize", normalize, ("segment", "clip"))
        paper: dict[str, Any] = {
            "backbone": "efficientnet_b0",
            "frontend": "cola",
        }
        if normalize == "segment":
            rate = kwargs.get("sample_rate")
            paper = scaled_as_segments(encoder, paper, seconds, rate)
        if legacy_rescale:
            paper["rescale"] = 1 / 255
        super().__init__(encoder, paper, seed, **kwargs)
        if temperature is None:
            self.temperature = 1.0 if similarity == "bilinear" else 0.2
        self.scaled = self.encoder.frontend.amplitude == "l2"
        self.crop = RandomCrop(self.segment_samples(seconds))
        self.projector = COLAHead(
            self.encoder.dim,
            embedding_dim,
            normalize=similarity == "bilinear",
            dtype=self.dtype_policy,
        )
        if similarity == "bilinear":
            self.bilinear = BilinearSimilarity(embedding_dim)
        # With another front end waveforms keep their amplitude, and noise is
        # measured by it.
        self.faint_noise = FaintNoise(noise, relative=not self.scaled)
        self.augmentations = make_augmentations(augmentations, "waveform")
        self.accuracy = keras.metrics.Mean(name="contrastive_accuracy")
        self.scale = keras.metrics.Mean(name="max_similarity")

    def whole(self, x: Batch) -> tuple[Tensor, Tensor | None]:
        """Clips that segments are cut from, and lengths."""
        waveform, lengths = waveform_and_lengths(x)
        if self.scaled and self.normalize == "clip":
            waveform = scale_amplitude(waveform, "l2", lengths)
        return waveform, lengths

    def segments(self, x: Batch) -> Tensor:
        """Two segments of each clip, of unit norm, noise on the second.

        Returns:
            `(2 * batch, samples)`, anchors first.
        """
        seed = self.seed_generator
        if isinstance(x, dict) and "anchor" in x:
            anchor, positive = x["anchor"], x["positive"]
        else:
            anchor, positive = (
                self.crop(waveform, lengths=lengths, seed=seed)
                for waveform, lengths in of_both(self.whole, x)
            )
        for layer in self.augmentations:
            positive = layer(positive, seed=seed)
        if self.scaled and self.normalize == "segment":
            anchor = scale_amplitude(anchor, "l2")
            positive = scale_amplitude(positive, "l2")
        positive = self.faint_noise(positive, seed=seed)
        return ops.concatenate([anchor, positive], axis=0)

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        # Both in one batch: they share the statistics of the batch norm.
        features = self.encoder.frontend(self.segments(x), scaled=self.scaled)
        return self.embeddings(features, training)

    def embeddings(
        self, features: Tensor, training: bool = False
    ) -> dict[str, Any]:
        """The task on features of anchors, then positives; see `call`."""
        clip = self.encoder.backbone(features, training=training)["clip"]
        anchor, positive = ops.split(self.projector(clip), 2)
        return {"anchor": anchor, "positive": positive}

    def check_clips(self, waveform: Tensor, lengths: Tensor | None) -> None:
        super().check_clips(waveform, lengths)
        so = "both segments are then the same and there is little to learn."
        self.warn_of_short(waveform, lengths, self.crop.length, "segment", so)

    def clips(self, x: Batch) -> Batch:
        if isinstance(x, dict) and "anchor" in x:
            # Statistics of both, (batch, 2 * samples).
            return ops.concatenate([x["anchor"], x["positive"]], axis=-1)
        return super().clips(x)

    def similarities(self, anchor: Tensor, positive: Tensor) -> Tensor:
        """`(batch, batch)` similarities, anchors by positives."""
        if self.similarity == "bilinear":
            # s_ij = a_i W p_j, one row for each anchor.
            s = self.bilinear(anchor, positive)
        else:
            s = cosine_similarity(anchor, positive)
        return s / self.temperature

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        pair = self.compared(outputs["anchor"], outputs["positive"])
        s = self.similarities(*pair)
        self.accuracy.update_state(contrastive_accuracy(s))
        self.scale.update_state(ops.max(ops.abs(s)))
        # Rows alone: anchors are never negatives of each other.
        loss = row_cross_entropy(s)
        if self.symmetric:
            loss = 0.5 * (loss + row_cross_entropy(ops.transpose(s)))
        return loss
