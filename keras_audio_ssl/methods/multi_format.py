"""Multi-format: a crop as waveform and a crop as log-mel of one clip agree."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import AUGMENTATIONS
from keras_audio_ssl.augment import Augmentation
from keras_audio_ssl.augment import AugmentationsLike
from keras_audio_ssl.augment import FrequencyShift
from keras_audio_ssl.augment import RandomCrop
from keras_audio_ssl.augment import Silence
from keras_audio_ssl.augment import Sometimes
from keras_audio_ssl.augment import SpecAugment
from keras_audio_ssl.augment import WaveformMix
from keras_audio_ssl.augment import make_augmentations
from keras_audio_ssl.blocks import MLPHead
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import join_encoders
from keras_audio_ssl.encoders import make_encoder
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import partners
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.features import Waveform
from keras_audio_ssl.losses import contrastive_accuracy
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import nt_xent
from keras_audio_ssl.losses import row_cross_entropy
from keras_audio_ssl.losses import unit
from keras_audio_ssl.methods.pretext import PretextModel

# The paper's encoders are CNN14's and Res1dNet31's kind; the smaller pair is
# that of a re-implementation.
PAPERS = {
    "waveform": {"backbone": "conv160", "frontend": "multi_format_waveform"},
    "spectrogram": {"backbone": "cnn6", "frontend": "multi_format"},
}
# The paper's augmentations, whose settings are arguments.
OWN = ("waveform_mix", "silence", "spec_augment", "frequency_shift")
# Backbones that read waveforms.
ON_WAVEFORMS = ("conv160", "res1dnet31", "sincnet")


class MultiFormat(PretextModel):
    """Contrastive learning between the waveform and the log-mel of a clip.

    One random crop of a clip stays a waveform, another becomes a log-mel;
    each goes through an encoder and a projection of its own. The two agree,
    and those of other clips don't.

    The model's encoder joins both; they are also kept one by one.

    Args:
        encoder: None for two encoders. One encoder (settings with a
            backbone's name, an `Encoder`, a `Backbone` or a Keras model)
            takes both crops, in its one format: the baseline.
        waveform_encoder: Settings that override `{"backbone": "conv160"}` on
            the front end `"multi_format_waveform"`: `{"backbone":
            "res1dnet31"}`, the paper's size; or an `Encoder`, a `Backbone` or
            a Keras model on waveforms.
        spectrogram_encoder: Settings that override `{"backbone": "cnn6"}` on
            the front end `"multi_format"`: `{"backbone": "cnn14"}`, the
            paper's size; or as above, on log-mels.
        seconds: Length of the crops. Shorter clips are repeated.
        negatives: `"all"`: both vectors of all other clips, as in SimCLR,
            which also spreads each format; `"cross_format"`: those of the
            other format. The paper does not tell which it takes.
        temperature: Divides the cosines.
        mix_beta: In training a crop is mixed with another clip of the batch;
            its own share has this beta distribution. None for no mixing.
        freq_shift: Bands that the log-mel is moved up or down by at most; 0
            for none.
        time_mask: Widest stretch, in seconds, that half of the crops lose: of
            the waveform to zero, of the log-mel to its smallest value; 0 for
            none.
        freq_mask: Most neighbouring bands that half of the log-mels lose; 0
            for none.
        augmentations: In training, in their order: names of
            `augment.AUGMENTATIONS`, or such layers; those of waveforms change
            both crops, those of features the log-mel. `"waveform_mix"`,
            `"silence"` (of the waveform alone), `"spec_augment"` and
            `"frequency_shift"`, the paper's, have their settings above.
        projection: Widths of the projection's two layers.
        gather_negatives: Whether the replicas of `tf.distribute` see each
            other's clips, or each its own; see `compared`.
        learning_rate: Of Adam, which falls as a cosine to a hundredth.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of crops and augmentations.

    Returns of a call:
        Dict of `"first"` and `"second"`, the crops' unit vectors `(batch,
        projection)`, waveform first, and `"first_embedding"` and
        `"second_embedding"`, `(batch, dim)`.

    Reference:
        Wang & van den Oord, 2021, "Multi-Format Contrastive Learning of Audio
        Representations", arXiv 2103.06508.
    """

    min_batch = 2
    PRESETS: ClassVar = {
        "tiny": {
            "waveform_encoder": {
                "units": 32,
                "convs": ((10, 5), (8, 4), (4, 2), (4, 2)),
                "norm": "batch",
            },
            "spectrogram_encoder": {"n_mels": 32, "filters": (16, 16, 16)},
            "seconds": 0.5,
            "augmentations": (),
            "projection": (64, 64),
            "learning_rate": 1e-3,
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 32, "seconds": 10.0, "steps": 400_000},
        "tiny": {"batch_size": 48, "seconds": 2.0, "steps": 300},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        waveform_encoder: EncoderLike = None,
        spectrogram_encoder: EncoderLike = None,
        seconds: float = 3.0,
        negatives: str = "all",
        temperature: float = 0.1,
        mix_beta: Sequence[float] | None = (5.0, 2.0),
        freq_shift: int = 10,
        time_mask: float = 0.3,
        freq_mask: int = 8,
        augmentations: AugmentationsLike = OWN,
        projection: Sequence[int] = (512, 128),
        gather_negatives: bool = False,
        learning_rate: float = 1e-4,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("negatives", negatives, ("all", "cross_format"))
        if not temperature > 0:
            raise ValueError(
                f"`temperature` must be positive. Received: {temperature}"
            )
        policy = keras.dtype_policies.get(kwargs.get("dtype"))
        rate = kwargs.get("sample_rate")
        if encoder is None:
            parts = [
                make_encoder(given, PAPERS[name], policy, rate)
                for name, given in (
                    ("waveform", waveform_encoder),
                    ("spectrogram", spectrogram_encoder),
                )
            ]
            made = join_encoders(parts)
        else:
            made = make_encoder(encoder, paper_of(encoder), policy, rate)
            parts = [made]
        super().__init__(made, None, seed, **kwargs)
        policy = {"dtype": self.dtype_policy}
        self.crop = RandomCrop(self.segment_samples(seconds), pad="repeat")
        self.parts, self.names = parts, ["first", "second"]
        if encoder is None:
            self.names = list(PAPERS)
        self.projectors = [
            MLPHead(part.dim, *projection, name=f"projector_{name}", **policy)
            for part, name in zip(parts, self.names, strict=False)
        ]
        self.augmentations = self.layers_of(augmentations)
        self.retrieval, self.losses_of, self.std = (
            [keras.metrics.Mean(name=f"{name}_{what}") for name in self.names]
            for what in ("retrieval", "loss", "embedding_std")
        )

    def layers_of(self, given: Any) -> list[tuple[str, Any]]:
        """Pairs of a name and a layer, the paper's with the settings given."""
        rate, hop = self.encoder.sample_rate, 1
        for part in self.parts:
            hop = max(hop, part.frontend.hop_length)
        stretch = round(self.time_mask * rate)
        frames = stretch // hop
        bands = [
            Sometimes(SpecAugment(bins, wide, count=1))
            for bins, wide in ((0, frames), (self.freq_mask, 0))
            if bins or wide
        ]
        shift = self.freq_shift
        own = {
            "waveform_mix": [WaveformMix(*self.mix_beta)]
            if self.mix_beta
            else [],
            "silence": [Sometimes(Silence(stretch))] if stretch else [],
            "spec_augment": bands,
            "frequency_shift": [FrequencyShift(-shift, shift, "min")]
            if shift
            else [],
        }
        if isinstance(given, (str, Augmentation)):
            given = (given,)
        layers = []
        for item in given or ():
            found = own.get(item) if isinstance(item, str) else None
            if found is None:
                layer = AUGMENTATIONS.get(item, item) if item else item
                domain = getattr(layer, "domain", "features")
                found = make_augmentations((item,), domain)
            layers += [(item, layer) for layer in found]
        return layers

    def changed(
        self, x: Tensor, part: Encoder, domain: str, training: bool | None
    ) -> Tensor:
        """A crop, or its features, after the augmentations of a domain."""
        for name, layer in self.augmentations if training else ():
            # Spectrograms have stretches hidden by SpecAugment instead.
            apart = name == "silence" and not reads_waveform(part)
            if layer.domain == domain and not apart:
                x = layer(x, seed=self.seed_generator)
        return x

    def views(self, x: Batch, training: bool = False) -> list[Tensor]:
        """Features of the two crops, for the first and the second encoder."""
        views = []
        for part, batch in (
            (self.parts[0], x),
            (self.parts[-1], partners(x)),
        ):
            waveform, lengths = waveform_and_lengths(batch)
            crop = self.crop(
                waveform, lengths=lengths, seed=self.seed_generator
            )
            crop = self.changed(crop, part, "waveform", training)
            view = part.frontend(crop)
            if not reads_waveform(part):
                view = self.changed(view, part, "features", training)
            views.append(view)
        return views

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        first, second = self.views(x, training)
        return self.compare(first, second, training=training)

    def compare(
        self, first: Tensor, second: Tensor, training: bool = False
    ) -> dict[str, Tensor]:
        """The task on ready features of both crops; see `call`."""
        outputs = {}
        for name, view, part, projector in (
            ("first", first, self.parts[0], self.projectors[0]),
            ("second", second, self.parts[-1], self.projectors[-1]),
        ):
            clip = part.backbone(view, training=training)["clip"]
            z = projector(clip, training=training)
            outputs[name] = unit(ops.cast(z, "float32"))
            outputs[f"{name}_embedding"] = clip
        return outputs

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        first, second = self.compared(outputs["first"], outputs["second"])
        # Cosines: the vectors are of unit length.
        s = (first @ ops.transpose(second)) / self.temperature
        losses = []
        for i, (similarities, name) in enumerate(
            ((s, "first"), (ops.transpose(s), "second"))
        ):
            losses.append(row_cross_entropy(similarities))
            self.losses_of[i].update_state(losses[i])
            self.retrieval[i].update_state(contrastive_accuracy(similarities))
            self.std[i].update_state(
                embedding_std(outputs[f"{name}_embedding"])
            )
        if self.negatives == "all":
            # 2 N - 2 negatives, of which N - 1 are of the row's own format.
            return nt_xent(first, second, self.temperature)[0]
        # Of the other format alone, both ways: N - 1 negatives.
        return 0.5 * (losses[0] + losses[1])

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        steps = total_steps or self.TRAINING["paper"]["steps"]
        schedule = keras.optimizers.schedules.CosineDecay(
            self.learning_rate, steps, alpha=0.01
        )
        return keras.optimizers.Adam(schedule, epsilon=1e-8)

    def exports(self) -> dict[str, Encoder]:
        if len(self.parts) == 1:
            return super().exports()
        parts = dict(zip(self.names, self.parts, strict=True))
        return {"": self.encoder, **parts}

    def check_clips(self, waveform: Tensor, lengths: Tensor | None) -> None:
        super().check_clips(waveform, lengths)
        so = "both then cover the same sound, and the task is easier."
        self.warn_of_short(waveform, lengths, self.crop.length, "crops", so)


def reads_waveform(part: Encoder) -> bool:
    """Whether an encoder's backbone starts from samples."""
    return isinstance(part.frontend, Waveform)


def paper_of(encoder: EncoderLike) -> Any:
    """The paper's settings for what is given as the one encoder.

    Of waveforms where a backbone's name, or the one bin that it reads, says
    so; of log-mels otherwise.
    """
    name = encoder.get("backbone") if isinstance(encoder, dict) else encoder
    bins = getattr(encoder, "n_features", None)
    shape: Any = getattr(encoder, "input_shape", None) or ()
    if bins is None and len(shape) in (3, 4):
        bins = shape[2]
    if bins == 1 or (isinstance(name, str) and name in ON_WAVEFORMS):
        return PAPERS["waveform"]
    return PAPERS["spectrogram"]
