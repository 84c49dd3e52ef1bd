"""What writes a spoken word from a vector, and what knows no vector."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.lstm import LSTM
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice

FEEDS = ("embedding", "teacher", "free")


class WordDecoder(Layer):
    """A vector to a sequence of frames: an LSTM and a dense layer.

    The LSTM begins with `tanh(z)` for its output and an empty memory.

    Args:
        dim: Width of the vector, and of the LSTM.
        output_dim: Bins that are written.
        feed: What enters at each frame: `"embedding"`, z; `"teacher"`, z and
            the true frame before; `"free"`, z and the frame that was written
            before. Before the first one stand zeros.

    Call arguments:
        z: `(batch, dim)`.
        frames: How many are written.
        target: `(batch, frames, output_dim)`, for `"teacher"`.

    Returns:
        `(batch, frames, output_dim)`.

    Reference:
        Chung & Glass, 2018, arXiv 1803.08976.
    """

    def __init__(
        self, dim: int, output_dim: int, feed: str = "embedding", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_choice("feed", feed, FEEDS)
        policy = {"dtype": self.dtype_policy}
        self.lstm = LSTM(dim, name="lstm", **policy)
        width = dim if feed == "embedding" else dim + output_dim
        self.lstm.build((None, None, width))
        self.out = keras.layers.Dense(output_dim, name="out", **policy)
        self.out.build((None, None, dim))

    def call(self, z: Tensor, frames: Size, target: Tensor = None) -> Tensor:
        start = [ops.tanh(z), ops.zeros_like(z)]
        if self.feed == "embedding":
            read = self.lstm(z[:, None], initial_state=start, frames=frames)
        elif self.feed == "teacher":
            # The true frame before each, zeros before the first.
            before = ops.pad(target[:, :-1], ((0, 0), (1, 0), (0, 0)))
            read = self.lstm(beside(z, before), initial_state=start)
        else:
            read = self.run_free(z, start, frames)
        return self.out(read)

    def run_free(self, z: Tensor, start: Tensor, frames: Size) -> Tensor:
        """Reads its own frames.

        They are linear in the LSTM's output, so what reads them is an LSTM
        with another recurrent kernel and bias. It would read one before the
        first frame too: that is taken away.
        """
        lstm, dtype = self.lstm, self.lstm.state_dtype
        out, kernel, bias = (
            ops.cast(v, dtype)
            for v in (self.out.kernel, lstm.kernel[self.dim :], self.out.bias)
        )
        first = ops.matmul(ops.cast(start[0], dtype), out) + bias
        zeros = ((0, 0), (0, frames - 1), (0, 0))
        before = ops.pad(-first[:, None], zeros)
        return lstm.run(
            beside(z, ops.cast(before, z.dtype)),
            start,
            ops.convert_to_tensor(lstm.kernel),
            ops.convert_to_tensor(lstm.recurrent_kernel)
            + ops.matmul(out, kernel),
            lstm.bias + ops.matmul(bias, kernel),
        )


def beside(z: Tensor, x: Tensor) -> Tensor:
    """A vector at every frame.

    Args:
        z: `(batch, dim)`.
        x: `(batch, frames, bins)`.

    Returns:
        `(batch, frames, dim + bins)`.
    """
    z = ops.repeat(z[:, None], ops.shape(x)[1], axis=1)
    return ops.concatenate([z, ops.cast(x, z.dtype)], axis=-1)


class MeanTrajectory(Layer):
    """The mean of all sequences at each frame, as far as they were seen.

    What one would write without knowing anything of a word. Sequences of
    longer ago count less.

    Args:
        frames: Of the longest sequence.
        bins: Of a frame.
        momentum: Share of the past that stays at each step.

    Call arguments:
        x: `(..., frames, bins)`.
        mask: Boolean `(..., frames)`, valid frames.
        training: Whether `x` is to be learnt from.

    Returns:
        `(frames, bins)`; zeros for frames that were never seen.
    """

    def __init__(
        self, frames: int, bins: int, momentum: float = 0.99, **kwargs: Any
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.total, self.count = (
            self.add_weight(
                shape=shape, initializer="zeros", trainable=False, name=name
            )
            for name, shape in (("total", (frames, bins)), ("count", (frames,)))
        )

    def call(self, x: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        total, count = self.total.value, self.count.value
        if training:
            shape = (-1, *self.total.shape)
            weight = ops.reshape(ops.cast(mask, "float32"), shape[:2])
            x = ops.reshape(ops.cast(x, "float32"), shape)
            total = self.momentum * total + ops.sum(
                x * weight[..., None], axis=0
            )
            count = self.momentum * count + ops.sum(weight, axis=0)
            self.total.assign(total)
            self.count.assign(count)
        return total / ops.maximum(count, 1e-6)[:, None]
