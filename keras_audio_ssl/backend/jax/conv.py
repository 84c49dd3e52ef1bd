"""Convolutions with gradients that XLA does not find on a CPU."""

import functools
import itertools
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import portable
from keras_audio_ssl.backend.portable import Pad
from keras_audio_ssl.backend.portable import Stride
from keras_audio_ssl.backend.portable import both
from keras_audio_ssl.backend.portable import prepared

# Values, 4 MiB.
COLUMNS = 2**20
# Channels from which on columns of strided maps are the quicker way.
WIDE = 64


def conv(
    x: Tensor, kernel: Tensor, stride: Stride = 1, pad: Pad | None = None
) -> Tensor:
    x, kernel, pad = prepared(x, kernel, pad)
    stride = both(stride)
    if kernel.shape[:2] == (1, 1) and stride == (1, 1):
        return x @ kernel[0, 0]
    on_cpu = jax.default_backend() == "cpu"
    return (cpu_conv if on_cpu else plain_conv)(x, kernel, stride, pad)


def doubling_conv(x: Tensor, kernel: Tensor) -> Tensor:
    if jax.default_backend() != "cpu":
        return portable.doubling_conv(x, kernel)
    # A map between whose values lie zeros is slow to convolve. Of each two
    # rows made from one, the even sees it and the one before, the odd it
    # alone.
    kernel = jnp.asarray(kernel, x.dtype).swapaxes(2, 3)
    way = by_neighbours if kernel.shape[-1] >= WIDE else side_by_side
    y = way(x, kernel)
    batch, time, frequency, _ = x.shape
    return y.swapaxes(2, 3).reshape(batch, 2 * time, 2 * frequency, -1)


def side_by_side(x: Tensor, kernel: Tensor) -> Tensor:
    """Four small kernels at once, `(batch, time, frequency, 2, 2, dim)`."""
    rows = [r for k in halves(kernel, 0) for r in halves(k, 1)]
    y = conv(x, jnp.concatenate(rows, axis=-1), pad=((1, 0), (1, 0)))
    return y.reshape(*x.shape[:3], 2, 2, -1)


def halves(kernel: Tensor, axis: int) -> list[Tensor]:
    """What the even and the odd outputs of a doubling see, two rows each."""
    now, odd, before = jnp.split(kernel, 3, axis)
    return [
        jnp.concatenate([before, now], axis),
        jnp.concatenate([jnp.zeros_like(odd), odd], axis),
    ]


def by_neighbours(x: Tensor, kernel: Tensor) -> Tensor:
    """`side_by_side` without the products with zeros, 7 of 16."""
    time, frequency = x.shape[1:3]
    around = jnp.pad(x, ((0, 0), (1, 0), (1, 0), (0, 0)))
    sums: dict[tuple[int, int], Tensor] = {}
    for before, left in itertools.product((0, 1), repeat=2):
        rows = slice(1 - before, 1 - before + time)
        seen = around[:, rows, 1 - left : 1 - left + frequency]
        # The outputs that see it, with one product.
        places = list(itertools.product(range(2 - before), range(2 - left)))
        matrix = [
            kernel[2 if before else i, 2 if left else j] for i, j in places
        ]
        products = seen @ jnp.concatenate(matrix, axis=-1)
        parts = jnp.split(products, len(places), axis=-1)
        for place, part in zip(places, parts, strict=True):
            sums[place] = sums[place] + part if place in sums else part
    y = [jnp.stack([sums[i, j] for j in (0, 1)], axis=3) for i in (0, 1)]
    return jnp.stack(y, axis=3)


def depthwise_conv(
    x: Tensor, kernel: Tensor, stride: Stride = 1, pad: Pad | None = None
) -> Tensor:
    x, kernel, pad = prepared(x, kernel, pad)
    if jax.default_backend() == "cpu":
        return cpu_depthwise(x, kernel[..., 0], stride, pad)
    stride = both(stride)
    kernel = kernel.swapaxes(2, 3)
    return plain_conv(x, kernel, stride, pad, groups=x.shape[-1])


def plain_conv(
    x: Tensor,
    kernel: Tensor,
    stride: tuple[int, int],
    pad: Pad,
    groups: int = 1,
) -> Tensor:
    """XLA's own convolution, channels last."""
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        pad,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def shifts(
    x: Tensor, height: int, width: int, stride: Stride, pad: Pad
) -> list[Tensor]:
    """What each weight of a kernel sees of `(..., time, frequency, dim)`."""
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*pad, (0, 0)])
    down, along = both(stride)
    time = (x.shape[-3] - height) // down + 1
    frequency = (x.shape[-2] - width) // along + 1
    return [
        x[
            ...,
            i : i + (time - 1) * down + 1 : down,
            j : j + (frequency - 1) * along + 1 : along,
            :,
        ]
        for i in range(height)
        for j in range(width)
    ]


def as_rows(parts: list[Tensor]) -> Tensor:
    """Parts of equal size as the rows of a matrix."""
    return jnp.stack(parts).reshape(len(parts), -1)


