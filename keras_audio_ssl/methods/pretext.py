"""The base class of all methods: what a method says of its task."""

import functools
import warnings
from collections.abc import Callable
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import AugmentationsLike
from keras_audio_ssl.augment import altered
from keras_audio_ssl.augment import waveform_layers
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import Windowed
from keras_audio_ssl.encoders import make_encoder
from keras_audio_ssl.encoders import meaningful
from keras_audio_ssl.engine import KERAS_ARGUMENTS
from keras_audio_ssl.engine import Trained
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import front_ends


class PretextModel(Trained):
    """A pretext task around an encoder, trained with `fit` on waveforms.

    A method implements `call` (the task: masks, views, predictions; tensors
    with the batch first), `pretext_loss`, and where it needs them
    `after_update` and `default_optimizer`. Everything else is Keras:
    `compile()` without an optimizer takes the paper's.

    `fit` measures the statistics of front ends that normalise with them, on
    the first clips of the data, unless they were set before.

    Args:
        encoder: What the user gave for the encoder, see `make_encoder`; it is
            kept after pretraining.
        paper: The paper's encoder: a dict of `"backbone"`, `"frontend"` and
            arguments of both, which `encoder` overrides. None if `encoder`
            is an `Encoder`.
        seed: Integer, seed of all random draws of the task.
        sample_rate: Hz of the audio, in place of the paper's. Windows, hops
            and bands follow it, so that frames last as long as the paper's.
        window_frames: Feature frames of the segments of which the encoder
            makes a vector each; clips are then embedded by windows of as many
            (`Windowed`), unless `encoder` is an `Encoder` that has windows.
            None for whole clips.
        augmentation: What changes the clips of each training batch before the
            task sees them, all of its views and targets alike: a layer of
            waveforms `(batch, samples)`, any of Keras' or of `augment`, a
            name of `augment.AUGMENTATIONS`, or a list. None for nothing.

    Every method takes `sample_rate`, `augmentation` and `preset`, a key of its
    `PRESETS`: defaults for another size of model, which other arguments
    override.

    Call arguments:
        x: `(batch, samples)` float32 in [-1, 1] at the encoder's rate, or a
            dict with `"waveform"` and `"lengths"` `(batch,)`, in samples,
            and what else the data adds. Methods that compare two views of a
            clip make the second one of `"pair"`, if there is one: `(batch,
            samples)`, another sound for each clip, of the same length.

    Attributes:
        encoder: `(batch, samples)` to frames and clip vectors.
        updates: Variable, optimizer updates so far; schedules read it.
        skipped: Variable `(2,)`, batches that were skipped because their loss
            or gradients were not finite: in all, and in a row.
        seed_generator: The `keras.random.SeedGenerator` of all draws.
    """

    # The metric that tells the loss of a model that learnt nothing, such as
    # one that copies.
    baseline: str | None = None
    # Whether it learns from words: batches must hold `"segments"`.
    needs_segments: ClassVar[bool] = False
    # What its `augmentations=` change, "waveform" or "features"; None where
    # it takes none.
    augments: ClassVar[str | None] = None
    # Arguments of the constructor for models of other sizes, by name.
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {}}
    # How `pretrain` trains each size unless told: `seconds` (longest cut
    # that is read of a clip; None: whole clips), `batch_size`, `steps`.
    TRAINING: ClassVar[dict[str, dict[str, Any]]]

    def __init__(
        self,
        encoder: EncoderLike = None,
        paper: dict[str, Any] | FrontEnd | None = None,
        seed: int = 0,
        sample_rate: int | None = None,
        window_frames: int | None = None,
        augmentation: AugmentationsLike = None,
        **kwargs: Any,
    ) -> None:
        if strange := sorted(set(kwargs) - set(KERAS_ARGUMENTS)):
            name, value = strange[0], kwargs[strange[0]]
            raise ValueError(
                f"{type(self).__name__} takes no `{name}`. What belongs to "
                f"the encoder is given as encoder={{{name!r}: {value!r}}}."
            )
        super().__init__(**kwargs)
        made = make_encoder(encoder, paper, self.dtype_policy, sample_rate)
        if window_frames is not None:
            made = in_windows(made, window_frames)
        self.encoder = made
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.augmentation = waveform_layers(augmentation)

    @classmethod
    def beside(
        cls, preset: dict[str, Any], given: dict[str, Any]
    ) -> dict[str, Any]:
        """A preset's settings of an encoder, with those given in place."""
        return {**meaningful(preset, given), **given}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "call" in vars(cls):
            cls.call = on_altered(cls.call)
        super().__init_subclass__(**kwargs)

    def altered(self, x: Batch) -> Batch:
        """A batch as `augmentation` changes it."""
        waveform, lengths = waveform_and_lengths(x)

        def changed(waveform: Tensor) -> Tensor:
            return altered(
                self.augmentation, waveform, lengths, self.seed_generator
            )

        if not isinstance(x, dict):
            return changed(waveform)
        both = [name for name in ("waveform", "pair") if name in x]
        return {**x, **{name: changed(x[name]) for name in both}}

    # What a method may override.

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        """Scalar float32 loss of the task.

        Args:
            outputs: What `call` returned, floating tensors in float32.
            x: The batch as given to `fit`.
            y: Labels `(batch,)`, -1 where there is none, or None.
        """
        raise NotImplementedError

    def after_update(self) -> list[tuple[Any, Any]]:
        """Pairs (variable, new value), written after each optimizer update.

        Sees the updated weights on every backend. Not called for a batch
        that only accumulates gradients, nor for a skipped float16 overflow.
        """
        return []

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        """The paper's optimizer and schedule, for `compile()`.

        Args:
            total_steps: Updates of the run, over which warm-up and decay are
                spread; None for the paper's own number.
        """
        return keras.optimizers.Adam(getattr(self, "learning_rate", 1e-3))

    @property
    def min_samples(self) -> int:
        """Fewest samples of a clip that the task can learn from."""
        return self.encoder.min_samples

    def exports(self) -> dict[str, Encoder]:
        """The encoders that are kept: name to encoder, `""` for the first."""
        return {"": self.encoder}

    def clips(self, x: Batch) -> Batch:
        """What of a batch the front end's statistics are measured on.

        Returns:
            `(batch, samples)` or `{"waveform", "lengths"}`.
        """
        waveform_and_lengths(x)
        return x

    def check_clips(self, waveform: Tensor, lengths: Tensor | None) -> None:
        """Refuses, or warns of, data that the task can't learn from.

        Args:
            waveform: `(batch, samples)`, the first batch of `fit`.
            lengths: `(batch,)` samples, or None.

        Raises:
            ValueError: The batch has fewer clips than the method needs, or
                shorter ones.
        """
        name, (clips, samples) = type(self).__name__, waveform.shape
        if clips < self.min_batch:
            raise ValueError(
                f"{name} needs batches of at least {self.min_batch} clips. "
                f"Received: {clips}"
            )
        if samples < self.min_samples:
            seconds = self.min_samples / self.encoder.sample_rate
            raise ValueError(
                f"{name} needs clips of at least {self.min_samples} samples "
                f"({seconds:.3f} s). Received: {samples}"
            )

    def warn_of_short(
        self,
        waveform: Tensor,
        lengths: Tensor | None,
        samples: int,
        part: str,
        so: str,
    ) -> None:
        """Warns where half of the clips have no more than some samples.

        Args:
            waveform: As for `check_clips`.
            lengths: As for `check_clips`.
            samples: Those that the task takes of a clip.
            part: What they are called.
            so: What comes of it, a sentence.
        """
        typical = waveform.shape[1]
        if lengths is not None:
            typical = np.median(ops.convert_to_numpy(lengths))
        if typical <= samples:
            seconds = samples / self.encoder.sample_rate
            # At the line that called `fit`.
            warnings.warn(
                f"Most clips are no longer than the {part}, {seconds:g} s: "
                f"{so} Give longer clips, or shorter `seconds`.",
                stacklevel=5,
            )

    def segment_samples(self, seconds: float) -> int:
        """Samples of a segment, which the encoder must be able to take.

        Raises:
            ValueError: It is shorter than the encoder needs.
        """
        encoder = self.encoder
        samples = round(seconds * encoder.sample_rate)
        if samples < encoder.min_samples:
            least = encoder.min_samples / encoder.sample_rate
            raise ValueError(
                f"`seconds` must be at least {least:.3f} for this encoder. "
                f"Received: {seconds}"
            )
        return samples

    def unmeasured(self) -> list[Any]:
        """The front ends whose statistics `fit` is to measure first."""
        return [f for f in front_ends(self) if not f.adapted]


def on_altered(call: Callable[..., Any]) -> Callable[..., Any]:
    """A task that in training is given what `augmentation` made of clips."""

    @functools.wraps(call)
    def wrapped(self: Any, x: Batch, training: bool = False) -> Any:
        # Once: a class's `call` may use that of the class above it.
        if training and self.augmentation and type(self).call is wrapped:
            x = self.altered(x)
        return call(self, x, training=training)

    return wrapped


def in_windows(encoder: Encoder, frames: int) -> Encoder:
    """An encoder that reads clips by windows of so many feature frames.

    Args:
        encoder: `Encoder`; one that reads windows already stays as it is.
        frames: Feature frames of a window, from the beginning of one to that
            of the next.
    """
    if isinstance(encoder.backbone, Windowed):
        return encoder
    windows = Windowed(
        encoder.backbone, frames, inner_levels=True, short="refuse",
        dtype=encoder.backbone.dtype_policy,
    )  # fmt: skip
    return Encoder(encoder.frontend, windows)
