"""What is quicker, or only possible, in PyTorch's own words.

Maps stay channels last in memory, uncopied.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
from keras import ops
from torch.autograd.function import once_differentiable
from torch.nn import functional

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import chunks
from keras_audio_ssl.backend import pooling_rows
from keras_audio_ssl.backend import portable
from keras_audio_ssl.backend.exported import is_for_export
from keras_audio_ssl.backend.portable import Pad
from keras_audio_ssl.backend.portable import Stride
from keras_audio_ssl.backend.portable import prepared
from keras_audio_ssl.backend.rows import is_row_in_steps
from keras_audio_ssl.backend.rows import row_in_steps

__all__ = [
    "Constant",
    "affine",
    "at_least",
    "average_pool",
    "batch_norm",
    "conv",
    "conv_norm_pool",
    "copied",
    "depthwise_conv",
    "doubled",
    "drop_out",
    "group_norm",
    "gru",
    "in_chunks",
    "is_accelerated",
    "is_known",
    "lstm",
    "max_pool",
    "norm_silu",
    "quicken",
    "relu_pool",
    "rolled",
    "rounds_coarsely",
    "sliding_frames",
    "soft_ranks",
]

# Each operation costs more here than on the other backends. Pieces only avoid
# arrays above 32 MiB, which the C library takes from the system and gives
# back each time.
ABOVE = 48 * 2**20
ABOUT = 24 * 2**20
# Of which some are kept by `drop_out`: what 16 bits can tell.
PARTS = 2**16


def is_accelerated() -> bool:
    # Where Keras puts its tensors: a GPU's name differs from maker to maker.
    return ops.zeros(()).device.type != "cpu"


def is_known(size: Size) -> bool:
    # Where it is no int, it is a symbol that compares like one; but what is
    # compared while an export is traced must hold for every clip.
    return isinstance(size, int) or not is_for_export()


def at_least(size: Size, least: int) -> Size:
    # Of a symbol one, which a tensor is not.
    return torch.sym_max(size, least)


def copied(variable: keras.Variable) -> Tensor:
    return variable.value.detach().clone()


def drop_out(x: Tensor, rate: float, seed: Any) -> Tensor:
    x = ops.convert_to_tensor(x)
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return portable.drop_out(x, rate, seed)
    # The sum of both parts, as Keras takes it, is another seed's a draw later.
    halves = [int(half) & 0xFFFFFFFF for half in seed.next()]
    mixed = np.random.SeedSequence(halves)
    generator = torch.Generator()
    generator.manual_seed(int(mixed.generate_state(1)[0]))
    # Four draws of each number: an eighth of the time of `bernoulli`.
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    words.random_(-(2**63), None, generator=generator)
    parts = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = min(max(round((1.0 - rate) * PARTS), 1), PARTS - 1)
    none = torch.zeros((), dtype=x.dtype)
    return torch.where(parts < kept - PARTS // 2, x, none).mul_(PARTS / kept)


def quicken(optimizer: keras.Optimizer) -> None:
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # Keras' own, which AdamW has of Adam; nobody else's that derives of it.
    name = "_parallel_update_step"
    owner = next((c for c in type(inner).__mro__ if name in vars(c)), None)
    if owner is not None and owner.__module__.startswith("keras."):
        setattr(inner, name, functools.partial(quick_update, inner))


def quick_update(
    optimizer: Any,
    gradients: list[Tensor],
    variables: list[keras.Variable],
    learning_rate: Any,
) -> None:
    """Keras' update, Adam's in one pass, with all in one order in memory."""
    places = [
        i
        for i in map(optimizer._get_variable_index, variables)
        if not optimizer._trainable_variables[i].value.is_contiguous()
    ]
    if places:
        lay_alike(optimizer, places)
    if isinstance(optimizer, keras.optimizers.Adam):
        fused_adam(optimizer, gradients, variables, learning_rate)
    else:
        type(optimizer)._parallel_update_step(
            optimizer, gradients, variables, learning_rate
        )


def lay_alike(optimizer: Any, places: list[int]) -> None:
    """Moves the states of some weights into the order of these in memory."""
    weights = optimizer._trainable_variables
    # A list for each kind of state, as long as that of the weights.
    kinds = [
        states
        for states in vars(optimizer).values()
        if isinstance(states, list) and len(states) == len(weights)
    ]
    for i in places:
        weight = weights[i].value
        for states in kinds:
            state = getattr(states[i], "value", weight)
            if (
                state.shape == weight.shape
                and state.stride() != weight.stride()
            ):
                state.data = torch.empty_like(weight).copy_(state)


def fused_adam(
    optimizer: Any,
    gradients: list[Tensor],
    variables: list[keras.Variable],
    learning_rate: Any,
) -> None:
    """Adam's update in one pass, where Keras' takes twenty on a CPU."""
    index = [optimizer._get_variable_index(v) for v in variables]
    weights = [v.value for v in variables]
    first = [optimizer._momentums[i].value for i in index]
    second = [optimizer._velocities[i].value for i in index]
    if optimizer.amsgrad or not all(
        is_plain(x) and is_dense(w) and x.stride() == w.stride()
        for w, *others in zip(weights, first, second, gradients, strict=True)
        for x in (w, *others)
    ):
        type(optimizer)._parallel_update_step(
            optimizer, gradients, variables, learning_rate
        )
        return
    step = int(ops.convert_to_tensor(optimizer.iterations)) + 1
    # PyTorch divides by the root of the second moment's correction before
    # epsilon is added, Keras after it.
    correction = math.sqrt(1 - optimizer.beta_2**step)
    torch._fused_adam_(
        weights, gradients, first, second, [],
        [torch.tensor(float(step))] * len(weights),
        lr=float(learning_rate),
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        weight_decay=0.0,
        eps=optimizer.epsilon / correction,
        amsgrad=False,
        maximize=False,
    )  # fmt: skip


def conv(
    x: Tensor, kernel: Tensor, stride: Stride = 1, pad: Pad | None = None
) -> Tensor:
    x, kernel, pad = prepared(x, kernel, pad)
    height, width, channels, filters = kernel.shape
    if (
        is_row_in_steps(x, kernel, stride, pad)
        and torch.is_grad_enabled()
        and is_plain(x)
    ):
        return row_in_steps(x, kernel, stride, pad, StaggeredSum.apply)
    # Turned over as a matrix: a view of one that is laid out so; of another,
    # PyTorch has a quick way to copy it, which the convolution has not.
    kernel = laid_out(kernel)
    kernel = kernel.reshape(-1, filters).t().contiguous()
    kernel = kernel.view(filters, height, width, channels)
    return _conv(x, kernel.permute(0, 3, 1, 2), stride, pad, 1)


def laid_out(kernel: Tensor) -> Tensor:
    """A kernel whose weight lies in memory as a convolution reads it.

    Filters first, then taps and channels: moved there once, where kernel and
    gradient would be copied in each step.
    """
    weight = kernel if kernel._base is None else kernel._base
    if (
        isinstance(weight, torch.nn.Parameter)
        and weight.is_contiguous()
        # Nothing but axes of one value is added to it: none are exchanged.
        and kernel.is_contiguous()
        and kernel.numel() == weight.numel()
        and kernel.shape[-1] == weight.shape[-1]
        and is_plain(weight)
        and not is_for_export()
        and not torch.compiler.is_compiling()
        and not torch.is_inference_mode_enabled()
    ):
        flat = weight.detach().reshape(-1, weight.shape[-1])
        weight.data = flat.t().contiguous().t().view(weight.shape)
        kernel = weight.view(kernel.shape)
    return kernel


def is_dense(weight: Tensor) -> bool:
    """Whether it fills its memory, in its own order or in `laid_out`'s."""
    return weight.is_contiguous() or weight.movedim(-1, 0).is_contiguous()


