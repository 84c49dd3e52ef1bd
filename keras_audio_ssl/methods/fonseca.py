"""Fonseca et al.: two patches of a clip agree, over other sounds behind."""

import math
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import AugmentationsLike
from keras_audio_ssl.augment import Compression
from keras_audio_ssl.augment import FeatureNoise
from keras_audio_ssl.augment import MixBack
from keras_audio_ssl.augment import RandomCrop
from keras_audio_ssl.augment import RandomResizedCrop
from keras_audio_ssl.augment import SpecAugment
from keras_audio_ssl.augment import make_augmentations
from keras_audio_ssl.augment import repeated
from keras_audio_ssl.blocks import MLPHead
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import of_both
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import nt_xent
from keras_audio_ssl.losses import unit
from keras_audio_ssl.methods.pretext import PretextModel

# The paper's augmentations, whose settings are arguments, in their order.
OWN = ("mix_back", "resized_crop", "compression", "noise")
# Of the front ends' logarithms.
BASES = {"ln": math.e, "log10": 10.0, "db": 10**0.1}
# Shares of the run after which the learning rate falls to a tenth.
FALLS = (325 / 500, 425 / 500)


class Fonseca(PretextModel):
    """Contrastive sound events with mix-back.

    Two random patches of a clip's log-mel are a pair, each with a quiet other
    sound mixed into its background; the other clips' patches are negatives.

    Args:
        encoder: `"resnet18"`, the default, `"vgg"` or `"crnn"`, all on the
            front end `"fonseca"` at 22.05 kHz; settings that override the
            paper's, as `{"backbone": "crnn", "crnn_backward": "last_index"}`;
            or an `Encoder`, a `Backbone` or a Keras model.
        temperature: Divides the cosines (tau).
        frames: Feature frames of a patch. The default is a second.
        mixback_alpha: Largest share of the background's energy.
        rrc: Of the random resized crop: least and largest share of the area,
            least and largest ratio of bins to frames.
        compress: Smallest factor of the log features.
        noise: Largest deviation of the noise on them.
        spec_augment: Settings of a `SpecAugment` after these, a dict; None
            for none, as in the paper's best configuration.
        augmentations: Of both patches, in their order: names of
            `augment.AUGMENTATIONS`, or such layers, of features;
            `"mix_back"`, `"resized_crop"`, `"compression"` and `"noise"`, the
            paper's, have their settings above.
        head: Hidden width and width of the projection; released with 512.
        gather_negatives: Whether the replicas of `tf.distribute` see each
            other's clips, or each its own; see `compared`.
        learning_rate: At first; a tenth of it after 65 % of the run, and a
            hundredth after 85 %.
        solver: `"sgd"`, the paper's, or `"adam"`.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of crops and augmentations.

    Returns of a call:
        Dict of `"first"` and `"second"`, `(batch, head[1])`, of unit length,
        and `"embedding"`, `(batch, dim)`.

    Clips shorter than a patch are repeated.

    Reference:
        Fonseca, Ortego, McGuinness, O'Connor & Serra, 2021, "Unsupervised
        Contrastive Learning of Sound Event Representations", arXiv
        2011.07616.
    """

    min_batch = 2
    augments = "features"
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {
                "backbone": "vgg",
                "n_mels": 32,
                "conv_channels": 16,
                "repeats": (1, 1, 1),
                "dim": 64,
            },
            "frames": 48,
            "head": (64, 64),
            "learning_rate": 1e-3,
            "solver": "adam",
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 128, "seconds": 10.0, "steps": 62_000},
        "tiny": {"batch_size": 48, "seconds": 2.0, "steps": 300},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        temperature: float = 0.2,
        frames: int = 101,
        mixback_alpha: float = 0.05,
        rrc: Sequence[float] = (0.8, 1.0, 3 / 4, 4 / 3),
        compress: float = 0.75,
        noise: float = 0.01,
        spec_augment: dict[str, Any] | None = None,
        augmentations: AugmentationsLike = OWN,
        head: Sequence[int] = (512, 128),
        gather_negatives: bool = False,
        learning_rate: float = 0.03,
        solver: str = "sgd",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("solver", solver, ("sgd", "adam"))
        paper = {"backbone": "resnet18", "frontend": "fonseca"}
        super().__init__(encoder, paper, seed, **kwargs)
        if temperature <= 0:
            raise ValueError(
                f"`temperature` must be positive. Received: {temperature}"
            )
        least = self.encoder.backbone.min_frames
        if frames < least:
            raise ValueError(
                f"`frames` must be at least {least} for this encoder. "
                f"Received: {frames}"
            )
        self.crop = RandomCrop(frames)
        self.augmentations = self.layers_of(augmentations)
        self.projector = MLPHead(
            self.encoder.dim, *head, name="projector", dtype=self.dtype_policy
        )
        self.std = keras.metrics.Mean(name="embedding_std")
        self.retrieval = keras.metrics.Mean(name="view_retrieval")

    def layers_of(self, names: Any) -> list[Any]:
        """The augmentations, the paper's with the settings given."""
        frontend = self.encoder.frontend
        layers = make_augmentations(names, "features", OWN)
        if "mix_back" in layers and getattr(frontend, "log", None) is None:
            raise ValueError(
                "`augmentations`: 'mix_back' needs a front end of logarithms. "
                f"Received: {type(frontend).__name__}"
            )
        own = {
            "mix_back": lambda: MixBack(
                self.mixback_alpha, BASES[frontend.log], views=2
            ),
            "resized_crop": lambda: RandomResizedCrop(
                self.rrc[:2], self.rrc[2:]
            ),
            "compression": lambda: Compression(self.compress),
            "noise": lambda: FeatureNoise(self.noise),
        }
        made = [own[x]() if isinstance(x, str) else x for x in layers]
        if self.spec_augment is not None:
            made.append(SpecAugment(**self.spec_augment))
        return made

    def patches(self, x: Batch) -> Tensor:
        """Two random patches of each clip, not normalised.

        Returns:
            `(2 * batch, frames, bins)`, the first of all clips first.
        """
        both = [
            self.crop(features, lengths=valid, seed=self.seed_generator)
            for features, valid in of_both(self.features_of, x)
        ]
        return ops.concatenate(both, axis=0)

    def features_of(self, x: Batch) -> tuple[Tensor, Tensor | None]:
        """Features `(batch, frames, bins)`, and how many frames are valid."""
        waveform, lengths = waveform_and_lengths(x)
        frontend, length = self.encoder.frontend, self.crop.length
        samples = frontend.min_samples + (length - 1) * frontend.hop_length
        waveform, lengths = repeated(waveform, samples, lengths)
        features = frontend.unnormalized(waveform, lengths)
        valid = None if lengths is None else frontend.frame_lengths(lengths)
        return features, valid

    def views(self, patches: Tensor) -> Sequence[Tensor]:
        """Both views, `(batch, frames, bins)` each, of `patches`."""
        for layer in self.augmentations:
            patches = layer(patches, seed=self.seed_generator)
        # Normalised after mixing, which needs true energies.
        return ops.split(self.encoder.frontend.normalized(patches), 2)

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        first, second = self.views(self.patches(x))
        return self.compare(first, second, training=training)

    def compare(
        self, first: Tensor, second: Tensor, training: bool = False
    ) -> dict[str, Tensor]:
        """The task on two ready views; see `call`."""
        outputs = {}
        # One view after the other: the batch norm's statistics are per view.
        for name, view in (("first", first), ("second", second)):
            clip = self.encoder.backbone(view, training=training)["clip"]
            outputs[name] = self.project(clip, training)
            outputs.setdefault("embedding", clip)
        return outputs

    def project(self, clip: Tensor, training: bool = False) -> Tensor:
        """Clip vectors `(batch, dim)` to the unit vectors of the loss."""
        z = self.projector(clip, training=training)
        return unit(ops.cast(z, "float32"))

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        z1, z2 = self.compared(outputs["first"], outputs["second"])
        loss, accuracy = nt_xent(z1, z2, self.temperature)
        self.std.update_state(embedding_std(outputs["embedding"]))
        self.retrieval.update_state(accuracy)
        return loss

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        if self.solver == "adam":
            return keras.optimizers.Adam(self.learning_rate)
        total = total_steps or self.TRAINING["paper"]["steps"]
        falls = [max(round(share * total), 1) for share in FALLS]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            falls, [self.learning_rate * 0.1**i for i in range(3)]
        )
        # The paper's decay, 1e-4, is part of the gradient, of which momentum
        # makes ten times as much; Keras' is not.
        return keras.optimizers.SGD(rate, momentum=0.9, weight_decay=1e-3)
