"""What is quicker, or only possible, in TensorFlow's own words."""

import contextlib
import functools
import logging
import math
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import chunks
from keras_audio_ssl.backend import portable
from keras_audio_ssl.backend.exported import is_for_export
from keras_audio_ssl.backend.hashing import is_kept
from keras_audio_ssl.backend.portable import Pad
from keras_audio_ssl.backend.portable import Stride
from keras_audio_ssl.backend.portable import prepared
from keras_audio_ssl.backend.rows import is_row_in_steps
from keras_audio_ssl.backend.rows import row_in_steps

__all__ = [
    "batch_norm",
    "conv",
    "conv_norm_pool",
    "copied",
    "drop_out",
    "gathered",
    "gelu",
    "group_norm",
    "gru",
    "in_chunks",
    "is_accelerated",
    "lstm",
    "norm_silu",
    "reads_ahead",
    "replicas",
    "splitting_pays",
    "taking_shapes",
    "update_if",
]


def is_accelerated() -> bool:
    return any(
        device.device_type in ("GPU", "TPU")
        for device in tf.config.list_logical_devices()
    )


def reads_ahead() -> bool:
    return True


def _is_no_news(record: logging.LogRecord) -> bool:
    return "tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def taking_shapes() -> Iterator[None]:
    log = tf.get_logger()
    known = _is_no_news in log.filters
    log.addFilter(_is_no_news)
    try:
        yield
    finally:
        if not known:
            log.removeFilter(_is_no_news)


def copied(variable: keras.Variable) -> Tensor:
    return variable.value.read_value()


