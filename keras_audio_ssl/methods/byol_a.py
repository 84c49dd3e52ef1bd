"""BYOL-A: one segment, two views, and a target that moves slowly."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import AugmentationsLike
from keras_audio_ssl.augment import MixupMemory
from keras_audio_ssl.augment import RandomCrop
from keras_audio_ssl.augment import RandomLinearFader
from keras_audio_ssl.augment import RandomResizeCrop
from keras_audio_ssl.augment import RunningNorm
from keras_audio_ssl.augment import make_augmentations
from keras_audio_ssl.augment import standardize_batch
from keras_audio_ssl.blocks import MLPHead
from keras_audio_ssl.blocks import ProjectedBackbone
from keras_audio_ssl.blocks import TargetNetwork
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import partners
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import contrastive_accuracy
from keras_audio_ssl.losses import cosine_similarity
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import unit_distance
from keras_audio_ssl.methods.pretext import PretextModel

# What the papers set in each.
VERSIONS = {
    "v1": {"mixup_ratio": 0.4, "fader_gain": 0.0, "learning_rate": 3e-4},
    "v2": {"mixup_ratio": 0.2, "fader_gain": 1.0, "learning_rate": 1e-4},
}

# The paper's augmentations, whose settings are arguments.
OWN = ("mixup", "resize_crop", "fader")


class BYOLA(PretextModel):
    """BYOL for audio: predicts a moving average's view of the same segment.

    Args:
        version: `"v1"` (2021) or `"v2"` (2022): encoder, augmentations and
            learning rate.
        encoder: Settings that override the paper's, `AudioNTT` on the front
            end `"byol_a"`: `{"dim": 2048, "dropout": 0.0}`; or an `Encoder`,
            a `Backbone` or a Keras model.
        hidden_dim: Hidden width of projector and predictor.
        projection_dim: Width of the projection.
        seconds: Length of the segment. The default gives 96 frames.
        momentum: Of the target network (tau).
        mixup_ratio: Largest share of a past clip; None for the paper's,
            0.4 (v1) or 0.2 (v2).
        memory: Clips that mixup remembers.
        rrc: Canvas factors (bins, frames) and least and largest factor of
            the random resize crop.
        fader_gain: Of the random linear fader; None for the paper's, 0 (v1)
            or 1 (v2).
        augmentations: Of each view, in their order: names of
            `augment.AUGMENTATIONS`, or such layers, of features; `"mixup"`,
            `"resize_crop"` and `"fader"`, the paper's, have their settings
            above.
        pre_norm: `"measured"`: mean and deviation of the training clips,
            measured by `fit` before the first step; `"running"`: averaged
            along the first clips, as v1's released code does.
        running_clips: Clips that `"running"` averages; the released code
            takes 20 times the number of files.
        post_norm: Whether both views are standardised together.
        learning_rate: Of Adam; None for the paper's, 3e-4 (v1), 1e-4 (v2).
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of crops and augmentations.

    Returns of a call:
        Dict of `"prediction_1"`, `"prediction_2"`, `"target_1"`,
        `"target_2"`, `(batch, projection_dim)`, and `"embedding"`,
        `(batch, dim)`.

    Reference:
        Niizumi et al., 2021, "BYOL for Audio", arXiv 2103.06695 (v1); 2023,
        arXiv 2204.07402 (v2).
    """

    min_batch = 2
    augments = "features"
    RETIRED = ("dim", "n_mels", "conv_channels", "dropout")
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {"n_mels": 32, "conv_channels": 16, "dim": 64},
            "seconds": 0.475,
            "hidden_dim": 256,
            "projection_dim": 64,
            "learning_rate": 1e-3,
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 256, "seconds": 0.95, "steps": 767_200},
        "tiny": {"batch_size": 32, "seconds": 0.475, "steps": 500},
    }

    def __init__(
        self,
        version: str = "v1",
        encoder: EncoderLike = None,
        hidden_dim: int = 4096,
        projection_dim: int = 256,
        seconds: float = 0.95,
        momentum: float = 0.99,
        mixup_ratio: float | None = None,
        memory: int = 2048,
        rrc: Sequence[float] = (1.0, 1.5, 0.6, 1.5),
        fader_gain: float | None = None,
        augmentations: AugmentationsLike = OWN,
        pre_norm: str = "measured",
        running_clips: int = 20_000,
        post_norm: bool = True,
        learning_rate: float | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("version", version, VERSIONS)
        check_choice("pre_norm", pre_norm, ("measured", "running"))
        paper = {"backbone": "audio_ntt", "frontend": "byol_a"}
        super().__init__(encoder, {**paper, "version": version}, seed, **kwargs)
        for name, value in VERSIONS[version].items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        encoder, policy = self.encoder, {"dtype": self.dtype_policy}
        samples = self.segment_samples(seconds)
        frontend = encoder.frontend
        frames = int(frontend.frame_lengths(samples))
        pad = "both" if version == "v1" else "right"
        self.crop = RandomCrop(samples, pad=pad)
        self.mixup = MixupMemory(
            self.mixup_ratio, memory, frames, frontend.n_features
        )
        self.resize_crop = RandomResizeCrop(rrc[:2], rrc[2:])
        self.fader = RandomLinearFader(self.fader_gain)
        # The paper's stay names: each layer is an attribute already.
        self.augmentations = make_augmentations(augmentations, "features", OWN)
        self.running_norm = None
        if pre_norm == "running":
            self.running_norm = RunningNorm(running_clips)
        self.online = ProjectedBackbone(
            encoder.backbone,
            MLPHead(encoder.dim, hidden_dim, projection_dim, **policy),
            name="online",
            **policy,
        )
        self.predictor = MLPHead(
            projection_dim,
            hidden_dim,
            projection_dim,
            name="predictor",
            **policy,
        )
        self.target = TargetNetwork(self.online, name="target", **policy)
        self.std = keras.metrics.Mean(name="embedding_std")
        self.retrieval = keras.metrics.Mean(name="view_retrieval")

    def views(
        self, features: Tensor, others: Tensor | None = None
    ) -> Sequence[Tensor]:
        """Two augmented views of features, `(batch, frames, bins)` each.

        Args:
            features: `(batch, frames, bins)`.
            others: What the second views are made of, if not of the same.
        """
        seed, views = self.seed_generator, []
        for x in (features, features if others is None else others):
            for layer in self.augmentations:
                if layer == "fader" and not self.fader_gain:
                    continue
                if isinstance(layer, str):
                    layer = getattr(self, layer)
                x = layer(x, seed=seed)
            views.append(x)
        if self.post_norm:
            # (2 * batch, frames, bins): one mean and one deviation for both.
            both = standardize_batch(ops.concatenate(views, axis=0))
            return ops.split(both, 2)
        return views

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        waveform, lengths = waveform_and_lengths(x)
        seed, pairs, others = self.seed_generator, partners(x), None
        if pairs is x:
            segment = self.crop(waveform, lengths=lengths, seed=seed)
        else:
            # The same segment of both.
            both = ops.stack([waveform, pairs["waveform"]], axis=-1)
            both = self.crop(both, lengths=lengths, seed=seed)
            segment = both[..., 0]
            others = self._normalized_features(both[..., 1], training)
        features = self._normalized_features(segment, training)
        view_1, view_2 = self.views(features, others)
        if training:
            # The clips as they were: what is mixed is not mixed again.
            self.mixup.push(features)
        return self.compare(view_1, view_2, training=training)

    def compare(
        self, view_1: Tensor, view_2: Tensor, training: bool = False
    ) -> dict[str, Tensor]:
        """Predictions and targets of two ready views; see `call`."""
        outputs = {}
        # One view after the other: the batch norm's statistics are per view.
        for i, view in enumerate((view_1, view_2), 1):
            clip, projection = self.online(view, training=training)
            outputs[f"prediction_{i}"] = self.predictor(
                projection, training=training
            )
            # Its batch norm has statistics of its own, never the online one's.
            _, target = self.target(view, training=training)
            outputs[f"target_{i}"] = target
            if i == 1:
                outputs["embedding"] = clip
        return outputs

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        p1, p2 = outputs["prediction_1"], outputs["prediction_2"]
        t1, t2 = outputs["target_1"], outputs["target_2"]
        self.std.update_state(embedding_std(outputs["embedding"]))
        self.retrieval.update_state(
            # Whether a view's prediction finds its own clip's target.
            contrastive_accuracy(cosine_similarity(p1, t2))
        )
        # Summed, not halved, as in the released code: 0 to 8.
        # (2 - 2 cos(q1, t2)) + (2 - 2 cos(q2, t1)); each term is 0 to 4.
        return ops.mean(unit_distance(p1, t2) + unit_distance(p2, t1))

    def after_update(self) -> list[tuple[Any, Any]]:
        return self.target.toward(self.online, self.momentum)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        return keras.optimizers.Adam(self.learning_rate, epsilon=1e-8)

    def _normalized_features(
        self, segment: Tensor, training: bool | None
    ) -> Tensor:
        frontend = self.encoder.frontend
        if self.running_norm is None:
            return frontend(segment)
        raw = frontend.unnormalized(segment)
        features = self.running_norm(raw, training=training)
        if training:
            # The exported encoder normalises with what was averaged so far.
            frontend.mean.assign(self.running_norm.mean.value)
            frontend.std.assign(self.running_norm.std)
            frontend.measured.assign(1.0)
        return features

    def unmeasured(self) -> list[Any]:
        return [] if self.running_norm else super().unmeasured()
