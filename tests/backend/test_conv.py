import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import portable
from tests.backend.kernels import BACKEND
from tests.backend.kernels import COMPILED
from tests.backend.kernels import Kernel
from tests.backend.kernels import array
from tests.backend.kernels import check
from tests.backend.kernels import on_torch
from tests.blocks.gradients import close
from tests.blocks.gradients import run

MAP = array(0, 4, 11, 8, 3) + 2
ONE_CHANNEL = array(0, 4, 11, 8, 1) + 2
PAD = ((1, 2), (0, 1))


def weights(*shape):
    """Kernel, gamma (of both signs) and beta."""
    return array(1, *shape), array(2, shape[-1]), array(3, shape[-1])


CASES = {
    "conv": ("conv", [MAP, array(1, 5, 3, 3, 5)], {}),
    "conv, strided": (
        "conv",
        [MAP, array(1, 5, 3, 3, 5)],
        {"stride": 2, "pad": PAD},
    ),
    "conv, two strides": (
        "conv",
        [MAP, array(1, 5, 3, 3, 5)],
        {"stride": (1, 2)},
    ),
    "conv, strided and wide": (
        "conv",
        [array(0, 3, 9, 8, 64), array(1, 3, 3, 64, 5)],
        {"stride": 2, "pad": ((1, 1), (0, 1))},
    ),
    "conv, even": ("conv", [MAP, array(1, 2, 4, 3, 5)], {}),
    "conv, pointwise": ("conv", [MAP, array(1, 1, 1, 3, 5)], {}),
    "conv, one channel": ("conv", [ONE_CHANNEL, array(1, 3, 3, 1, 5)], {}),
    "conv, one row": ("conv", [MAP, array(1, 1, 3, 3, 5)], {}),
    "conv, one row, strided": (
        "conv",
        [MAP, array(1, 1, 4, 3, 5)],
        {"stride": (1, 2), "pad": ((0, 0), (0, 1))},
    ),
    "conv, one row, few bins": (
        "conv",
        [array(0, 4, 11, 2, 3), array(1, 1, 3, 3, 5)],
        {},
    ),
    "doubled": ("doubled", [MAP], {}),
    "doubling": ("doubling_conv", [MAP, array(1, 3, 3, 5, 3)], {}),
    "doubling, wide": (
        "doubling_conv",
        [array(0, 2, 5, 4, 3), array(1, 3, 3, 64, 3)],
        {},
    ),
    "depthwise": ("depthwise_conv", [MAP, array(1, 5, 3, 3, 1)], {}),
    "depthwise, strided": (
        "depthwise_conv",
        [MAP, array(1, 5, 3, 3, 1)],
        {"stride": 2, "pad": PAD},
    ),
    "max_pool": ("max_pool", [MAP], {"pool": (2, 3)}),
    "max_pool, overlapping": (
        "max_pool",
        [MAP],
        {"pool": (3, 2), "stride": (2, 1)},
    ),
    "max_pool, apart": ("max_pool", [MAP], {"pool": (1, 2), "stride": (2, 3)}),
    "max_pool, none": ("max_pool", [MAP], {"pool": (1, 1)}),
    "relu_pool": ("relu_pool", [MAP - 2], {"pool": (2, 3)}),
    "average_pool": ("average_pool", [MAP], {"pool": (2, 3)}),
    "max_over_time": ("max_over_time", [array(0, 4, 7, 3)], {}),
    "affine": (
        "affine",
        [MAP, array(1, 3), array(2, 3) ** 2, array(3, 3), array(4, 3)],
        {"epsilon": 1e-3},
    ),
    "batch_norm": (
        "batch_norm",
        [MAP, array(2, 3), array(3, 3)],
        {"epsilon": 1e-3},
    ),
    "batch_norm, frames": (
        "batch_norm",
        [array(0, 4, 7, 3), array(2, 3), array(3, 3)],
        {"epsilon": 1e-3},
    ),
    "batch_norm, clips": (
        "batch_norm",
        [array(0, 6, 3), array(2, 3), array(3, 3)],
        {"epsilon": 1e-3},
    ),
    "conv, a row in steps": (
        "conv",
        [array(0, 3, 1, 21, 64), array(1, 1, 6, 64, 5)],
        {"stride": (1, 3), "pad": ((0, 0), (1, 2))},
    ),
    "conv, a row with a rest": (
        "conv",
        [array(0, 3, 1, 20, 64), array(1, 1, 4, 64, 5)],
        {"stride": (1, 2), "pad": ((0, 0), (1, 0))},
    ),
    "group_norm": (
        "group_norm",
        [array(0, 4, 7, 6) + 3, array(2, 6), array(3, 6)],
        {"groups": 2, "epsilon": 1e-3},
    ),
    "norm_silu": (
        "norm_silu",
        [MAP, array(2, 3), array(3, 3)],
        {"epsilon": 1e-3},
    ),
    "conv_batch_norm": (
        "conv_batch_norm",
        [ONE_CHANNEL, *weights(3, 1, 1, 5)],
        {"epsilon": 1e-3},
    ),
    "conv_batch_norm, channels": (
        "conv_batch_norm",
        [MAP, *weights(1, 1, 3, 5)],
        {"epsilon": 1e-3},
    ),
    "conv_norm_pool": (
        "conv_norm_pool",
        [MAP, *weights(3, 3, 3, 5)],
        {"epsilon": 1e-5, "pool": (2, 3)},
    ),
    "conv_norm_pool, no pool": (
        "conv_norm_pool",
        [MAP, *weights(3, 1, 3, 5)],
        {"epsilon": 1e-5, "pool": (1, 1)},
    ),
    "conv_norm_pool, one channel": (
        "conv_norm_pool",
        [ONE_CHANNEL, *weights(3, 3, 1, 5)],
        {"epsilon": 1e-5, "pool": (2, 2)},
    ),
}


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_plain_function(case, compiled):
    check(*CASES[case], compiled=compiled)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="no ways of their own")
