"""Other clips of the batch, mixed in."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.draws import between
from keras_audio_ssl.augment.draws import masked
from keras_audio_ssl.augment.protocol import Augmentation


def mix_back(
    fore: Tensor, back: Tensor, alpha: Tensor, base: float = 10.0
) -> Tensor:
    """Mixes a quiet background into log features, and keeps their energy.

    `(1 - alpha) f + alpha (E_f / E_b) b` of the powers: the background has
    `alpha` of the mixture's energy, whatever its own level.

    Args:
        fore: `(batch, time, bins)`, logarithms of powers.
        back: The same, of other sounds.
        alpha: `(batch,)`.
        base: Of the logarithms.

    Returns:
        Like `fore`.

    Reference:
        Fonseca et al., 2021, "Unsupervised Contrastive Learning of Sound
        Event Representations", arXiv 2011.07616, section 2.2.
    """
    unit = math.log(base)
    # In units of the largest bin: powers of ten overflow, and their sum too.
    top = ops.max(fore, axis=(1, 2), keepdims=True)
    f = ops.exp(unit * (fore - top))
    b = ops.exp(unit * (back - ops.max(back, axis=(1, 2), keepdims=True)))
    alpha = alpha[:, None, None]
    # E_fore / E_back: the background is brought to the same energy.
    share = ops.sum(f, axis=(1, 2), keepdims=True)
    share = share / ops.sum(b, axis=(1, 2), keepdims=True)
    mixed = (1.0 - alpha) * f + alpha * share * b
    return top + ops.log(ops.maximum(mixed, 1e-37)) / unit


def other_clips(batch: Size, views: int = 1, seed: Seed = None) -> Tensor:
    """Which clip of a batch each is mixed with, never itself.

    The batch is rolled by a random shift, another one for each view where
    there are clips enough.

    Args:
        batch: Rows, of all views.
        views: Of each clip, one after the other.
        seed: `keras.random.SeedGenerator`.

    Returns:
        `(batch,)` int32, rows.
    """
    clips = batch // views
    # Shifts that differ, and are not 0: the first and steps beyond it.
    u = keras.random.uniform((), seed=seed)
    free = ops.cast(ops.maximum(clips - 1, 1), "int32")
    first = ops.cast(u * ops.cast(free, "float32"), "int32")
    first = ops.minimum(first, free - 1)
    place = ops.arange(batch, dtype="int32")
    view, clip = place // clips, place % clips
    shift = 1 + (first + view) % free
    # Within its own view, `shift` clips further.
    return view * clips + (clip + shift) % clips


class MixBack(Augmentation):
    """Mixes another clip of the batch in as a quiet background.

    Args:
        alpha: Largest share of the background's energy.
        base: Of the features' logarithm: 10, or e.
        views: Of each clip that the batch holds, all first ones first. The
            views of a clip have one share, and different backgrounds.

    A batch of one clip stays as it is.

    Raises:
        ValueError: `alpha` is not in [0, 1), or `base` no base.

    Reference:
        Fonseca et al., 2021, arXiv 2011.07616.
    """

    domain = "features"
    takes_lengths = False

    def __init__(
        self,
        alpha: float = 0.05,
        base: float = 10.0,
        views: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= alpha < 1:
            raise ValueError(f"`alpha` must be in [0, 1). Received: {alpha}")
        if base <= 1 or views < 1:
            raise ValueError(
                "`base` must be more than 1 and `views` positive. "
                f"Received: base={base}, views={views}"
            )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        share = between((shape[0] // self.views,), 0.0, self.alpha, seed)
        source = other_clips(shape[0], self.views, seed)
        return {"alpha": ops.tile(share, (self.views,)), "source": source}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        alpha: Tensor,
        source: Tensor,
    ) -> Tensor:
        back = ops.take(x, source, axis=0)
        return mix_back(x, back, alpha, self.base)


class WaveformMix(Augmentation):
    """Adds another clip of the batch: `share * own + (1 - share) * other`.

    The share is drawn from a beta distribution.

    Args:
        a: Its first parameter, a whole number.
        b: Its second; by default the share of the own clip is 0.71 on average.

    Raises:
        ValueError: They are no positive whole numbers.

    Reference:
        Wang & van den Oord, 2021, "Multi-Format Contrastive Learning of Audio
        Representations", arXiv 2103.06508.
    """

    domain = "waveform"

    def __init__(self, a: int = 5, b: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if min(a, b) < 1 or int(a) != a or int(b) != b:
            raise ValueError(
                "`a` and `b` must be positive whole numbers. "
                f"Received: a={a}, b={b}"
            )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        # The a-th smallest of a + b - 1 uniform numbers has it, and needs no
        # gamma distribution, which XLA has none of under TensorFlow.
        many = (shape[0], int(self.a + self.b - 1))
        order = ops.sort(keras.random.uniform(many, seed=seed), axis=1)
        share = order[:, int(self.a) - 1]
        return {"share": share, "source": other_clips(shape[0], 1, seed)}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        share: Tensor,
        source: Tensor,
    ) -> Tensor:
        share = share[:, None]
        mixed = share * x + (1.0 - share) * ops.take(x, source, axis=0)
        return masked(mixed, lengths)