def drop_out(x: Tensor, rate: float, seed: Any) -> Tensor:
    # Keys of neighbouring seeds have nothing in common.
    key = tf.random.stateless_uniform(
        [2], tf.cast(seed.next(), "int32"), None, None, "uint32"
    )

    @tf.custom_gradient
    def dropped(x: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        # What is kept is not stored, but found again.
        return _kept(x, key, rate), lambda grad: _kept(grad, key, rate)

    return dropped(tf.convert_to_tensor(x))


# A pass when compiled, in place of fifteen.
@tf.function(jit_compile=True)
def _kept(x: Tensor, key: Tensor, rate: float) -> Tensor:
    places = tf.cast(tf.range(tf.size(x)), "uint32")
    kept = tf.reshape(is_kept(places, key, rate), tf.shape(x))
    return tf.where(kept, x * tf.cast(1.0 / (1.0 - rate), x.dtype), 0)


def update_if(
    finite: Tensor,
    flag: keras.Variable,
    update: Callable[..., Any],
    gradients: list[Tensor],
    variables: list[keras.Variable] | None,
) -> None:
    """On the replicas of `tf.distribute`, one bad replica holds back all."""
    if not tf.distribute.has_strategy():
        portable.update_if(finite, flag, update, gradients, variables)
        return
    context = tf.distribute.get_replica_context()
    bad = context.all_reduce(
        tf.distribute.ReduceOp.SUM, tf.cast(~finite, "int32")
    )

    # The branches call all replicas together, so they must stand outside.
    def on_all(distribution: Any, bad: Tensor, gradients: list[Tensor]) -> None:
        good = tf.equal(distribution.experimental_local_results(bad)[0], 0)
        flag.value.assign(good)

        def on_each() -> None:
            distribution.extended.call_for_each_replica(
                update, args=(gradients, variables)
            )

        tf.cond(good, on_each, lambda: None)

    context.merge_call(on_all, args=(bad, gradients))


def replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def gathered(x: Tensor) -> Tensor:
    if (count := replicas()) == 1:
        return x
    # As a sum, whose gradient is one too.
    context = tf.distribute.get_replica_context()
    place = tf.one_hot(context.replica_id_in_sync_group, count, dtype=x.dtype)
    place = tf.reshape(place, [count] + [1] * len(x.shape))
    rows = context.all_reduce(tf.distribute.ReduceOp.SUM, place * x[None])
    return tf.reshape(rows, tf.concat([[-1], tf.shape(x)[1:]], axis=0))


def conv(
    x: Tensor, kernel: Tensor, stride: Stride = 1, pad: Pad | None = None
) -> Tensor:
    x, kernel, around = prepared(x, kernel, pad)
    if (
        is_row_in_steps(x, kernel, stride, around)
        and x.dtype == "float32"
        and not is_accelerated()
        and not is_for_export()
    ):
        return row_in_steps(x, kernel, stride, around, _staggered_sum)
    return portable.conv(x, kernel, stride, pad)


# Gradients of slices are added up as maps of full size.
@tf.custom_gradient
def _staggered_sum(x: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
    parts = x.shape[2]
    frames = tf.shape(x)[1] - parts + 1

    def gradient(grad: Tensor) -> Tensor:
        return tf.stack(
            [
                tf.pad(grad, ((0, 0), (i, parts - 1 - i), (0, 0)))
                for i in range(parts)
            ],
            axis=2,
        )

    return tf.add_n([x[:, i : i + frames, i] for i in range(parts)]), gradient


def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    around: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    if len(x.shape) != 4:
        return portable.batch_norm(x, gamma, beta, epsilon, around, relu)
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon
    )
    y = portable.finished(y, around, relu)
    count = tf.cast(tf.size(x) // x.shape[-1], "float32")
    # TensorFlow gives the unbiased one.
    return y, mean, variance * ((count - 1) / count)


def group_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    groups: int,
    epsilon: float,
    mask: Tensor | None = None,
) -> Tensor:
    if mask is not None or x.dtype != "float32" or is_for_export():
        return portable.group_norm(x, gamma, beta, groups, epsilon, mask)

    @tf.custom_gradient
    def normalised(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Any, Any]:
        mean, variance = portable.group_moments(x, groups)
        y = portable.group_affine(x, gamma, beta, mean, variance, epsilon)
        scale = tf.math.rsqrt(variance + epsilon)
        return y, lambda grad: _group_gradient(x, grad, gamma, mean, scale)

    return normalised(*map(tf.convert_to_tensor, (x, gamma, beta)))


# Two passes when compiled.
@tf.function(jit_compile=True)
def _group_gradient(
    x: Tensor, grad: Tensor, gamma: Tensor, mean: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a normalised `x`, whose groups have a mean and a scale."""
    channels, groups = x.shape[-1], mean.shape[1]
    shape = (-1, groups, channels // groups)

    def of_groups(v: Tensor) -> Tensor:
        return tf.reshape(v, shape)

    def of_channels(v: Tensor) -> Tensor:
        v = tf.broadcast_to(v, tf.shape(of_groups(grad_sum)))
        return tf.reshape(v, (-1, 1, channels))

    def mean_of(sums: Tensor) -> Tensor:
        count = tf.cast(tf.shape(x)[1], x.dtype)
        sums = of_groups(gamma * sums)
        return tf.reduce_mean(sums, axis=2, keepdims=True) / count

    grad_sum = tf.reduce_sum(grad, axis=1)
    off = x - of_channels(mean)
    product = tf.reduce_sum(grad * off, axis=1)
    product *= of_channels(scale)[:, 0]
    slope = -scale * scale * mean_of(product)
    along, level = of_groups(gamma) * scale, -scale * mean_of(grad_sum)
    d_x = grad * of_channels(along) + off * of_channels(slope)
    d_x += of_channels(level)
    return d_x, tf.reduce_sum(product, axis=0), tf.reduce_sum(grad_sum, axis=0)


def conv_norm_pool(
    x: Tensor,
    kernel: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    y = portable.conv(x, kernel)
    y, mean, variance = batch_norm(y, gamma, beta, epsilon)
    y = tf.nn.relu(portable.max_pool(y, pool))
    return y, tf.stop_gradient(mean), tf.stop_gradient(variance)


def norm_silu(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, variance = batch_norm(x, gamma, beta, epsilon)
    return _silu(y), mean, variance


# Five passes over the map, or one when compiled: a third of the time.
@tf.function(jit_compile=True)
def _silu_gradient(x: Tensor, grad: Tensor) -> Tensor:
    gate = tf.sigmoid(x)
    return grad * (gate * (1 + x * (1 - gate)))


@tf.custom_gradient
def _silu(x: Tensor) -> Tensor:
    return tf.nn.silu(x), lambda grad: _silu_gradient(x, grad)


@tf.function(jit_compile=True)
def _gelu_gradient(x: Tensor, grad: Tensor) -> Tensor:
    below = 0.5 * tf.math.erfc(x * -math.sqrt(0.5))
    density = math.sqrt(0.5 / math.pi) * tf.exp(-0.5 * x * x)
    return grad * (below + x * density)


@tf.custom_gradient
def _gelu(x: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
    return tf.nn.gelu(x), lambda grad: _gelu_gradient(x, grad)


def gelu(x: Tensor) -> Tensor:
    return tf.nn.gelu(x) if is_for_export() else _gelu(x)


def gru(
    x: Tensor,
    state: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
) -> Tensor:
    """The gradient of the recurrent kernel is one product over all frames."""
    if is_for_export():
        return portable.gru(x, state, kernel, recurrent_kernel, bias)
    units = state.shape[-1]
    x = tf.transpose(tf.cast(x, kernel.dtype), (1, 0, 2))
    # The recurrent biases of the update and reset gates add to the input's;
    # that of the candidate is multiplied by the reset gate.
    inner = bias[1]
    outer = bias[0] + tf.concat(
        [inner[: 2 * units], tf.zeros_like(inner[2 * units :])], 0
    )
    projected = tf.cast(ops.matmul(x, kernel), state.dtype) + outer
    outputs = _recurrence(
        projected, state, recurrent_kernel, inner[2 * units :]
    )
    return tf.transpose(outputs, (1, 0, 2))


@tf.custom_gradient
def _recurrence(
    projected: Tensor, state: Tensor, recurrent_kernel: Tensor, bias: Tensor
) -> Tensor:
    units = int(recurrent_kernel.shape[0])
    forward, backward = _graphs(units, _forward, _backward)
    saved = forward(projected, state, recurrent_kernel, bias)

    def gradient(grad: Tensor) -> tuple[Tensor, ...]:
        return backward(grad, state, recurrent_kernel, *saved)

    return saved[0], gradient


@functools.cache
def _graphs(units: int, *functions: Callable[..., Any]) -> list[Any]:
    # A graph also when the caller runs eagerly: one operation for the loop,
    # not a dozen for each frame. A pair for each size, as shapes that were
    # relaxed to save a trace would not tell it.
    return [
        tf.function(functools.partial(f, units), reduce_retracing=True)
        for f in functions
    ]


def _forward(
    units: int,
    projected: Tensor,
    state: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
) -> list[Tensor]:
    def step(t: Tensor, h: Tensor) -> tuple[Any, Any]:
        x = projected[t]
        inner = h @ recurrent_kernel
        gates = tf.sigmoid(x[:, : 2 * units] + inner[:, : 2 * units])
        z, r = gates[:, :units], gates[:, units:]
        n = inner[:, 2 * units :] + bias
        c = tf.tanh(x[:, 2 * units :] + r * n)
        h = c + z * (h - c)
        return h, (h, gates, n, c)

    frames, widths = tf.shape(projected)[0], [units, 2 * units, units, units]
    return _loop(step, frames, state, widths)[1]


def _backward(
    units: int,
    grad: Tensor,
    state: Tensor,
    recurrent_kernel: Tensor,
    outputs: Tensor,
    gates: Tensor,
    n: Tensor,
    c: Tensor,
) -> tuple[Tensor, ...]:
    previous = tf.concat([state[None], outputs[:-1]], 0)
    # Transposed once: the flag of `matmul` costs twice the time.
    transposed = tf.transpose(recurrent_kernel)

    def step(t: Tensor, carry: Any) -> tuple[Any, Any]:
        # Two slices, as XLA misreads one that moves and cuts.
        z, r = gates[t][:, :units], gates[t][:, units:]
        total = grad[t] + carry
        direct = total * z
        d_z = direct * (1 - z) * (previous[t] - c[t])
        d_c = (total - direct) * (1 - c[t] * c[t])
        d_n = d_c * r
        d_r = d_n * n[t] * (1 - r)
        inner = tf.concat([d_z, d_r, d_n], -1)
        return direct + inner @ transposed, (inner, d_c)

    first, (inner, d_c) = _loop(
        step,
        tf.shape(grad)[0],
        tf.zeros_like(state),
        [3 * units, units],
        reverse=True,
    )
    return (
        tf.concat([inner[..., : 2 * units], d_c], -1),
        first,
        tf.matmul(
            tf.reshape(previous, (-1, units)),
            tf.reshape(inner, (-1, 3 * units)),
            transpose_a=True,
        ),
        tf.reduce_sum(inner[..., 2 * units :], (0, 1)),
    )


def lstm(
    x: Tensor,
    state: Tensor,
    cell: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
    frames: int | None = None,
) -> Tensor:
    """The gradient of the recurrent kernel is one product over all frames."""
    if is_for_export():
        weights = kernel, recurrent_kernel, bias
        return portable.lstm(x, state, cell, *weights, frames)
    x = tf.transpose(tf.cast(x, kernel.dtype), (1, 0, 2))
    projected = tf.cast(ops.matmul(x, kernel), state.dtype) + bias
    if frames is not None:
        projected = tf.repeat(projected, frames, axis=0)
    outputs = _lstm_recurrence(projected, state, cell, recurrent_kernel)
    return tf.transpose(outputs, (1, 0, 2))


@tf.custom_gradient
def _lstm_recurrence(
    projected: Tensor, state: Tensor, cell: Tensor, recurrent_kernel: Tensor
) -> Tensor:
    units = int(recurrent_kernel.shape[0])
    forward, backward = _graphs(units, _lstm_forward, _lstm_backward)
    outputs, *saved = forward(projected, state, cell, recurrent_kernel)

    def gradient(grad: Tensor) -> tuple[Tensor, ...]:
        return backward(grad, state, cell, recurrent_kernel, outputs, *saved)

    return outputs, gradient


def _lstm_forward(
    units: int,
    projected: Tensor,
    state: Tensor,
    cell: Tensor,
    recurrent_kernel: Tensor,
) -> list[Tensor]:
    def step(t: Tensor, carry: Any) -> tuple[Any, Any]:
        h, c = carry
        inner = projected[t] + h @ recurrent_kernel
        gates = tf.sigmoid(inner[:, : 2 * units])
        i, f = gates[:, :units], gates[:, units:]
        g = tf.tanh(inner[:, 2 * units : 3 * units])
        o = tf.sigmoid(inner[:, 3 * units :])
        c = f * c + i * g
        h = o * tf.tanh(c)
        return (h, c), (h, i, f, g, o, c)

    frames = tf.shape(projected)[0]
    return _loop(step, frames, (state, cell), [units] * 6)[1]


def _lstm_backward(
    units: int,
    grad: Tensor,
    state: Tensor,
    cell: Tensor,
    recurrent_kernel: Tensor,
    outputs: Tensor,
    *saved: Tensor,
) -> tuple[Tensor, ...]:
    *gates, cells = saved
    previous = tf.concat([state[None], outputs[:-1]], 0)
    before, tanhs = tf.concat([cell[None], cells[:-1]], 0), tf.tanh(cells)
    transposed = tf.transpose(recurrent_kernel)

    def step(t: Tensor, carry: Any) -> tuple[Any, Any]:
        d_h, d_c = carry
        i, f, g, o = (gate[t] for gate in gates)
        d_h += grad[t]
        d_c += d_h * o * (1 - tanhs[t] * tanhs[t])
        inner = tf.concat(
            [
                d_c * g * i * (1 - i),
                d_c * before[t] * f * (1 - f),
                d_c * i * (1 - g * g),
                d_h * tanhs[t] * o * (1 - o),
            ],
            -1,
        )
        return (inner @ transposed, d_c * f), (inner,)

    (d_state, d_cell), (inner,) = _loop(
        step,
        tf.shape(grad)[0],
        (tf.zeros_like(state), tf.zeros_like(cell)),
        [4 * units],
        reverse=True,
    )
    d_recurrent = tf.matmul(
        tf.reshape(previous, (-1, units)),
        tf.reshape(inner, (-1, 4 * units)),
        transpose_a=True,
    )
    return inner, d_state, d_cell, d_recurrent


def _loop(
    step: Callable[..., Any],
    frames: Size,
    carry: Any,
    widths: list[int],
    reverse: bool = False,
) -> tuple[Any, list[Tensor]]:
    """The last carry, and what the steps gave for all frames."""
    dtype = tf.nest.flatten(carry)[0].dtype
    arrays = [
        tf.TensorArray(dtype, size=frames, element_shape=(None, width))
        for width in widths
    ]

    def body(
        i: Tensor, carry: Any, arrays: list[Any]
    ) -> tuple[Tensor, Any, list[Any]]:
        t = frames - 1 - i if reverse else i
        carry, values = step(t, carry)
        arrays = [a.write(t, v) for a, v in zip(arrays, values, strict=True)]
        return i + 1, carry, arrays

    _, carry, arrays = tf.while_loop(
        lambda i, *_: i < frames,
        body,
        (0, carry, arrays),
        maximum_iterations=frames,
    )
    return carry, [a.stack() for a in arrays]


def in_chunks(
    function: Callable[[Tensor], Tensor], x: Tensor, clip_bytes: Size
) -> Tensor:
    clips = chunks.clips_at_once(x, clip_bytes, chunks.ABOVE, chunks.ABOUT)
    if clips and chunks.one_cpu():
        return chunks.in_pieces(function, x, clips)
    return function(x)


def splitting_pays(x: Tensor) -> bool:
    return chunks.one_cpu()