@pytest.mark.parametrize("case", CASES)
def test_accelerators_give_the_same(case, monkeypatch):
    if BACKEND == "jax":
        import jax

        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    else:
        monkeypatch.setattr(backend.torch, "is_plain", lambda x: False)
    check(*CASES[case], compiled=COMPILED[-1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", sorted({*CASES} - {"affine", "group_norm"}))
def test_half_precision_is_near(case, dtype):
    # These are given float32 under any policy.
    check(*CASES[case], compiled=COMPILED[0], dtype=dtype, tolerance=0.1)


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(4, 11, 8, 3), (9, 6, 3), (20, 3)])
def test_batch_norm_adds_and_rectifies(shape, relu, compiled):
    def in_steps(x, gamma, beta, around):
        y, *moments = portable.batch_norm(x, gamma, beta, 1e-3)
        y = y + around
        return (ops.maximum(y, 0.0) if relu else y), *moments

    def at_once(x, gamma, beta, around):
        return backend.batch_norm(x, gamma, beta, 1e-3, around, relu)

    arrays = [array(0, *shape), array(2, 3), array(3, 3), array(4, *shape)]
    grad = array(9, *shape)
    want = run(Kernel(in_steps), arrays, grad)
    got = run(Kernel(at_once), arrays, grad, compiled=compiled)
    for key in ("outputs", "inputs"):
        close(got[key], want[key], 2e-5)


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("relu", [False, True])
def test_conv_batch_norm_adds_and_rectifies(relu, compiled):
    def in_steps(x, *rest):
        *rest, around = rest
        y, *moments = portable.conv_batch_norm(x, *rest, 1e-3)
        y = y + around
        return (ops.maximum(y, 0.0) if relu else y), *moments

    def at_once(x, *rest):
        *rest, around = rest
        return backend.conv_batch_norm(x, *rest, 1e-3, around, relu)

    around = array(5, 4, 11, 8, 5)
    arrays = [ONE_CHANNEL, *weights(1, 3, 1, 5), around]
    grad = array(9, *around.shape)
    want = run(Kernel(in_steps), arrays, grad)
    got = run(Kernel(at_once), arrays, grad, compiled=compiled)
    for key in ("outputs", "inputs"):
        close(got[key], want[key], 2e-5)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone has such sizes")
@pytest.mark.parametrize("sizes", ["n, t, 8", "n, t, 2", "n, 1, f"])
def test_a_row_of_unknown_length_is_exported(sizes):
    import jax
    import jax.export as export

    shape = (*export.symbolic_shape(sizes), 3)
    kernel = array(1, 1, 3, 3, 5)
    done = export.export(jax.jit(lambda x: backend.conv(x, kernel)))(
        jax.ShapeDtypeStruct(shape, "float32")
    )
    assert done.out_avals[0].shape == (*shape[:3], 5)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone has such sizes")
