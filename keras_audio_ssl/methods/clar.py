"""CLAR: two augmented versions of a clip agree; labels, where there are."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import AugmentationsLike
from keras_audio_ssl.augment import Sometimes
from keras_audio_ssl.augment import crop
from keras_audio_ssl.augment import make_augmentations
from keras_audio_ssl.blocks import ClassBranch
from keras_audio_ssl.blocks import DeepHead
from keras_audio_ssl.blocks import MLPHead
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import count_classes
from keras_audio_ssl.engine import of_both
from keras_audio_ssl.engine import warm_up_cosine
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import labelled_cross_entropy
from keras_audio_ssl.losses import nt_xent
from keras_audio_ssl.losses import unit
from keras_audio_ssl.methods.pretext import PretextModel

PAPER: dict[str, dict[str, Any]] = {
    "spectrogram": {
        "backbone": "resnet18",
        "frontend": "clar",
        "channels": 3,
    },
    "waveform": {"backbone": "resnet18_1d", "frontend": "waveform"},
}
# Those that are half as likely: the reference draws a second time.
HALVED = ("time_mask",)
# Of the run, until the learning rate has risen: 10 of 1020 epochs.
WARM_UP = 0.01


class CLAR(PretextModel):
    """Contrastive learning of auditory representations.

    Two versions of each clip, augmented as waveforms, are a pair, and those
    of the other clips the negatives. Where clips have labels, the
    cross-entropies of both versions are added: both losses together need few
    labels.

    Args:
        encoder: Settings that override the paper's; or an `Encoder`, a
            `Backbone` or a Keras model. The paper's is a ResNet-18, with
            `"spectrogram"` on the front end `"clar"` (magnitude, phase and
            mel bands), with `"waveform"` in one dimension.
        input_type: `"spectrogram"` or `"waveform"`.
        augmentations: Of each view, in their order: names of
            `augment.AUGMENTATIONS`, or such layers, of waveforms. What is
            named happens to a clip with `probability` (the time mask with
            half of it, as released); a layer says itself how often.
        probability: Of the augmentations that are named.
        temperature: Divides the cosines (tau).
        seconds: Clips are cut, or followed by silence, to this length.
        classes: Names of the classes, or their number; None without labels.
            Then labels are places among them, -1 where there is none.
        supervised_weight: Factor of the two cross-entropies.
        contrastive_weight: Factor of the contrastive loss; 0 for training on
            labels alone.
        head: Hidden width and width of the projection.
        gather_negatives: Whether the replicas of `tf.distribute` see each
            other's clips, or each its own; see `compared`.
        learning_rate: Of Adam, at its peak; it rises for 1 % of the run and
            falls as a cosine.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of the augmentations.

    Returns of a call:
        Dict of `"first"` and `"second"`, `(batch, head[1])`, of unit length;
        `"embedding"`, `(batch, dim)`; and with classes `"first_logits"` and
        `"second_logits"`, `(batch, classes)`.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR: Contrastive Learning of Auditory
        Representations", arXiv 2010.09542.
    """

    min_batch = 2
    augments = "waveform"
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {
                "backbone": "vgg",
                "frontend": "clar_short",
                "n_mels": 32,
                "conv_channels": 16,
                "repeats": (1, 1, 1),
                "dim": 64,
            },
            "seconds": 0.475,
            "head": (64, 64),
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 256, "seconds": 1.0, "steps": 100_000},
        "tiny": {"batch_size": 48, "seconds": 0.475, "steps": 300},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        input_type: str = "spectrogram",
        augmentations: AugmentationsLike = ("fade", "time_mask"),
        probability: float = 0.5,
        temperature: float = 0.5,
        seconds: float = 1.0,
        classes: int | Sequence[str] | None = None,
        supervised_weight: float = 1.0,
        contrastive_weight: float = 1.0,
        head: Sequence[int] = (512, 128),
        gather_negatives: bool = False,
        learning_rate: float = 1e-3,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("input_type", input_type, PAPER)
        super().__init__(encoder, PAPER[input_type], seed, **kwargs)
        if temperature <= 0 or min(supervised_weight, contrastive_weight) < 0:
            raise ValueError(
                "`temperature` must be positive, and weights not negative. "
                f"Received: temperature={temperature}, "
                f"supervised_weight={supervised_weight}, "
                f"contrastive_weight={contrastive_weight}"
            )
        self.n_classes = count_classes(classes)
        self.samples = self.segment_samples(seconds)
        self.augmentations = self.layers_of(augmentations)
        policy = {"dtype": self.dtype_policy}
        if self.n_classes is None:
            self.projector = DeepHead(
                self.encoder.dim, *head, name="projector", **policy
            )
        else:
            self.projector = MLPHead(
                self.encoder.dim, *head, name="projector", **policy
            )
            self.classifier = ClassBranch(
                head[1], self.n_classes, name="classifier", **policy
            )
            self.class_accuracy = keras.metrics.Mean(name="class_accuracy")
        self.std = keras.metrics.Mean(name="embedding_std")
        self.retrieval = keras.metrics.Mean(name="view_retrieval")

    def layers_of(self, names: Any) -> list[Any]:
        """The augmentations, those with names as often as `probability`."""
        if names is None or isinstance(names, (str, keras.layers.Layer)):
            names = () if names is None else (names,)
        layers = make_augmentations(names, "waveform")
        for i, name in enumerate(names):
            if isinstance(name, str):
                p = self.probability * (0.5 if name in HALVED else 1.0)
                layers[i] = Sometimes(layers[i], p)
        return layers

    def clip(self, x: Batch) -> Tensor:
        """Clips cut, or followed by silence, to `seconds`.

        Returns:
            `(batch, samples)`.
        """
        waveform, lengths = waveform_and_lengths(x)
        if lengths is not None:
            waveform = mask_frames(waveform, lengths)
        # The first `seconds` of each clip; the two views differ by what is done
        # to them, not by place.
        start = ops.zeros((ops.shape(waveform)[0],), "int32")
        return crop(ops.cast(waveform, "float32"), start, self.samples)

    def views(self, clips: Tensor, others: Tensor | None = None) -> Tensor:
        """Two augmented versions of clips.

        Args:
            clips: `(batch, samples)`.
            others: What the second versions are made of, if not of the same.

        Returns:
            `(2 * batch, samples)`, the first of all clips first.
        """
        second = clips if others is None else others
        both = ops.concatenate([clips, second], axis=0)
        for layer in self.augmentations:
            both = layer(both, seed=self.seed_generator)
        return both

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        views = self.views(*of_both(self.clip, x))
        # Nothing before the backbone learns, and the way back through
        # augmentations and spectra is long.
        features = ops.stop_gradient(self.encoder.frontend(views))
        first, second = ops.split(features, 2)
        return self.compare(first, second, training=training)

    def compare(
        self, first: Tensor, second: Tensor, training: bool = False
    ) -> dict[str, Tensor]:
        """The task on two ready views' features; see `call`."""
        outputs = {}
        # One view after the other: the batch norm's statistics are per view.
        for name, view in (("first", first), ("second", second)):
            clip = self.encoder.backbone(view, training=training)["clip"]
            outputs.update(self.project(clip, name, training))
            outputs.setdefault("embedding", clip)
        return outputs

    def project(
        self, clip: Tensor, name: str, training: bool = False
    ) -> dict[str, Tensor]:
        """What a view's clip vectors become; see `call`."""
        v = self.projector(clip, training=training)
        outputs = {name: unit(ops.cast(v, "float32"))}
        if self.n_classes is not None:
            # Of the vector that is not scaled to unit length.
            logits = self.classifier(v, training=training)
            outputs[f"{name}_logits"] = logits
        return outputs

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        # Labels stay with their replica.
        z1, z2 = self.compared(outputs["first"], outputs["second"])
        loss, accuracy = nt_xent(z1, z2, self.temperature)
        self.std.update_state(embedding_std(outputs["embedding"]))
        self.retrieval.update_state(accuracy)
        loss = self.contrastive_weight * loss
        if self.n_classes is None or y is None:
            return loss
        y = ops.reshape(ops.cast(y, "int32"), (-1,))
        for name in ("first_logits", "second_logits"):
            logits = outputs[name]
            cross_entropy = labelled_cross_entropy(logits, y)
            loss = loss + self.supervised_weight * cross_entropy
            hit = ops.cast(ops.argmax(logits, axis=1), "int32") == y
            # Of the clips with a label.
            self.class_accuracy.update_state(hit, y >= 0)
        return loss

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        total = total_steps or self.TRAINING["paper"]["steps"]
        rate = warm_up_cosine(self.learning_rate, total, WARM_UP)
        return keras.optimizers.Adam(rate)
