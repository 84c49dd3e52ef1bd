"""LIM: two chunks of one utterance are told from chunks of two."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import RandomCrop
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import Windowed
from keras_audio_ssl.encoders import window_of
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import count_classes
from keras_audio_ssl.engine import of_both
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.features import scale_amplitude
from keras_audio_ssl.losses import bce_information
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import labelled_cross_entropy
from keras_audio_ssl.losses import mine_information
from keras_audio_ssl.losses import nce_information
from keras_audio_ssl.methods.pretext import PretextModel

OBJECTIVES = {
    "bce": bce_information,
    "mine": mine_information,
    "nce": nce_information,
}
OPTIMIZERS = {
    # Keras adds its epsilon inside the root, the release 1e-8 outside.
    "rmsprop": (keras.optimizers.RMSprop, {"rho": 0.95, "epsilon": 1e-16}),
    "adam": (keras.optimizers.Adam, {}),
}


class LIM(PretextModel):
    """Local info max: speaker vectors by mutual information.

    Two random chunks of an utterance are a pair, one of them and a chunk of
    another utterance of the batch are none. Encoder and discriminator learn
    together to tell them apart.

    Args:
        encoder: Settings that override the paper's, `SincNet` on the front
            end `"lim"`: `{"norm": "time"}`, `{"sample_rate": 8000}`; or an
            `Encoder`, a `Backbone` or a Keras model on waveforms.
        objective: `"bce"`, `"mine"` or `"nce"`.
        seconds: Length of a chunk. Shorter utterances are repeated.
        gain: In training a chunk is multiplied by a number between 1 - gain
            and 1 + gain.
        disc_hidden: Width of the discriminator's hidden layer.
        symmetric: Whether a pair's score is the mean over both orders; in the
            paper it has one.
        classes: Names of the speakers that `fit` gets labels of, or their
            number, for the semi-supervised
            variant: a softmax on the first chunk's embedding learns them
            beside the pretext task. Clips without a label have -1. None for
            no labels.
        label_weight: Of their cross-entropy in the loss.
        gather_negatives: Whether the replicas of `tf.distribute` see each
            other's clips, or each its own; see `compared`.
        learning_rate: Of the optimizer.
        optimization: `"rmsprop"`, as SincNet's release, or `"adam"`.
        clip_norm: Largest global norm of the gradient; None for 5 with
            `"mine"`, whose scores may grow without end, and for none else.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of chunks, gains and negatives.

    Call arguments:
        x: `(batch, samples)`, or `{"waveform", "lengths"}`, or `{"first",
            "second"}` of `(batch, samples of a chunk)` ready chunks.

    Returns:
        Dict of `"positive"` and `"negative"`, scores `(batch,)`,
        `"embedding"` `(batch, dim)`, and with classes `"logits"` `(batch,
        classes)`.

    Raises:
        ValueError: The encoder takes chunks of another length.

    Reference:
        Ravanelli & Bengio, 2019, "Learning Speaker Representations with
        Mutual Information", arXiv 1812.00271.
    """

    min_batch = 2
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {
                "sinc": (16, 101),
                "sinc_stride": 4,
                "conv": ((16, 5), (16, 5)),
                "dense": (64,),
            },
            "seconds": 0.1,
            "disc_hidden": 64,
            "optimization": "adam",
        },
    }
    TRAINING: ClassVar = {
        # An epoch is 800 batches; how many there were is not told.
        "paper": {"batch_size": 128, "seconds": None, "steps": 80_000},
        "tiny": {"batch_size": 64, "seconds": 2.0, "steps": 1500},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        objective: str = "bce",
        seconds: float = 0.2,
        gain: float = 0.2,
        disc_hidden: int = 256,
        symmetric: bool = False,
        classes: int | Sequence[str] | None = None,
        label_weight: float = 1.0,
        gather_negatives: bool = False,
        learning_rate: float = 1e-3,
        optimization: str = "rmsprop",
        clip_norm: float | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("objective", objective, OBJECTIVES)
        check_choice("optimization", optimization, OPTIMIZERS)
        if not 0 <= gain < 1:
            raise ValueError(f"`gain` must be in [0, 1). Received: {gain}")
        speakers = count_classes(classes)
        paper: dict[str, Any] = {"backbone": "sincnet", "frontend": "lim"}
        rate = kwargs.get("sample_rate") or 16000
        if isinstance(encoder, dict):
            rate = encoder.get("sample_rate", rate)
        paper["chunk"] = round(seconds * rate)
        super().__init__(encoder, paper, seed, **kwargs)
        samples = self.segment_samples(seconds)
        self.network = chunk_network(self.encoder, samples)
        self.crop = RandomCrop(samples, pad="repeat")
        self.scaled = self.encoder.frontend.amplitude is not None
        policy = {"dtype": self.dtype_policy}
        self.hidden = keras.layers.Dense(
            disc_hidden, "relu", name="hidden", **policy
        )
        self.hidden.build((None, 2 * self.encoder.dim))
        self.score = keras.layers.Dense(1, name="score", **policy)
        self.score.build((None, disc_hidden))
        self.accuracy = keras.metrics.Mean(name="pair_accuracy")
        self.std = keras.metrics.Mean(name="embedding_std")
        self.classifier = None
        if speakers is not None:
            self.classifier = keras.layers.Dense(
                speakers, name="classifier", **policy
            )
            self.classifier.build((None, self.encoder.dim))
            self.label_accuracy = keras.metrics.Mean(name="label_accuracy")

    @classmethod
    def usual(
        cls, preset: dict[str, Any], given: dict[str, Any]
    ) -> dict[str, Any]:
        # A preset's chunks are those of its own encoder.
        encoder: Any = given.get("encoder")
        if samples := window_of(encoder):
            return {**preset, "seconds": samples / encoder.sample_rate}
        return preset

    def chunks(self, x: Batch, training: bool = False) -> Tensor:
        """Two chunks of each utterance, scaled as the whole of it.

        Returns:
            `(2 * batch, samples)`, first chunks first.
        """
        seed = self.seed_generator
        if isinstance(x, dict) and "first" in x:
            chunks = ops.concatenate([x["first"], x["second"]], axis=0)
        else:
            (first, lengths), (second, _) = of_both(self.utterances, x)
            twice = ops.concatenate([first, second], axis=0)
            if lengths is not None:
                lengths = ops.concatenate([lengths, lengths], axis=0)
            chunks = self.crop(twice, lengths=lengths, seed=seed)
        if training and self.gain:
            gain = keras.random.uniform(
                (ops.shape(chunks)[0], 1), 1 - self.gain, 1 + self.gain,
                seed=seed,
            )  # fmt: skip
            chunks = gain * chunks
        return chunks

    def utterances(self, x: Batch) -> tuple[Tensor, Tensor | None]:
        """Waveforms scaled as the front end scales them, and lengths."""
        waveform, lengths = waveform_and_lengths(x)
        if self.scaled:
            frontend = self.encoder.frontend
            waveform = scale_amplitude(
                waveform,
                frontend.amplitude,
                lengths,
                frontend.amplitude_samples,
            )
        return waveform, lengths

    def others(self, batch: Size) -> Tensor:
        """For each utterance another one of the batch, `(batch,)` int32."""
        uniform = keras.random.uniform((batch,), seed=self.seed_generator)
        free = ops.cast(batch - 1, "float32")
        step = ops.cast(ops.floor(uniform * free), "int32")
        # 1 to batch - 1 places further on: never itself.
        step = 1 + ops.minimum(step, ops.cast(batch - 2, "int32"))
        return (ops.arange(batch, dtype="int32") + step) % batch

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        chunks = self.chunks(x, training)
        features = self.encoder.frontend(chunks, scaled=self.scaled)
        z = self.network(features, training=training)["clip"]
        first, second = ops.split(z, 2)
        # z_rand of the negatives: the second chunk of another utterance.
        others = self.others(ops.shape(first)[0])
        return self.compare(first, second, ops.take(second, others, axis=0))

    def compare(
        self, first: Tensor, second: Tensor, other: Tensor
    ) -> dict[str, Tensor]:
        """Scores of ready embeddings `(batch, dim)`; see `call`."""
        outputs = {
            "positive": self.scores(first, second),
            "negative": self.scores(first, other),
            "embedding": first,
        }
        if self.classifier is not None:
            outputs["logits"] = self.classifier(first)
        return outputs

    def scores(self, a: Tensor, b: Tensor) -> Tensor:
        """The discriminator's raw score of each pair, `(batch,)`."""

        def ordered(a: Tensor, b: Tensor) -> Tensor:
            both = ops.concatenate([a, b], axis=-1)
            return self.score(self.hidden(both))[:, 0]

        if self.symmetric:
            return 0.5 * (ordered(a, b) + ordered(b, a))
        return ordered(a, b)

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        positive, negative = self.compared(
            outputs["positive"], outputs["negative"]
        )
        # 0.5 by chance.
        right = 0.5 * (
            ops.mean(ops.cast(positive > 0, "float32"))
            + ops.mean(ops.cast(negative < 0, "float32"))
        )
        self.accuracy.update_state(right)
        self.std.update_state(embedding_std(outputs["embedding"]))
        loss = OBJECTIVES[self.objective](positive, negative)
        if self.classifier is not None and y is not None:
            y = ops.reshape(ops.cast(y, "int32"), (-1,))
            logits = outputs["logits"]
            hit = ops.cast(ops.argmax(logits, axis=1), "int32") == y
            self.label_accuracy.update_state(hit, y >= 0)
            loss += self.label_weight * labelled_cross_entropy(logits, y)
        return loss

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        optimizer, settings = OPTIMIZERS[self.optimization]
        norm = self.clip_norm
        # Its bound has no ceiling, and scores may run away.
        if norm is None and self.objective == "mine":
            norm = 5.0
        return optimizer(self.learning_rate, global_clipnorm=norm, **settings)

    def check_clips(self, waveform: Tensor, lengths: Tensor | None) -> None:
        super().check_clips(waveform, lengths)
        so = "both chunks are then the same and there is little to learn."
        self.warn_of_short(waveform, lengths, self.crop.length, "chunk", so)

    def clips(self, x: Batch) -> Batch:
        if isinstance(x, dict) and "first" in x:
            return ops.concatenate([x["first"], x["second"]], axis=-1)
        return super().clips(x)


def chunk_network(encoder: Any, samples: int) -> Any:
    """The backbone that reads one chunk, where a clip is read as several.

    Args:
        encoder: `Encoder`.
        samples: Of a chunk.

    Raises:
        ValueError: It takes chunks of another length.
    """
    backbone = encoder.backbone
    if not isinstance(backbone, Windowed):
        return backbone
    fixed = getattr(backbone.backbone, "norm", None) == "sincnet"
    if fixed and backbone.frames != samples:
        # In a setting that the user can give.
        right, given = (
            n / encoder.sample_rate for n in (backbone.frames, samples)
        )
        raise ValueError(
            f"`seconds` must be {right:g}, as long as the encoder's chunks, "
            f"of {backbone.frames} samples. Received: seconds={given:g}"
        )
    return backbone.backbone
