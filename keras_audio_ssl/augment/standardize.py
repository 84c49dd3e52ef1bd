"""Normalisation of whole batches, and by statistics that run along."""

from typing import Any

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer

EPSILON = 1.1920929e-07


def standardize_batch(x: Tensor) -> Tensor:
    """Subtracts the mean of all entries, divides by their deviation (n - 1).

    BYOL-A's post-norm, over both views together.

    Args:
        x: Tensor of any shape.

    Returns:
        Like `x`.

    Reference:
        Niizumi et al., 2021, arXiv 2103.06695, section III-D.
    """
    # In two steps: JAX adds up in a row, and long rows lose digits.
    mean = ops.mean(ops.mean(x, axis=-1))
    count = ops.cast(ops.size(x), "float32")
    variance = ops.mean(ops.mean(ops.square(x - mean), axis=-1))
    variance *= count / ops.maximum(count - 1.0, 1.0)
    return (x - mean) / ops.maximum(ops.sqrt(variance), EPSILON)


class RunningNorm(Layer):
    """Scalar statistics that are averaged along the first clips.

    BYOL-A v1's pre-norm: each clip adds its mean, and its mean square
    distance from the mean so far, to cumulative averages; after
    `max_clips` clips they stay.

    Args:
        max_clips: Clips that are averaged.

    Call arguments:
        x: `(batch, time, bins)`.
        training: Whether the statistics move.

    Returns:
        Like `x`; each clip is normalised by the statistics up to it.
    """

    def __init__(self, max_clips: int, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        for name in ("mean", "variance"):
            weight = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name=name
            )
            setattr(self, name, weight)
        self.clips = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="clips"
        )

    @property
    def std(self) -> Tensor:
        """Deviation so far, scalar tensor; 1 before the first clip."""
        std = ops.maximum(ops.sqrt(self.variance.value), EPSILON)
        return ops.where(self.clips.value > 0, std, 1.0)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        if not training:
            return (x - self.mean.value) / self.std
        seen = self.clips.value
        number = seen + 1.0 + ops.arange(ops.shape(x)[0], dtype="float32")
        counts = ops.minimum(number, float(self.max_clips))
        live = ops.cast(number <= self.max_clips, "float32")
        # Sums of differences: those of the values themselves lose digits.
        clip_means = mean_of_clips(x)
        start = ops.where(seen > 0, self.mean.value, clip_means[0])
        means = start + ops.cumsum(live * (clip_means - start)) / counts
        squares = mean_of_clips(ops.square(x - means[:, None, None]))
        start = ops.where(seen > 0, self.variance.value, squares[0])
        variances = start + ops.cumsum(live * (squares - start)) / counts
        self.mean.assign(means[-1])
        self.variance.assign(variances[-1])
        self.clips.assign(counts[-1])
        std = ops.maximum(ops.sqrt(variances), EPSILON)
        return (x - means[:, None, None]) / std[:, None, None]


class RunningMean(Layer):
    """Mean of each bin, averaged along the batches of training.

    Args:
        bins: Of the features.
        max_batches: Batches that it remembers: at first it is the mean of all
            so far, later newer ones count more.

    Call arguments:
        x: `(batch, ..., bins)`.
        training: Whether the mean moves.

    Returns:
        `(bins,)`, the mean so far; zeros before the first batch.
    """

    def __init__(
        self, bins: int, max_batches: int = 1000, **kwargs: Any
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.mean = self.add_weight(
            shape=(bins,), initializer="zeros", trainable=False, name="mean"
        )
        self.batches = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="batches"
        )

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        if training:
            batch = ops.mean(x, axis=tuple(range(len(x.shape) - 1)))
            count = ops.minimum(
                self.batches.value + 1.0, float(self.max_batches)
            )
            mean = self.mean.value
            self.mean.assign(mean + (batch - mean) / count)
            self.batches.assign(count)
        return self.mean.value


def mean_of_clips(x: Tensor) -> Tensor:
    """Mean of each clip, `(batch, time, bins)` to `(batch,)`."""
    # Corrected once: JAX adds up in a row, and long rows lose digits.
    mean = ops.mean(x, axis=(1, 2))
    return mean + ops.mean(x - mean[:, None, None], axis=(1, 2))
