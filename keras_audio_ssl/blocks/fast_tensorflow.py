"""What `fast` computes under TensorFlow."""

import functools
from typing import Any


@functools.cache
def silu() -> Any:
    """`x * sigmoid(x)`, whose gradient is compiled."""
    import tensorflow as tf

    # Five passes over the map, or one when compiled: a third of the time.
    @tf.function(jit_compile=True)
    def gradient(x, grad):
        gate = tf.sigmoid(x)
        return grad * (gate * (1 + x * (1 - gate)))

    @tf.custom_gradient
    def function(x):
        return tf.nn.silu(x), lambda grad: gradient(x, grad)

    return function


def padded(x: Any, kernel: Any, stride: int, pad: Any) -> tuple[Any, str]:
    """A map and the padding that is left to the convolution, in its words."""
    import tensorflow as tf

    # Explicit paddings of a depthwise convolution end TensorFlow's graph
    # optimizer with an abort.
    same = tuple((size // 2, size // 2) for size in kernel.shape[:2])
    odd = kernel.shape[0] % 2 and kernel.shape[1] % 2
    if stride == 1 and odd and pad == same:
        return x, "SAME"
    if any(sum(side) for side in pad):
        x = tf.pad(x, [(0, 0), *pad, (0, 0)])
    return x, "VALID"
