"""What `fast` computes under PyTorch: maps stay channels last, uncopied."""

import functools
from typing import Any


def is_plain(x: Any) -> bool:
    """Whether a map is float32 on a CPU, for which these are made."""
    return x.device.type == "cpu" and str(x.dtype) == "torch.float32"


@functools.cache
def norm_pool() -> Any:
    """Normalisation, pooling and ReLU in one operation."""
    import torch
    from torch.autograd.function import once_differentiable

    class NormPool(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, gamma, beta, epsilon, pool):
            y = y.permute(0, 3, 1, 2)
            mean, variance = torch.batch_norm_update_stats(y, None, None, 0.0)
            inverse = torch.rsqrt(variance + epsilon)
            normal, index = torch.ops.aten.max_pool2d_with_indices(
                y, list(pool)
            )
            y, normal, index = (
                v.permute(0, 2, 3, 1) for v in (y, normal, index)
            )
            normal.sub_(mean).mul_(inverse)
            out = torch.addcmul(beta, normal, gamma).relu_()
            ctx.save_for_backward(y, index, normal, out, mean, inverse, gamma)
            ctx.mark_non_differentiable(mean, variance)
            return out, mean, variance

        @staticmethod
        @once_differentiable
        def backward(ctx, grad, *_):
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

    return NormPool.apply


@functools.cache
def norm_silu() -> Any:
    """Normalisation and SiLU in one operation."""
    import torch
    from torch.autograd.function import once_differentiable
    from torch.nn import functional

    class NormSiLU(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, gamma, beta, epsilon):
            view = y.permute(0, 3, 1, 2)
            mean, variance = torch.batch_norm_update_stats(
                view, None, None, 0.0
            )
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
        def backward(ctx, grad, *_):
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

    return NormSiLU.apply


def conv(x: Any, kernel: Any, stride: int, pad: Any, groups: int) -> Any:
    """Convolves `(batch, time, frequency, channels)`, grouped or not."""
    from torch.nn import functional

    (top, bottom), (left, right) = pad
    # Channels last in memory, seen as PyTorch wants it: nothing is copied.
    x = x.permute(0, 3, 1, 2)
    if top != bottom or left != right:
        x = functional.pad(x, (left, right, top, bottom))
        top = left = 0
    y = functional.conv2d(x, kernel, None, stride, (top, left), 1, groups)
    # No copy either, unless the map came in another layout.
    return y.permute(0, 2, 3, 1).contiguous()


def batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Normalises the last axis; see `fast.batch_norm`."""
    import torch

    channels = x.shape[-1]
    mean = torch.zeros(channels, dtype=gamma.dtype, device=x.device)
    variance = torch.ones_like(mean)
    # A view whose memory is laid out as PyTorch's kernels like it.
    if len(x.shape) == 2:
        view = x
    elif len(x.shape) == 4:
        view = x.permute(0, 3, 1, 2)
    else:
        view = x.reshape(1, -1, 1, channels).permute(0, 3, 1, 2)
    y = torch.batch_norm(
        view, gamma, beta, mean, variance, True, 1.0, epsilon, True
    )
    if len(x.shape) != 2:
        y = y.permute(0, 2, 3, 1).reshape(x.shape)
    count = x.numel() // channels
    # PyTorch records the unbiased one.
    variance = variance * ((count - 1) / count) if count > 1 else variance * 0
    return y, mean, variance
