"""Windows, padding at a clip's own ends, and frames."""

import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor

WINDOWS = ("hann", "hamming", "hamming_symmetric", "povey")
PAD_MODES = ("reflect", "constant")


def window_function(name: str, length: int) -> np.ndarray:
    """An analysis window.

    Args:
        name: `"hann"` or `"hamming"` (periodic), `"hamming_symmetric"`, or
            `"povey"` (Kaldi's symmetric Hann to the power 0.85).
        length: Samples.

    Returns:
        A float64 array `(length,)`.

    Raises:
        ValueError: For an unknown name or a length that is not positive.

    Example:
        >>> kas.features.window_function("hann", 4).round(6).tolist()
        [0.0, 0.5, 1.0, 0.5]
    """
    if name not in WINDOWS:
        raise ValueError(
            f"`window` must be one of {WINDOWS}. Received: window={name!r}"
        )
    if length < 1:
        raise ValueError(
            f"A window needs at least one sample. Received: {length=}"
        )
    symmetric = name in ("hamming_symmetric", "povey")
    period = max(length - 1, 1) if symmetric else length
    cosine = np.cos(2 * np.pi * np.arange(length) / period)
    if name.startswith("hamming"):
        return 0.54 - 0.46 * cosine
    hann = 0.5 - 0.5 * cosine
    return hann**0.85 if name == "povey" else hann


def frame_signal(
    x: Tensor, frame_length: int, hop_length: int, frames: Size | None = None
) -> Tensor:
    """Cuts a signal into overlapping frames.

    Args:
        x: Tensor `(batch, samples)`.
        frame_length: Samples in a frame.
        hop_length: Samples between the starts of two frames.
        frames: How many frames to cut; the signal counts as zero past its
            end. All that fit if None.

    Returns:
        A tensor `(batch, frames, frame_length)`.

    Raises:
        ValueError: If a length is not positive, or no frame fits.

    Example:
        >>> tuple(kas.features.frame_signal(np.zeros((2, 900)), 400, 160).shape)
        (2, 4, 400)
    """
    for label, value in (("frame", frame_length), ("hop", hop_length)):
        if value < 1:
            raise ValueError(
                f"`{label}_length` must be positive. "
                f"Received: {label}_length={value}"
            )
    x = ops.convert_to_tensor(x)
    samples = ops.shape(x)[1]
    if frames is None:
        if isinstance(samples, int) and samples < frame_length:
            raise ValueError(
                f"No frame of {frame_length} samples fits. "
                f"Received: shape {tuple(x.shape)}"
            )
        frames = 1 + (samples - frame_length) // hop_length
    else:
        short = (frames - 1) * hop_length + frame_length - samples
        # The last frame starts within the signal, so a frame of zeros does.
        short = short if isinstance(short, int) else frame_length
        if short > 0:
            x = ops.pad(x, ((0, 0), (0, short)))
    return backend.sliding_frames(x, frame_length, hop_length, frames)


def reflect_index(position: Tensor, samples: Size) -> Tensor:
    """Index into a clip of a position before its start or past its end.

    The clip is mirrored at its first and last sample, as often as it takes,
    so that any clip can be padded by any amount.

    Args:
        position: int tensor of positions.
        samples: Length of the clip; a number, or a tensor that broadcasts.

    Returns:
        Indices in `[0, samples)`, of the broadcast shape.

    Example:
        >>> [int(i) for i in kas.features.reflect_index(np.arange(-2, 5), 3)]
        [2, 1, 0, 1, 2, 1, 0]
    """
    position = ops.cast(position, "int32")
    last = ops.maximum(ops.cast(samples, "int32") - 1, 0)
    period = ops.maximum(2 * last, 1)
    folded = ops.mod(position, period)
    return ops.minimum(ops.minimum(folded, 2 * last - folded), last)


def pad_reflect(
    x: Tensor, left: int, right: int, lengths: Tensor | None = None
) -> Tensor:
    """Pads clips with their own mirror image.

    Args:
        x: Tensor `(batch, samples)`.
        left: Samples to add before the start.
        right: Samples to add past the end.
        lengths: int tensor `(batch,)`, valid samples of each clip: the mirror
            then stands at each clip's own end. All samples if None.

    Returns:
        A tensor `(batch, left + samples + right)`. With `lengths`, what lies
        more than `right` samples past a clip's end is as it was.

    Example:
        >>> x = kas.features.pad_reflect(np.array([[1.0, 2.0, 3.0]]), 2, 1)
        >>> [float(v) for v in x[0]]
        [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]
    """
    x = ops.convert_to_tensor(x)
    batch, samples = ops.shape(x)
    if lengths is None:
        if backend.is_known(samples) and samples > max(left, right):
            return ops.pad(x, ((0, 0), (left, right)), mode="reflect")
        before = ops.take(x, reflect_index(_range(-left, 0), samples), axis=1)
        after = reflect_index(_range(0, right) + samples, samples)
        after = ops.take(x, after, axis=1)
        return ops.concatenate([before, x, after], axis=1)
    # Only the edges are gathered: all of a clip costs more than its features.
    flat = ops.reshape(x, (-1,))
    row = ops.arange(batch, dtype="int32")[:, None]
    ends = lengths[:, None]
    head = reflect_index(_range(-left, 0)[None], ends)
    head = ops.take(flat, row * samples + head, axis=0)
    after = ends + _range(0, right)[None]
    tail = ops.take(flat, row * samples + reflect_index(after, ends), axis=0)
    padded = ops.concatenate([head, x, ops.zeros_like(tail)], axis=1)
    total = left + samples + right
    place = ops.reshape(row * total + left + after, (-1, 1))
    padded = ops.scatter_update(
        ops.reshape(padded, (-1,)), place, ops.reshape(tail, (-1,))
    )
    return ops.reshape(padded, (batch, total))


def _range(start: Size, stop: Size) -> Tensor:
    return ops.convert_to_tensor(np.arange(start, stop, dtype="int32"))
