"""What the front ends know about the backend; the rest of the room does not.

Each function here equals plain `keras.ops` in value and gradient, which
`tests/features/test_backend.py` checks; the gains are in
`benchmarks/logmel.py`.
"""

import functools
import inspect
import math

import keras
import numpy as np
from keras import ops

BACKEND = keras.config.backend()

# Frames of more bytes than the first are computed in pieces of about the
# second, which stay in the processor's cache: twice as fast on JAX. PyTorch,
# where each operation costs more, only avoids arrays above 32 MiB, which the C
# library takes from the system and gives back each time.
CHUNK_ABOVE = (48 if BACKEND == "torch" else 8) * 2**20
CHUNK_BYTES = (24 if BACKEND == "torch" else 2) * 2**20
MOST_PIECES = 32


class Constant:
    """A float array that is no weight: neither saved nor counted.

    On PyTorch its copy on an accelerator is kept, as each copy would make
    the host wait.
    """

    def __init__(self, array):
        self.array = np.asarray(array)
        self._copies: dict = {}

    def __call__(self, like, dtype="float32"):
        """The tensor, on the device of the tensor `like`."""
        if dtype not in self._copies:
            self._copies[dtype] = self.array.astype(dtype)
        array = self._copies[dtype]
        if BACKEND != "torch" or like.device.type in ("cpu", "meta"):
            return ops.convert_to_tensor(array)
        key = (str(like.device), dtype)
        if key not in self._copies:
            tensor = ops.convert_to_tensor(array)
            if type(tensor).__name__ != "Tensor":
                # Traced for an export: not a value that can be kept.
                return tensor
            self._copies[key] = tensor
        return self._copies[key]

    def __deepcopy__(self, memo):
        return Constant(self.array)

    def __reduce__(self):
        return Constant, (self.array,)


@functools.cache
def _one_cpu():
    devices = keras.distribution.list_devices()
    return len(devices) == 1 and devices[0].startswith("cpu")


def on_cpu(x) -> bool:
    """Whether a tensor is computed on one CPU, whose cache is worth a thought.

    Args:
        x: a tensor.

    Returns:
        A bool.
    """
    if BACKEND == "torch":
        return x.device.type == "cpu"
    return _one_cpu()


def sliding_frames(x, frame_length: int, hop_length: int, frames):
    """Frames of a signal that is long enough for them.

    Args:
        x: tensor `(batch, samples)`, of `(frames - 1) * hop_length +
            frame_length` samples or more.
        frame_length: samples.
        hop_length: samples.
        frames: how many.

    Returns:
        A tensor `(batch, frames, frame_length)`.
    """
    if BACKEND == "torch":
        return x.unfold(-1, frame_length, hop_length)[:, :frames]
    if BACKEND == "tensorflow":
        x = x[:, : (frames - 1) * hop_length + frame_length]
        return ops.extract_sequences(x, frame_length, hop_length)
    # Slices of whole hops: a gather is several times slower.
    pieces = -(-frame_length // hop_length)
    rows = frames + pieces - 1
    short = rows * hop_length - x.shape[1]
    if not isinstance(short, int) or short > 0:
        short = short if isinstance(short, int) else hop_length * pieces
        x = ops.pad(x, ((0, 0), (0, short)))
    hops = ops.reshape(
        x[:, : rows * hop_length], (x.shape[0], rows, hop_length)
    )
    rest = frame_length - (pieces - 1) * hop_length
    parts = [hops[:, i : i + frames] for i in range(pieces - 1)]
    parts.append(hops[:, pieces - 1 : pieces - 1 + frames, :rest])
    return ops.concatenate(parts, axis=-1) if pieces > 1 else parts[0]


def in_chunks(function, x, clip_bytes):
    """Applies a function to a few clips at a time, where that is faster.

    Args:
        function: of a tensor `(clips, ...)`, each clip on its own.
        x: tensor `(batch, ...)`.
        clip_bytes: memory that a clip takes inside; None if unknown.

    Returns:
        `function(x)`.
    """
    batch = x.shape[0]
    if (
        not isinstance(batch, int)
        or not isinstance(clip_bytes, int)
        or batch * clip_bytes < CHUNK_ABOVE
        or not on_cpu(x)
    ):
        return function(x)
    chunk = max(1, CHUNK_BYTES // clip_bytes)
    if BACKEND == "jax" and _is_traced(x):
        chunks = batch // chunk
        inside = chunks * chunk
        y = ops.map(
            function, ops.reshape(x[:inside], (chunks, chunk, *x.shape[1:]))
        )
        y = ops.reshape(y, (inside, *y.shape[2:]))
        if inside < batch:
            y = ops.concatenate([y, function(x[inside:])], axis=0)
        return y
    chunk = max(chunk, math.ceil(batch / MOST_PIECES))
    pieces = [function(x[i : i + chunk]) for i in range(0, batch, chunk)]
    return ops.concatenate(pieces, axis=0) if len(pieces) > 1 else pieces[0]


def in_float64(function, x):
    """Applies a function that computes in float64 inside.

    JAX knows float64 only within its own context, which the gradient has to
    enter again.

    Args:
        function: of a float32 tensor, casting to float64 and back.
        x: float32 tensor.

    Returns:
        `function(x)`, float32.
    """
    if BACKEND != "jax":
        return function(x)
    import jax

    wide = getattr(jax, "enable_x64", None)
    if wide is None:
        from jax.experimental import enable_x64 as wide

    @jax.custom_vjp
    def apply(x):
        with wide(True):
            return function(x)

    def backward(x, gradient):
        with wide(True):
            return jax.vjp(function, x)[1](gradient)

    apply.defvjp(lambda x: (apply(x), x), backward)
    return apply(x)


def as_one(function):
    """Makes a function one compiled call on JAX, where each of its operations
    would otherwise be compiled on its own.

    Args:
        function: pure, of tensors or None, with keyword arguments that are
            constants.

    Returns:
        The function.
    """
    if BACKEND != "jax":
        return function
    import jax

    names = inspect.signature(function).parameters.values()
    static = [p.name for p in names if p.kind is p.KEYWORD_ONLY]
    return jax.jit(function, static_argnames=static)


def _is_traced(x):
    import jax

    return isinstance(x, jax.core.Tracer)
