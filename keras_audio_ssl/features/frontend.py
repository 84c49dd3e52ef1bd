"""The base of all front ends: waveform in, features out."""

from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.features.statistics import AMPLITUDES
from keras_audio_ssl.features.statistics import RunningMoments
from keras_audio_ssl.features.statistics import deltas
from keras_audio_ssl.features.statistics import scale_amplitude
from keras_audio_ssl.features.statistics import utterance_norm

NORMALIZATIONS = (None, "utterance", "utterance_mean", "scalar", "per_bin")

# Epsilon of float32: the smallest deviation that BYOL-A's code allows.
MIN_STD = 1.1920929e-07


class FrontEnd(Layer):
    """Base class: turns waveforms into features, inside the graph.

    Works in float32 whatever the dtype policy, and is differentiable. With
    `lengths`, each valid frame is what the clip gives alone, whatever its
    neighbours in the batch, and frames past its end are exact zeros.

    A subclass implements `extract(waveform, lengths)`, which returns
    `(batch, time, n_bins)`, and `count_frames(samples)`.

    Args:
        sample_rate: Hz.
        hop_length: Samples between frames.
        n_bins: Features of a frame, before deltas.
        min_samples: Fewest samples that give one frame.
        amplitude: What each clip is scaled to, default None: as it is. `"l2"`,
            `"rms"`, `"peak"`, `"centred_peak"`: see `scale_amplitude`.
        amplitude_samples: For `"l2"`, the length at which the norm is 1;
            longer clips have it in as many samples on average. None: at any
            length.
        deltas: How many orders of deltas are appended, default 0; up to 2.
        normalize: Default None. `"utterance"`: each clip by the mean and
            deviation of its own frames; `"utterance_mean"`: by the mean only;
            `"scalar"`: one mean and deviation measured by `adapt`;
            `"per_bin"`: one pair for each feature.
        mean: Mean for `"scalar"` (a number) or `"per_bin"` (a list), if known.
        std: Standard deviation, likewise; given together with `mean`.
        norm_epsilon: Added to the deviation in `"utterance"`, default 1e-10.
        norm_ddof: 1 (default, s3prl) divides by N - 1, 0 by N.
        **kwargs: `name`, `trainable`.

    Call arguments:
        waveform: float tensor `(batch, samples)`.
        lengths: int tensor `(batch,)`, valid samples of each clip; all if
            None.
        scaled: Whether the waveform is scaled as `amplitude` says already.

    Returns:
        A float32 tensor `(batch, time, n_features)`.

    Raises:
        ValueError: For a waveform that is not `(batch, samples)`, is not
            floating point, or is shorter than `min_samples`.

    Example:
        >>> frontend = kas.features.recipe("cola")
        >>> tuple(frontend(np.zeros((2, 16000), "float32")).shape)
        (2, 98, 64)
    """

    RENAMED: ClassVar = {
        "level": "amplitude",
        "level_samples": "amplitude_samples",
    }

    def __init__(
        self,
        sample_rate: int,
        hop_length: int,
        n_bins: int,
        min_samples: int,
        amplitude: str | None = None,
        amplitude_samples: int | None = None,
        deltas: int = 0,
        normalize: str | None = None,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        norm_epsilon: float = 1e-10,
        norm_ddof: int = 1,
        **kwargs: Any,
    ) -> None:
        # Half precision has no room for the range of a power spectrum.
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        _check_positive("sample_rate", sample_rate)
        _check_positive("hop_length", hop_length)
        check_choice("amplitude", amplitude, AMPLITUDES)
        if amplitude_samples is not None:
            _check_positive("amplitude_samples", amplitude_samples)
            check_choice("amplitude", amplitude, ("l2",))
        check_choice("deltas", deltas, (0, 1, 2))
        check_choice("normalize", normalize, NORMALIZATIONS)
        check_choice("norm_ddof", norm_ddof, (0, 1))
        self.frame_rate = sample_rate / hop_length
        self.n_features = n_bins * (1 + deltas)
        self._given = (_plain(mean), _plain(std))
        self._add_statistics()
        self._raw = backend.as_one(self._raw_features)

    @property
    def frequencies(self) -> np.ndarray | None:
        """Hz at the middle of each bin, `(n_bins,)`; None where it has none."""
        return None

    def extract(self, waveform: Tensor, lengths: Tensor | None = None) -> Any:
        """Features before deltas and normalisation.

        Args:
            waveform: Tensor `(batch, samples)`, scaled as `amplitude` says,
                zero past each clip's end.
            lengths: int tensor `(batch,)` in samples, or None.

        Returns:
            A tensor `(batch, time, n_bins)`; padded frames may hold anything.
        """
        raise NotImplementedError

    def count_frames(self, samples: Size) -> Size:
        """Frames of a clip of at least `min_samples` samples."""
        raise NotImplementedError

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Valid frames of clips.

        Args:
            lengths: Samples; an int, an array or a tensor.

        Returns:
            int32 of the same shape: a tensor for a tensor, else numpy. Zero
            where the clip is shorter than `min_samples`.
        """
        if ops.is_tensor(lengths):
            samples = ops.cast(lengths, "int32")
            frames = self.count_frames(ops.maximum(samples, self.min_samples))
            return ops.where(
                samples >= self.min_samples, ops.cast(frames, "int32"), 0
            )
        samples = np.asarray(lengths).astype("int32")
        frames = self.count_frames(np.maximum(samples, self.min_samples))
        return np.where(samples >= self.min_samples, frames, 0).astype("int32")

    def unnormalized(
        self, waveform: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        """Features before the normalisation; arguments as for a call."""
        x = self._check_waveform(waveform)
        return self._raw(x, self._check_lengths(lengths))[0]

    def call(
        self,
        waveform: Tensor,
        lengths: Tensor | None = None,
        scaled: bool = False,
    ) -> Tensor:
        x = self._check_waveform(waveform)
        lengths = self._check_lengths(lengths)
        return self.normalized(*self._raw(x, lengths, scaled=scaled))

    def normalized(self, x: Tensor, frames: Size | None = None) -> Tensor:
        """Features as `normalize` says, of features that are not.

        Args:
            x: `(batch, time, n_features)`, what `unnormalized` gives, or what
                a method has made of it.
            frames: int tensor `(batch,)`, valid frames; all if None.

        Returns:
            Like `x`; zeros past each clip's end.
        """
        if self.normalize in ("utterance", "utterance_mean"):
            return utterance_norm(
                x,
                frames,
                self.norm_epsilon,
                self.norm_ddof,
                scale=self.normalize == "utterance",
            )
        if self.normalize is not None:
            std = ops.maximum(self.std.value, MIN_STD)
            x = (x - self.mean.value) / std
        if frames is not None:
            mask = frame_mask(frames, ops.shape(x)[1])
            x = ops.where(mask[:, :, None], x, 0.0)
        return x

    def adapt(self, batches: Any, max_clips: int = 10000) -> None:
        """Measures the mean and deviation for `"scalar"` or `"per_bin"`.

        Args:
            batches: Iterable of waveforms `(batch, samples)`, or of dicts
                with `"waveform"` and optional `"lengths"`, or of tuples whose
                first entry is such a batch.
            max_clips: How many clips to measure at most, default 10000
                (BYOL-A).

        Raises:
            ValueError: If there is nothing to measure, or nothing finite.
        """
        if self.normalize not in ("scalar", "per_bin"):
            raise ValueError(
                "`adapt` needs `normalize='scalar'` or 'per_bin'. "
                f"Received: normalize={self.normalize!r}"
            )
        moments = RunningMoments(per_bin=self.normalize == "per_bin")
        clips = 0
        for batch in batches:
            if clips >= max_clips:
                break
            if isinstance(batch, (tuple, list)):
                batch = batch[0]
            lengths = None
            if isinstance(batch, dict):
                batch, lengths = batch["waveform"], batch.get("lengths")
            keep = max_clips - clips
            x = ops.convert_to_tensor(self._check_waveform(batch)[:keep])
            if lengths is not None:
                lengths = self._check_lengths(lengths)[:keep]
            x, frames = self._raw(x, lengths)
            x = ops.convert_to_numpy(x)
            if frames is None:
                moments.update(x.reshape(-1, x.shape[-1]))
            else:
                frames = np.asarray(ops.convert_to_numpy(frames))
                moments.update(x[np.arange(x.shape[1]) < frames[:, None]])
            clips += len(x)
        if not moments.count:
            raise ValueError("`adapt` received no frame to measure.")
        if not np.all(np.isfinite(moments.std)):
            raise ValueError(
                "`adapt` received waveforms with values that are not finite."
            )
        self.mean.assign(moments.mean)
        self.std.assign(moments.std)
        self.measured.assign(1.0)

    @property
    def adapted(self) -> bool:
        """Whether the statistics were given or measured (or not needed)."""
        if self.normalize not in ("scalar", "per_bin"):
            return True
        return bool(ops.convert_to_numpy(self.measured.value) > 0)

    def compute_output_shape(
        self, waveform_shape: Sequence[Any], lengths_shape: Any = None
    ) -> Any:
        batch, samples = waveform_shape
        frames = None
        if samples is not None:
            frames = int(self.frame_lengths(samples))
        return (batch, frames, self.n_features)

    def compute_output_spec(
        self,
        waveform: Tensor,
        lengths: Tensor | None = None,
        scaled: bool = False,
    ) -> Any:
        self._check_waveform(waveform)
        shape = self.compute_output_shape(waveform.shape)
        return keras.KerasTensor(shape, dtype="float32")

    def _add_statistics(self) -> None:
        mean, std = self._given
        if (mean is None) != (std is None):
            raise ValueError(
                "`mean` and `std` must be given together. "
                f"Received: {mean=}, {std=}"
            )
        if self.normalize not in ("scalar", "per_bin"):
            if mean is not None:
                raise ValueError(
                    "`mean` and `std` need `normalize='scalar'` or 'per_bin'. "
                    f"Received: normalize={self.normalize!r}"
                )
            return
        shape = (self.n_features,) if self.normalize == "per_bin" else ()
        for label, value in (("mean", mean), ("std", std)):
            if value is not None and np.shape(value) != shape:
                raise ValueError(
                    f"`{label}` must have the shape {shape}. "
                    f"Received: {label}={value}"
                )
        if std is not None and not np.all(np.asarray(std) > 0):
            raise ValueError(f"`std` must be positive. Received: {std=}")
        for label, value, default in (
            ("mean", mean, 0.0),
            ("std", std, 1.0),
            ("measured", None if mean is None else 1.0, 0.0),
        ):
            weight = self.add_weight(
                shape=() if label == "measured" else shape,
                initializer="zeros",
                trainable=False,
                # Also where a method in half precision asks for `normalized`.
                autocast=False,
                name=label,
                dtype="float32",
            )
            start = default if value is None else value
            weight.assign(np.broadcast_to(np.float32(start), weight.shape))
            setattr(self, label, weight)

    def _check_waveform(self, waveform: Tensor) -> Tensor:
        shape = tuple(waveform.shape)
        if len(shape) != 2:
            raise ValueError(
                "A waveform must have the shape (batch, samples). "
                f"Received: shape {shape}"
            )
        if not keras.backend.is_float_dtype(waveform.dtype):
            raise ValueError(
                "A waveform must be floating point, in [-1, 1]. Received: "
                f"dtype {keras.backend.standardize_dtype(waveform.dtype)}"
            )
        if isinstance(shape[1], int) and shape[1] < self.min_samples:
            raise ValueError(
                f"A waveform must have at least {self.min_samples} samples "
                f"({self.min_samples / self.sample_rate:.3g} s) for one "
                f"frame. Received: shape {shape}"
            )
        return waveform

    def _check_lengths(self, lengths: Tensor | None) -> Any:
        if lengths is None:
            return None
        lengths = ops.cast(ops.convert_to_tensor(lengths), "int32")
        if len(lengths.shape) != 1:
            raise ValueError(
                "`lengths` must have the shape (batch,). "
                f"Received: shape {tuple(lengths.shape)}"
            )
        return lengths

    def _raw_features(
        self,
        waveform: Tensor,
        lengths: Tensor | None,
        *,
        scaled: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        x = ops.cast(waveform, "float32")
        frames = None
        if lengths is not None:
            lengths = ops.minimum(lengths, ops.shape(x)[1])
            frames = self.frame_lengths(lengths)
            # Not a product: whatever lies past the end, even NaN, is gone.
            x = ops.where(frame_mask(lengths, ops.shape(x)[1]), x, 0.0)
        if self.amplitude is not None and not scaled:
            x = scale_amplitude(
                x, self.amplitude, lengths, self.amplitude_samples
            )
        x = self.extract(x, lengths)
        if self.deltas:
            orders = [x]
            for _ in range(self.deltas):
                orders.append(deltas(orders[-1], frames))
            x = ops.concatenate(orders, axis=-1)
        return x, frames


def front_ends(model: Any) -> list[Any]:
    """All front ends in a model, in the order in which they were made.

    Args:
        model: Keras model or layer.

    Returns:
        List of `FrontEnd`.
    """
    return [x for x in model._flatten_layers() if isinstance(x, FrontEnd)]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    return np.asarray(value, "float64").tolist()


def _check_positive(label: str, value: float) -> None:
    if not value > 0:
        raise ValueError(
            f"`{label}` must be positive. Received: {label}={value}"
        )