@pytest.mark.parametrize("sizes", ["b, 9, 8", "2, t, 8", "b, t, f"])
@pytest.mark.parametrize(("pool", "stride"), [(2, 2), (3, 2)])
def test_maxima_of_unknown_sizes_are_exported(sizes, pool, stride):
    import jax
    import jax.export as export

    shape = (*export.symbolic_shape(sizes), 3)
    done = export.export(
        jax.jit(lambda x: backend.max_pool(x, (pool, pool), (stride, stride)))
    )(jax.ShapeDtypeStruct(shape, "float32"))
    x = array(0, 3, 9, 8, 3)[: shape[0] if isinstance(shape[0], int) else 3]
    want = portable.max_pool(x, (pool, pool), (stride, stride))
    np.testing.assert_array_equal(done.call(x), want)


def test_of_equal_values_the_first_takes_the_gradient():
    x = np.zeros((1, 5, 7, 2), "float32")
    x[0, 3, 4, 0] = 1
    grad = np.arange(1, 9, dtype="float32").reshape(1, 2, 2, 2)
    got = run(Kernel(backend.max_pool, pool=(2, 3)), [x], grad)
    want = np.zeros_like(x)
    want[:, :4:2, :6:3] = grad
    want[0, 2, 3, 0], want[0, 3, 4, 0] = 0, grad[0, 1, 1, 0]
    assert (got["inputs"][0] == want).all()
    assert (got["outputs"][0][0, 1, 1] == [1, 0]).all()


@on_torch
def test_a_second_backward_pass_is_refused():
    import torch

    name, arrays, options = CASES["conv_norm_pool"]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, *_ = getattr(backend, name)(*tensors, **options)
    total = y.sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        total.backward()


def kernel_of(shape):
    """A kernel's variable and its values."""
    values = np.random.default_rng(5).normal(size=shape).astype("float32")
    return keras.Variable(values), values


def both_gradients(kernel, function):
    """What a convolution gives, and the gradient of its kernel."""
    kernel.value.grad = None
    y = function(kernel.value)
    (y * y).sum().backward()
    return ops.convert_to_numpy(y), kernel.value.grad.numpy()


@on_torch
@pytest.mark.parametrize("axes", [2, 1])
def test_a_kernel_is_laid_out_once(axes):
    import torch

    x = ops.convert_to_tensor(array(0, 2, 9, 8, 3))

    def function(kernel):
        return backend.conv(x, kernel if axes == 2 else kernel[None])

    shape = (3, 3, 3, 5)[2 - axes :]
    kernel, values = kernel_of(shape)
    first = both_gradients(kernel, function)
    assert kernel.value.movedim(-1, 0).is_contiguous()
    assert not kernel.value.is_contiguous()
    memory = kernel.value.data_ptr()
    again = both_gradients(kernel, function)
    assert kernel.value.data_ptr() == memory
    assert kernel.value.grad.stride() == kernel.value.stride()
    np.testing.assert_array_equal(ops.convert_to_numpy(kernel), values)
    other = torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))
    x = x.to(torch.float64)
    function(other).square().sum().backward()
    for y, gradient in (first, again):
        close(y, function(other).detach().numpy(), 1e-5)
        close(gradient, other.grad.numpy(), 1e-5)
    # Not on a GPU, whose kernels have orders of their own, nor in float64.
    assert other.is_contiguous()


@on_torch
def test_an_exchanged_kernel_is_not_taken_for_its_weight():
    kernel, values = kernel_of((3, 3, 4, 4))
    x = array(0, 2, 9, 8, 4)
    got = backend.conv(x, kernel.value.swapaxes(2, 3))
    want = backend.conv(x, values.swapaxes(2, 3).copy())
    close(ops.convert_to_numpy(got), ops.convert_to_numpy(want), 1e-6)
    assert kernel.value.is_contiguous()


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone sums by pieces")
@pytest.mark.parametrize("case", ["conv", "conv, strided", "conv, two strides"])
@pytest.mark.parametrize("most", [100, 400, 600])
def test_a_kernel_s_gradient_by_pieces_of_a_clip(case, most, monkeypatch):
    import sys

    # The name in the package is the function's.
    module = sys.modules["keras_audio_ssl.backend.jax.conv"]
    calls, by_pieces = [], module.by_pieces
    monkeypatch.setattr(module, "COLUMNS", most)
    monkeypatch.setattr(
        module, "by_pieces", lambda *a: calls.append(1) or by_pieces(*a)
    )
    check(*CASES[case], compiled=True)
    assert calls