class StaggeredSum(torch.autograd.Function):
    """Each frame's first part, the second of the next frame, and so on.

    From `(batch, frames + parts - 1, parts, dim)` to `(batch, frames, dim)`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        parts = x.shape[2]
        frames = x.shape[1] - parts + 1
        y = x[:, :frames, 0].clone(memory_format=torch.contiguous_format)
        for i in range(1, parts):
            y += x[:, i : i + frames, i]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        frames, out = grad.shape[1], grad.new_empty(ctx.shape)
        for i in range(ctx.shape[2]):
            out[:, :i, i] = 0
            out[:, i : i + frames, i] = grad
            out[:, i + frames :, i] = 0
        return out


def depthwise_conv(
    x: Tensor, kernel: Tensor, stride: Stride = 1, pad: Pad | None = None
) -> Tensor:
    x, kernel, pad = prepared(x, kernel, pad)
    return _conv(x, kernel.permute(2, 3, 0, 1), stride, pad, x.shape[-1])


def _conv(
    x: Tensor, kernel: Tensor, stride: Stride, pad: Pad, groups: int
) -> Tensor:
    (top, bottom), (left, right) = pad
    # Channels last in memory, seen as PyTorch wants it: nothing is copied.
    x = x.permute(0, 3, 1, 2)
    if top != bottom or left != right:
        x = functional.pad(x, (left, right, top, bottom))
        top = left = 0
    y = functional.conv2d(x, kernel, None, stride, (top, left), 1, groups)
    # No copy either, unless the map came in another layout.
    return y.permute(0, 2, 3, 1).contiguous()


def max_pool(
    x: Tensor, pool: tuple[int, int], stride: tuple[int, int] | None = None
) -> Tensor:
    x = ops.convert_to_tensor(x)
    if tuple(pool) == tuple(stride or pool) == (1, 1):
        return x
    # That of Keras gives the map back with its channels first in memory.
    y = functional.max_pool2d(x.permute(0, 3, 1, 2), pool, stride)
    return y.permute(0, 2, 3, 1)


def relu_pool(x: Tensor, pool: tuple[int, int]) -> Tensor:
    return functional.relu(max_pool(x, pool))


def affine(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
) -> Tensor:
    scale = gamma * torch.rsqrt(variance + epsilon)
    # One pass instead of two.
    return torch.addcmul(
        (beta - mean * scale).to(x.dtype), x, scale.to(x.dtype)
    )


def average_pool(x: Tensor, pool: tuple[int, int]) -> Tensor:
    # As for `max_pool`.
    x = ops.convert_to_tensor(x).permute(0, 3, 1, 2)
    return functional.avg_pool2d(x, pool).permute(0, 2, 3, 1)


def doubled(x: Tensor) -> Tensor:
    x = ops.convert_to_tensor(x).permute(0, 3, 1, 2)
    y = functional.interpolate(x, scale_factor=2, mode="nearest")
    return y.permute(0, 2, 3, 1)


def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    around: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    channels = x.shape[-1]
    mean = torch.zeros(channels, dtype=gamma.dtype, device=x.device)
    variance = torch.ones_like(mean)

    def channels_second(x: Tensor) -> Tensor:
        # A view whose memory is laid out as PyTorch's kernels like it.
        if len(x.shape) == 2:
            return x
        if len(x.shape) != 4:
            x = x.reshape(1, -1, 1, channels)
        return x.permute(0, 3, 1, 2)

    y = torch.batch_norm(
        channels_second(x), gamma, beta, mean, variance, True, 1.0, epsilon,
        True,
    )  # fmt: skip
    # Where it lies: no one else has it, and its gradient does not need it.
    if around is not None:
        y.add_(channels_second(around))
    if relu:
        y.relu_()
    if len(x.shape) != 2:
        y = y.permute(0, 2, 3, 1).reshape(x.shape)
    count = x.numel() // channels
    # PyTorch records the unbiased one.
    variance = variance * ((count - 1) / count) if count > 1 else variance * 0
    return y, mean, variance


def is_plain(x: Tensor) -> bool:
    """Whether a map is float32 on a CPU, for which two functions are made."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def group_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    groups: int,
    epsilon: float,
    mask: Tensor | None = None,
) -> Tensor:
    if mask is not None or not is_plain(x):
        return portable.group_norm(x, gamma, beta, groups, epsilon, mask)
    # As a map of one row, whose channels may be last in memory.
    view = x[:, None].permute(0, 3, 1, 2)
    y = functional.group_norm(view, groups, gamma, beta, epsilon)
    return y.permute(0, 2, 3, 1)[:, 0]