def over_clips(function: Callable[..., Any], clips: Tensor) -> Tensor:
    """Applies a function to each clip of a batch in turn."""
    # One clip at a time stays in the cache; XLA's grouped convolutions take
    # ten times as long on a CPU.
    return lax.scan(lambda _, clip: (None, function(clip)), None, clips)[1]


def by_rows(
    x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: Pad
) -> Tensor:
    """`plain_conv`, in up to a fifth of the time for kernels of one row."""
    height, width, _, filters = kernel.shape
    batch, time, frequency, channels = x.shape
    flat = (height, stride[0], *pad[0]) == (1, 1, 0, 0)
    # Rows as short as a kernel take thirty times as long instead; of unknown
    # ones, in a graph that is exported, nobody can tell.
    if not flat or not portable.is_known(frequency) or frequency <= width:
        return plain_conv(x, kernel, stride, pad)
    # Each row as a clip, along the axis in which XLA's kernel is quick.
    y = lax.conv_general_dilated(
        x.reshape(batch * time, frequency, channels),
        kernel[0],
        stride[1:],
        pad[1:],
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    return y.reshape(batch, time, -1, filters)


def strides_pay(x: Tensor, kernel: Tensor, stride: tuple[int, int]) -> bool:
    """Whether a strided convolution is quicker by columns than XLA's own."""
    height, width, channels, _ = kernel.shape
    known = all(map(portable.is_known, x.shape))
    several = height > 1 and width > 1 and min(stride) > 1
    return known and several and channels >= WIDE


def columns(
    x: Tensor, size: Sequence[int], stride: tuple[int, int], pad: Pad
) -> Tensor:
    """What a kernel sees of a clip, `(time, frequency, values)`."""
    height, width = size[0], size[1]
    parts = shifts(x, height, width, stride, pad)
    return jnp.concatenate(parts, axis=-1)


def by_columns(
    x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: Pad
) -> Tensor:
    """`plain_conv`, each clip a product while it is in the cache."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return over_clips(
        lambda clip: columns(clip, kernel.shape, stride, pad) @ matrix, x
    )


def from_columns(
    x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: Pad, grad: Tensor
) -> Tensor:
    """The gradient of the input of `by_columns`."""
    matrix = kernel.reshape(-1, kernel.shape[-1]).T
    none = jnp.zeros_like(x[0])

    def of_clip(grad: Tensor) -> Tensor:
        _, pull = jax.vjp(lambda x: columns(x, kernel.shape, stride, pad), none)
        return pull(grad @ matrix)[0]

    return over_clips(of_clip, grad)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def cpu_conv(
    x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: Pad
) -> Tensor:
    """`plain_conv`, and its gradients, as they are quick."""
    way = by_columns if strides_pay(x, kernel, stride) else by_rows
    return way(x, kernel, stride, pad)


def _conv_forward(
    x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: Pad
) -> tuple[Any, Any]:
    return cpu_conv(x, kernel, stride, pad), (x, kernel)


def product_of_columns(
    x: Tensor, grad: Tensor, kernel: Sequence[int], stride: Stride, pad: Pad
) -> Tensor:
    """The gradient of a kernel of a shape, `(filters, values)`, float32."""
    height, width, channels, filters = kernel
    seen = columns(x, kernel, both(stride), pad)
    return jnp.matmul(
        grad.reshape(-1, filters).T,
        seen.reshape(-1, height * width * channels),
        preferred_element_type="float32",
    )


def by_clips(
    x: Tensor, grad: Tensor, kernel: Sequence[int], stride: Stride, pad: Pad
) -> Tensor:
    """The gradient of a kernel, `(values, filters)`, from several clips each.

    As many at a time as have their columns in the cache: sums for each clip
    cost more than the products where maps are small.
    """
    *sizes, filters = kernel
    clips, values = len(x), math.prod(sizes)
    most = COLUMNS // (grad.shape[1] * grad.shape[2] * values)
    several = max(
        n for n in range(1, clips + 1) if clips % n == 0 and n <= max(most, 1)
    )
    parts = [
        a.reshape(clips // several, several, *a.shape[1:]) for a in (x, grad)
    ]

    def add_clips(total: Tensor, clips: Any) -> tuple[Tensor, None]:
        x, grad = clips
        return total + product_of_columns(x, grad, kernel, stride, pad), None

    total = jnp.zeros((filters, values), "float32")
    return lax.scan(add_clips, total, tuple(parts))[0].T


def by_pieces(
    x: Tensor,
    grad: Tensor,
    kernel: Sequence[int],
    stride: tuple[int, int],
    pad: Pad,
) -> Tensor:
    """`by_clips` where one clip's columns do not fit: by stretches of time."""
    *sizes, filters = kernel
    time, values = grad.shape[1], math.prod(sizes)
    pieces = -(-time * grad.shape[2] * values // COLUMNS)
    rows = -(-time // pieces)
    pieces = -(-time // rows)
    down, (top, _) = stride[0], pad[0]
    tall = (rows - 1) * down + sizes[0]
    # Zeros, or what no output sees is cut off, up to whole pieces.
    below = (pieces - 1) * rows * down + tall - top - x.shape[1]
    none = jnp.zeros((), x.dtype)
    x = lax.pad(x, none, [(0, 0, 0), (top, below, 0), (0, 0, 0), (0, 0, 0)])
    rest = pieces * rows - time
    grad = jnp.pad(grad, [(0, 0), (0, rest), (0, 0), (0, 0)])

    def add_piece(total: Tensor, index: Tensor) -> tuple[Tensor, None]:
        clip, row = index // pieces, index % pieces * rows
        seen = lax.dynamic_slice_in_dim(x[clip], row * down, tall)
        of = lax.dynamic_slice_in_dim(grad[clip], row, rows)
        around = ((0, 0), pad[1])
        product = product_of_columns(seen, of, kernel, stride, around)
        return total + product, None

    total = jnp.zeros((filters, values), "float32")
    return lax.scan(add_piece, total, jnp.arange(len(x) * pieces))[0].T


def _conv_backward(
    stride: tuple[int, int], pad: Pad, saved: tuple[Any, ...], grad: Tensor
) -> tuple[Tensor, ...]:
    # XLA's own gradient of the kernel takes longer than these matrix products
    # on a CPU.
    x, kernel = saved
    height, width, channels, filters = kernel.shape
    if strides_pay(x, kernel, stride):
        d_x = from_columns(x, kernel, stride, pad, grad)
    else:
        _, pull = jax.vjp(lambda x: by_rows(x, kernel, stride, pad), x)
        d_x = pull(grad)[0]
    if channels == 1:
        seen = as_rows(shifts(x, height, width, stride, pad))
        d_kernel = seen @ grad.reshape(-1, filters)
    elif grad[0].size // filters * height * width * channels > COLUMNS:
        d_kernel = by_pieces(x, grad, kernel.shape, stride, pad)
    else:
        d_kernel = by_clips(x, grad, kernel.shape, stride, pad)
    d_kernel = d_kernel.reshape(kernel.shape).astype(kernel.dtype)
    return d_x, d_kernel


cpu_conv.defvjp(_conv_forward, _conv_backward)


def shift_and_add(
    x: Tensor, kernel: Tensor, stride: Stride, pad: Pad
) -> Tensor:
    """Depthwise convolution: shifted maps times their weights, added up."""
    height, width, _ = kernel.shape
    weights = kernel.reshape(height * width, -1)

    def of_clip(x: Tensor) -> Tensor:
        parts = shifts(x, height, width, stride, pad)
        return sum(p * w for p, w in zip(parts, weights, strict=True))

    return over_clips(of_clip, x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def cpu_depthwise(
    x: Tensor, kernel: Tensor, stride: Stride, pad: Pad
) -> Tensor:
    """`shift_and_add` with a gradient of its own."""
    return shift_and_add(x, kernel, stride, pad)


def _depthwise_forward(
    x: Tensor, kernel: Tensor, stride: Stride, pad: Pad
) -> tuple[Any, Any]:
    return shift_and_add(x, kernel, stride, pad), (x, kernel)


def _depthwise_backward(
    stride: Stride, pad: Pad, saved: tuple[Any, ...], grad: Tensor
) -> tuple[Tensor, ...]:
    x, kernel = saved
    height, width, _ = kernel.shape
    time, frequency, channels = grad.shape[1:]
    steps = both(stride)
    sizes = (
        (time - 1) * steps[0] + 1, (frequency - 1) * steps[1] + 1, channels,
    )  # fmt: skip

    def add_clip(total: Tensor, clip: Any) -> tuple[Tensor, None]:
        x, grad = clip
        x = jnp.pad(x, (*pad, (0, 0)))

        # A loop, not a list: XLA compiles one product, not 25.
        def weight(place: Tensor) -> Tensor:
            start = place // width, place % width, 0
            part = lax.dynamic_slice(x, start, sizes)
            product = part[:: steps[0], :: steps[1]] * grad
            return jnp.sum(product, (0, 1), dtype="float32")

        return total + lax.map(weight, jnp.arange(height * width)), None

    total = jnp.zeros((height * width, channels), "float32")
    d_kernel = lax.scan(add_clip, total, (x, grad))[0]
    # The gradient of the input is a correlation with the kernel turned round,
    # over gradients spread by the stride.
    spread = [(0, 0, 0)]
    for axis, size in ((1, height), (2, width)):
        low = size - 1 - pad[axis - 1][0]
        step = steps[axis - 1]
        covered = (grad.shape[axis] - 1) * step + 1
        high = x.shape[axis] + size - 1 - low - covered
        spread.append((low, high, step - 1))
    spread.append((0, 0, 0))
    grad = lax.pad(grad, jnp.zeros((), grad.dtype), spread)
    d_x = shift_and_add(grad, kernel[::-1, ::-1], 1, ((0, 0),) * 2)
    return d_x, d_kernel.reshape(kernel.shape).astype(kernel.dtype)


cpu_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
