"""Windows, padding at a clip's own ends, and frames."""

import numpy as np
from keras import ops

WINDOWS = ("hann", "hamming", "hamming_symmetric", "povey")
PAD_MODES = ("reflect", "constant")


def window_function(name: str, length: int) -> np.ndarray:
    """An analysis window.

    Args:
        name: `"hann"` or `"hamming"` (periodic), `"hamming_symmetric"`, or
            `"povey"` (Kaldi's symmetric Hann to the power 0.85).
        length: samples.

    Returns:
        A float64 array `(length,)`.

    Raises:
        ValueError: for an unknown name or a length that is not positive.

    Example:

    >>> window_function("hann", 4).tolist()
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


def frame_signal(x, frame_length: int, hop_length: int, frames=None):
    """Cuts a signal into overlapping frames.

    Frames are built from slices of whole hops, which is several times faster
    than a gather and has a cheap gradient.

    Args:
        x: tensor `(batch, samples)`.
        frame_length: samples in a frame.
        hop_length: samples between the starts of two frames.
        frames: how many frames to cut; the signal counts as zero past its
            end. All that fit if None.

    Returns:
        A tensor `(batch, frames, frame_length)`.

    Raises:
        ValueError: if a length is not positive, or no frame fits.

    Example:

    >>> frame_signal(ops.arange(6)[None], 4, 2).tolist()
    [[[0, 1, 2, 3], [2, 3, 4, 5]]]
    """
    for label, value in (("frame", frame_length), ("hop", hop_length)):
        if value < 1:
            raise ValueError(
                f"`{label}_length` must be positive. "
                f"Received: {label}_length={value}"
            )
    batch, samples = ops.shape(x)
    if frames is None:
        if isinstance(samples, int) and samples < frame_length:
            raise ValueError(
                f"No frame of {frame_length} samples fits. "
                f"Received: shape {tuple(x.shape)}"
            )
        frames = 1 + (samples - frame_length) // hop_length
    pieces = -(-frame_length // hop_length)
    total = (frames + pieces - 1) * hop_length
    # Frames start within the signal, so this many zeros are always enough.
    short = pieces * hop_length
    if isinstance(total, int) and isinstance(samples, int):
        short = max(total - samples, 0)
    if short:
        x = ops.pad(x, ((0, 0), (0, short)))
    hops = ops.reshape(
        x[:, :total], (batch, frames + pieces - 1, hop_length)
    )
    rest = frame_length - (pieces - 1) * hop_length
    parts = [hops[:, i : i + frames] for i in range(pieces - 1)]
    parts.append(hops[:, pieces - 1 : pieces - 1 + frames, :rest])
    return ops.concatenate(parts, axis=-1) if pieces > 1 else parts[0]


def reflect_index(position, samples):
    """Index into a clip of a position before its start or past its end.

    The clip is mirrored at its first and last sample, as often as it takes,
    so that any clip can be padded by any amount.

    Args:
        position: int tensor or array of positions.
        samples: length of the clip; a number, or a tensor that broadcasts.

    Returns:
        Indices in `[0, samples)`, of the broadcast shape.
    """
    if isinstance(samples, int) and isinstance(position, np.ndarray):
        xp = np
    else:
        xp = ops
    last = xp.maximum(samples - 1, 0)
    period = xp.maximum(2 * last, 1)
    folded = xp.mod(position, period)
    return xp.minimum(xp.minimum(folded, 2 * last - folded), last)


def pad_reflect(x, left: int, right: int, lengths=None):
    """Pads clips with their own mirror image.

    Args:
        x: tensor `(batch, samples)`.
        left: samples to add before the start.
        right: samples to add past the end.
        lengths: int tensor `(batch,)`, valid samples of each clip: the mirror
            then stands at each clip's own end. All samples if None.

    Returns:
        A tensor `(batch, left + samples + right)`. With `lengths`, what lies
        more than `right` samples past a clip's end is undefined.
    """
    batch, samples = ops.shape(x)
    if lengths is None:
        if isinstance(samples, int):
            before = reflect_index(np.arange(-left, 0), samples)
            after = reflect_index(
                np.arange(samples, samples + right), samples
            )
            before, after = before.astype("int32"), after.astype("int32")
        else:
            before = reflect_index(ops.arange(-left, 0), samples)
            after = reflect_index(ops.arange(right) + samples, samples)
        return ops.concatenate(
            [ops.take(x, before, axis=1), x, ops.take(x, after, axis=1)],
            axis=1,
        )
    position = ops.arange(left + samples + right, dtype="int32") - left
    index = reflect_index(position[None], lengths[:, None])
    row = ops.arange(batch, dtype="int32")[:, None] * samples
    return ops.take(ops.reshape(x, (-1,)), row + index, axis=0)


def valid_mask(lengths, size):
    """Which positions lie within each clip.

    Args:
        lengths: int tensor `(batch,)`.
        size: length of the padded axis.

    Returns:
        A bool tensor `(batch, size)`.
    """
    position = ops.arange(size, dtype="int32")
    return position[None] < lengths[:, None]