def norm_silu(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    if is_plain(x):
        return NormSiLU.apply(x, gamma, beta, epsilon)
    y, mean, variance = batch_norm(x, gamma, beta, epsilon)
    return functional.silu(y), mean, variance


class NormSiLU(torch.autograd.Function):
    """Normalisation and SiLU in one operation."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        view = y.permute(0, 3, 1, 2)
        mean, variance = torch.batch_norm_update_stats(view, None, None, 0.0)
        inverse = torch.rsqrt(variance + epsilon)
        scale = gamma * inverse
        offset = beta - mean * scale
        out = torch.addcmul(offset, y, scale)
        ctx.save_for_backward(y, gamma, mean, inverse, scale, offset)
        ctx.epsilon = epsilon
        ctx.mark_non_differentiable(mean, variance)
        return functional.silu(out, inplace=True), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        y, gamma, mean, inverse, scale, offset = ctx.saved_tensors
        # Computed again: cheaper than a map kept since the forward pass.
        out = torch.addcmul(offset, y, scale)
        torch.ops.aten.silu_backward(grad, out, grad_input=out)
        d_y, d_gamma, d_beta = torch.ops.aten.native_batch_norm_backward(
            out.permute(0, 3, 1, 2),
            y.permute(0, 3, 1, 2),
            gamma,
            None,
            None,
            mean,
            inverse,
            True,
            ctx.epsilon,
            [True, True, True],
        )
        return d_y.permute(0, 2, 3, 1), d_gamma, d_beta, None


def conv_norm_pool(
    x: Tensor,
    kernel: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    if is_plain(x):
        # A rising function of the map may as well be applied after pooling,
        # to a fraction of the values. A negative gamma turns the map over.
        sign = 1.0 - 2.0 * (gamma < 0).to(torch.float32)
        y = conv(x, kernel.to(torch.float32) * sign)
        y, mean, variance = NormPool.apply(y, gamma * sign, beta, epsilon, pool)
        return y, mean * sign, variance
    y, mean, variance = batch_norm(conv(x, kernel), gamma, beta, epsilon)
    y = functional.relu(max_pool(y, pool))
    return y, mean.detach(), variance.detach()


class NormPool(torch.autograd.Function):
    """Normalisation, pooling and ReLU in one operation, gamma positive."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        gamma: Tensor,
        beta: Tensor,
        epsilon: float,
        pool: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = y.permute(0, 3, 1, 2)
        mean, variance = torch.batch_norm_update_stats(y, None, None, 0.0)
        inverse = torch.rsqrt(variance + epsilon)
        normal, index = torch.ops.aten.max_pool2d_with_indices(y, list(pool))
        y, normal, index = (v.permute(0, 2, 3, 1) for v in (y, normal, index))
        normal.sub_(mean).mul_(inverse)
        out = torch.addcmul(beta, normal, gamma).relu_()
        ctx.save_for_backward(y, index, normal, out, mean, inverse, gamma)
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        y, index, normal, out, mean, inverse, gamma = ctx.saved_tensors
        batch, channels = len(y), y.shape[-1]
        grad = torch.ops.aten.threshold_backward(grad, out, 0)
        d_beta = grad.sum((0, 1, 2))
        # Writing into what was saved, as fresh memory costs several times
        # the arithmetic. A second backward pass is refused by PyTorch.
        d_gamma = normal.mul_(grad).sum((0, 1, 2))
        scale = gamma * inverse
        count = y.numel() // channels
        slope = -scale * inverse * d_gamma / count
        offset = -scale * d_beta / count - slope * mean
        d_y = torch.addcmul(offset, y, slope, out=y)
        d_y.view(batch, -1, channels).scatter_add_(
            1,
            index.reshape(batch, -1, channels),
            grad.mul_(scale).reshape(batch, -1, channels),
        )
        return d_y, d_gamma, d_beta, None, None


def gru(
    x: Tensor,
    state: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
) -> Tensor:
    dtype = state.dtype
    x, kernel = x.to(dtype), kernel.to(dtype)
    recurrent_kernel, bias = recurrent_kernel.to(dtype), bias.to(dtype)
    if is_for_export():
        return gru_whole(x, state, kernel, recurrent_kernel, bias)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        x = x.transpose(0, 1)
        outputs = GRU.apply(x, state, kernel, recurrent_kernel, bias)
        return outputs.transpose(0, 1)
    weights = [
        _reordered(kernel).T,
        _reordered(recurrent_kernel).T,
        *_reordered(bias).unbind(),
    ]
    training = torch.is_grad_enabled()
    return torch.gru(
        x, state[None], weights, True, 1, 0.0, training, False, True
    )[0]


def _reordered(weights: Tensor) -> Tensor:
    """Gates in PyTorch's order."""
    z, r, c = weights.chunk(3, dim=-1)
    return torch.cat([r, z, c], dim=-1)


sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input


class GRU(torch.autograd.Function):
    """The recurrence on a CPU, `(frames, batch, dim)` in and out.

    PyTorch's own adds to the gradient of the recurrent kernel after each
    frame; here it is one product over all of them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        state: Tensor,
        kernel: Tensor,
        recurrent_kernel: Tensor,
        bias: Tensor,
    ) -> Tensor:
        frames, batch, dim = x.shape
        units = state.shape[-1]
        x = x.contiguous()
        both = bias[0].clone()
        both[: 2 * units] += bias[1, : 2 * units]
        inner_bias = bias[1, 2 * units :]
        # Turned into gates and candidates where they lie.
        projected = torch.addmm(both, x.view(-1, dim), kernel)
        projected = projected.view(frames, batch, 3 * units)
        states = x.new_empty(frames + 1, batch, units)
        states[0] = state
        resets = x.new_empty(frames, batch, units)
        inner = x.new_empty(batch, 3 * units)
        gates_part = inner[:, : 2 * units]
        candidate_part = inner[:, 2 * units :]
        h = states[0]
        for new, gates, z, r, c, n in zip(
            states[1:].unbind(),
            projected[..., : 2 * units].unbind(),
            *(part.unbind() for part in projected.chunk(3, -1)),
            resets.unbind(),
            strict=True,
        ):
            torch.mm(h, recurrent_kernel, out=inner)
            gates.add_(gates_part).sigmoid_()
            torch.add(candidate_part, inner_bias, out=n)
            c.addcmul_(r, n).tanh_()
            h = torch.lerp(c, h, z, out=new)
        ctx.save_for_backward(
            x, kernel, recurrent_kernel, states, projected, resets
        )
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, kernel, recurrent_kernel, states, d_outer, d_inner = (
            ctx.saved_tensors
        )
        frames, batch, units = d_inner.shape
        d_gates = d_outer[..., : 2 * units]
        transposed = recurrent_kernel.T.contiguous()
        grad = grad.contiguous()
        total = torch.zeros_like(states[0])
        direct = torch.empty_like(total)
        part = torch.empty_like(total)
        # The gradients take the place of what they are computed from: a
        # second backward pass is refused by PyTorch.
        inner = x.new_empty(batch, 3 * units)
        inner_z, inner_r, inner_n = inner.chunk(3, -1)
        parts = grad, states[:-1], d_gates, *d_outer.chunk(3, -1), d_inner
        for slope, before, gates, z, r, c, n in zip(
            *(reversed(v.unbind()) for v in parts), strict=True
        ):
            total.add_(slope)
            torch.mul(total, z, out=direct)
            total.sub_(direct)
            torch.sub(before, c, out=part)
            part.mul_(direct)
            # part * (1 - z): the other factor of the slope, z, is in it.
            torch.addcmul(part, part, z, value=-1, out=inner_z)
            tanh_backward(total, c, grad_input=c)
            torch.mul(c, n, out=part)
            sigmoid_backward(part, r, grad_input=inner_r)
            torch.mul(c, r, out=inner_n)
            gates.copy_(inner[:, : 2 * units])
            n.copy_(inner_n)
            torch.addmm(direct, inner, transposed, out=total)
        x, previous = x.flatten(0, 1), states[:-1].flatten(0, 1)
        outer, d_n = d_outer.flatten(0, 1), d_inner.flatten(0, 1)
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = (outer @ kernel.T).view(frames, batch, -1)
        sums, sum_n = outer.sum(0), d_n.sum(0)
        d_recurrent = [previous.T @ outer[:, : 2 * units], previous.T @ d_n]
        return (
            d_x,
            total,
            x.T @ outer,
            torch.cat(d_recurrent, dim=-1),
            torch.stack([sums, torch.cat([sums[: 2 * units], sum_n])]),
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
    x, kernel, recurrent_kernel, bias = (
        v.to(state.dtype) for v in (x, kernel, recurrent_kernel, bias)
    )
    if frames is not None:
        x = x.expand(-1, frames, -1)
    if is_for_export():
        return lstm_whole(x, state, cell, kernel, recurrent_kernel, bias)
    # Gates have Keras' order here; of two biases one is enough.
    weights = [kernel.T, recurrent_kernel.T, bias, torch.zeros_like(bias)]
    training = torch.is_grad_enabled()
    start = (state[None], cell[None])
    return torch.lstm(x, start, weights, True, 1, 0.0, training, False, True)[0]


# A recurrence that a trace sees as one operation, and not frame by frame.
# What it is in a file's format, the exporter says.


@torch.library.custom_op("keras_audio_ssl::gru", mutates_args=())
def gru_whole(
    x: torch.Tensor,
    state: torch.Tensor,
    kernel: torch.Tensor,
    recurrent_kernel: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """`gru`, which a trace sees as one operation."""
    return gru(x, state, kernel, recurrent_kernel, bias)


@torch.library.custom_op("keras_audio_ssl::lstm", mutates_args=())
def lstm_whole(
    x: torch.Tensor,
    state: torch.Tensor,
    cell: torch.Tensor,
    kernel: torch.Tensor,
    recurrent_kernel: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """`lstm`, which a trace sees as one operation."""
    return lstm(x, state, cell, kernel, recurrent_kernel, bias)


@gru_whole.register_fake
@lstm_whole.register_fake
def _of_shape(x: Tensor, state: Tensor, *weights: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], state.shape[1])


class Constant(portable.Constant):
    """Its copy on an accelerator is kept, as each makes the host wait."""

    def __call__(self, like: Tensor, dtype: str = "float32") -> Tensor:
        if like.device.type in ("cpu", "meta"):
            return super().__call__(like, dtype)
        key = (str(like.device), dtype)
        if key not in self._copies:
            tensor = ops.convert_to_tensor(self._as(dtype))
            if type(tensor).__name__ != "Tensor":
                # Traced for an export: not a value that can be kept.
                return tensor
            self._copies[key] = tensor
        return self._copies[key]


def sliding_frames(
    x: Tensor, frame_length: int, hop_length: int, frames: Size
) -> Tensor:
    # A view; nothing is copied.
    return x.unfold(-1, frame_length, hop_length)[:, :frames]


def rolled(x: Tensor, shift: Tensor, around: Tensor) -> Tensor:
    x = ops.convert_to_tensor(x)
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return portable.rolled(x, shift, around)
    # Pieces are copied whole, where an index for each place is slow.
    pieces = [
        piece
        for row, by, end in zip(x, shift.tolist(), around.tolist(), strict=True)
        for piece in (row[end - by : end], row[: end - by], row[end:])
    ]
    return torch.cat(pieces).view(x.shape)


def in_chunks(
    function: Callable[[Tensor], Tensor], x: Tensor, clip_bytes: Size
) -> Tensor:
    clips = chunks.clips_at_once(x, clip_bytes, ABOVE, ABOUT)
    if clips and x.device.type == "cpu":
        return chunks.in_pieces(function, x, clips)
    return function(x)


def rounds_coarsely(x: Tensor) -> bool:
    # Four times as coarsely as the other backends' on a CPU.
    return x.device.type == "cpu"


def soft_ranks(z: Tensor, kind: str) -> Tensor:
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if traced or z.device.type != "cpu":
        return portable.soft_ranks(z, kind)
    try:
        if z.requires_grad and torch.is_grad_enabled():
            return SoftRanks.apply(z, kind)
        ranks, _ = pooling_rows.soft_ranks(z.detach().numpy(), kind)
        return torch.from_numpy(ranks)
    except pooling_rows.Unfit:
        # float32 would lose digits in sums over so long rows.
        return portable.soft_ranks(z.double(), kind).to(z.dtype)


class SoftRanks(torch.autograd.Function):
    """Soft ranks by one call in C++."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, kind: str) -> Tensor:
        ranks, ctx.kept = pooling_rows.soft_ranks(z.numpy(), kind)
        ctx.save_for_backward(z)
        ctx.kind = kind
        return torch.from_numpy(ranks)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if not torch.is_grad_enabled():
            down = pooling_rows.gradient(grad.numpy(), ctx.kept)
            return torch.from_numpy(down), None
        # A gradient that is to have one itself.
        (z,) = ctx.saved_tensors
        ranks = portable.soft_ranks(z, ctx.kind)
        return *torch.autograd.grad(ranks, z, grad, create_graph=True), None
