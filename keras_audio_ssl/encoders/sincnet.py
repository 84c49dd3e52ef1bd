"""SincNet on chunks of the waveform, and clips as means of their chunks."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import BatchNorm
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import SincConv
from keras_audio_ssl.blocks import TimeNorm
from keras_audio_ssl.blocks import conv_1d
from keras_audio_ssl.blocks import uniform_dense
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.windowed import Windowed
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask


class SincNetChunk(Backbone):
    """SincNet on chunks of one length.

    Layer norm, sinc convolution, absolute value, max pooling, layer norm and
    leaky ReLU; convolutions that do the same without the absolute value;
    dense layers with batch norm on all that is left. The chunk is the one
    output frame. Arguments are those of `SincNet`.

    Call arguments:
        features: `(batch, chunk, 1)`; with `norm="time"` of any length that
            the convolutions take.

    Raises:
        ValueError: `chunk` is too short for the convolutions, or features are
            of another length than it.
    """

    # Padding would count in the statistics.
    exact_lengths = False

    def __init__(
        self,
        n_features: int = 1,
        sample_rate: int = 16000,
        chunk: int = 3200,
        sinc: tuple[int, int] = (80, 251),
        sinc_stride: int = 1,
        conv: Sequence[Sequence[int]] = ((60, 5), (60, 5)),
        pools: int | Sequence[int] = 3,
        dense: Sequence[int] = (2048,) * 3,
        norm: str = "sincnet",
        slope: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("norm", norm, ("sincnet", "time"))
        if n_features != 1:
            raise ValueError(
                "SincNet reads waveforms, of one feature. "
                f"Received: n_features={n_features}"
            )
        if not isinstance(pools, (list, tuple)):
            # One number, of whatever kind.
            pools = [pools] * (1 + len(conv))  # type: ignore[list-item]
        if len(pools) != 1 + len(conv) or min(pools) < 1 or not dense:
            raise ValueError(
                "`pools` must hold a positive number for the sinc layer and "
                "for each convolution, and `dense` a width or more. Received: "
                f"pools={pools}, conv={conv}, dense={dense}"
            )
        self.pools = list(pools)
        policy = {"dtype": self.dtype_policy}
        fixed = norm == "sincnet"
        self.norm_in = TimeNorm(
            1, chunk if fixed else None, name="norm_in", **policy
        )
        self.sinc = SincConv(
            *sinc, sample_rate, sinc_stride, name="sinc", **policy
        )
        self.convs, self.norms = [], []
        self.min_frames = self.least(conv)
        if chunk < self.min_frames:
            raise ValueError(
                f"`chunk` must be at least {self.min_frames} samples, for "
                f"these convolutions. Received: {chunk}"
            )
        time, width = chunk, 1
        for i, (filters, size) in enumerate([sinc, *conv]):
            if i:
                layer = keras.layers.Conv1D(
                    filters, size, name=f"conv_{i}", **policy
                )
                layer.build((None, None, width))
                self.convs.append(layer)
                time = time - size + 1
            else:
                time = (time - self.sinc.kernel_size) // sinc_stride + 1
            time, width = time // self.pools[i], filters
            self.norms.append(
                TimeNorm(
                    filters, time if fixed else None, name=f"norm_{i}", **policy
                )
            )
        if fixed:
            self.min_frames = chunk
        flat = time * width if fixed else width
        # One channel, of which the places are normalised together.
        self.norm_flat = TimeNorm(1, flat, name="norm_flat", **policy)
        self.dense_layers, self.dense_norms = [], []
        before = flat
        for i, units in enumerate(dense):
            self.dense_layers.append(
                uniform_dense(units, before, name=f"dense_{i}", **policy)
            )
            # As 0.05 in PyTorch.
            batch_norm = BatchNorm(
                momentum=0.95, epsilon=1e-5, name=f"dense_norm_{i}", **policy
            )
            batch_norm.build((None, units))
            self.dense_norms.append(batch_norm)
            before = units
        self.pooling = FramePool(("mean",), name="pooling", **policy)
        self.dims = [filters for filters, _ in [sinc, *conv]] + list(dense)
        self.strides, step = [], sinc_stride
        for pool in self.pools:
            step *= pool
            self.strides.append(step)
        self.strides += [chunk] * len(dense)

    def least(self, conv: Any) -> int:
        """Fewest samples that leave something of every convolution."""
        samples = 1
        for (_, size), pool in zip(
            reversed(conv), reversed(self.pools), strict=False
        ):
            # Backwards through each: before the pooling, before the
            # convolution.
            samples = samples * pool + size - 1
        samples = samples * self.pools[0] - 1
        return samples * self.sinc.stride + self.sinc.kernel_size

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        return ops.ones_like(ops.cast(lengths, "int32"))

    def convolved(self, features: Tensor) -> Tensor:
        """What the convolutions give: a list of `(batch, time, filters)`."""
        x, hidden = self.norm_in(features), []
        for i, norm in enumerate(self.norms):
            if i:
                conv = self.convs[i - 1]
                x = conv_1d(ops.cast(x, self.compute_dtype), conv.kernel)
                x = x + ops.cast(conv.bias, x.dtype)
            else:
                x = ops.abs(self.sinc(x))
            # A map of one row, of which the backends have kernels.
            x = ops.expand_dims(x, axis=1)
            x = backend.max_pool(x, (1, self.pools[i]))
            x = ops.squeeze(x, axis=1)
            x = ops.leaky_relu(norm(x), self.slope)
            hidden.append(x)
        return hidden

    def flattened(self, x: Tensor) -> Tensor:
        """Maps as vectors: `(batch, time, filters)` to `(batch, width)`."""
        if self.norm == "time":
            x = ops.cast(ops.mean(ops.cast(x, "float32"), axis=1), x.dtype)
        else:
            # Channels major, as in the release.
            width = self.norm_flat.time
            x = ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, width))
        return x

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        time = features.shape[1]
        fixed = self.norm == "sincnet"
        if fixed and isinstance(time, int) and time != self.chunk:
            raise ValueError(
                f"With norm='sincnet' a chunk has {self.chunk} samples. "
                f"Received: {time}"
            )
        hidden = self.convolved(features)
        x = self.flattened(hidden[-1])
        # As one channel whose time is the width.
        x = self.norm_flat(x[..., None])[..., 0]
        for dense, norm in zip(
            self.dense_layers, self.dense_norms, strict=True
        ):
            x = norm(dense(x), training=training)
            x = ops.leaky_relu(x, self.slope)
            hidden.append(x[:, None])
        return hidden


class SincNet(Windowed):
    """SincNet over chunks of a clip of any length: its d-vector.

    A frame is the embedding of a chunk. The clip vector, or d-vector, is the
    mean of the frames scaled to unit length, those of quiet chunks left out.
    A clip shorter than a chunk is repeated. Levels of the convolutions are
    means over each chunk.

    A few chunks pass the network together, so that its memory does not grow
    with the clip; see `Windowed`.

    Args:
        n_features: Must be 1: it reads waveforms.
        sample_rate: Hz.
        chunk: Samples of a chunk.
        hop: Samples between the beginnings of chunks.
        sinc: Filters and taps of the sinc layer.
        sinc_stride: Samples between outputs of the sinc layer.
        conv: Filters and taps of each convolution.
        pools: Width of the max pooling, one for all or one for each layer.
        dense: Width of each dense layer.
        norm: `"sincnet"`: the release's, with a scale and an offset for each
            place and channel, and a network of one length; `"time"`: the
            same statistics, with a scale and an offset for each channel, and
            a mean over time before the dense layers. Its weights fit chunks
            of any length.
        slope: Of the leaky ReLU.
        gate: Chunks of less than this share of the chunks' mean energy are
            left out of the clip vector; 0 for none.
        block: Chunks that pass the network together.

    Raises:
        ValueError: `chunk` is too short for the convolutions, or another
            argument out of range.

    Reference:
        Ravanelli & Bengio, 2018, arXiv 1808.00158; 2019, "Learning Speaker
        Representations with Mutual Information", arXiv 1812.00271.
    """

    def __init__(
        self,
        n_features: int = 1,
        sample_rate: int = 16000,
        chunk: int = 3200,
        hop: int = 160,
        sinc: tuple[int, int] = (80, 251),
        sinc_stride: int = 1,
        conv: Sequence[Sequence[int]] = ((60, 5), (60, 5)),
        pools: int | Sequence[int] = 3,
        dense: Sequence[int] = (2048,) * 3,
        norm: str = "sincnet",
        slope: float = 0.2,
        gate: float = 0.1,
        block: int = 32,
        **kwargs: Any,
    ) -> None:
        if not 0 <= gate <= 1:
            raise ValueError(f"`gate` must be in [0, 1]. Received: {gate}")
        network = SincNetChunk(
            n_features, sample_rate, chunk, sinc, sinc_stride, conv, pools,
            dense, norm, slope, name="chunk", dtype=kwargs.get("dtype"),
        )  # fmt: skip
        super().__init__(network, chunk, hop, block, short="repeat", **kwargs)
        self.dims = list(network.dims)
        self.strides = [hop] * len(self.dims)

    def of_windows(self, rows: Tensor, training: bool | None = None) -> Tensor:
        hidden = self.backbone(rows, training=training)["hidden"]
        # One or many frames of a chunk: their mean.
        means = [ops.mean(ops.cast(h, "float32"), axis=1) for h in hidden]
        return ops.concatenate(means, axis=-1)

    def clip_vector(
        self,
        frames: Tensor,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        frames = ops.cast(frames, "float32")
        square = ops.sum(ops.square(frames), axis=-1, keepdims=True)
        # A d-vector is the mean of unit vectors, of the louder chunks alone.
        unit = frames * ops.rsqrt(ops.maximum(square, 1e-12))
        count = ops.shape(frames)[1]
        keep = ops.ones(ops.shape(frames)[:2], "float32")
        if lengths is not None:
            keep = ops.cast(frame_mask(lengths, count), "float32")
        if self.gate and features is not None:
            energy = self.energies(features)[:, :count]
            energy = ops.where(keep > 0, energy, 0.0)
            mean = ops.sum(energy, axis=1) / ops.sum(keep, axis=1)
            loud = energy >= self.gate * mean[:, None]
            keep = keep * ops.cast(loud, "float32")
        weights = keep / ops.maximum(ops.sum(keep, 1, keepdims=True), 1.0)
        return ops.sum(unit * weights[..., None], axis=1)

    def energies(self, features: Tensor) -> Tensor:
        """Mean square of each chunk, `(batch, chunks)`.

        Args:
            features: `(batch, samples, 1)`, zero past each clip's end.
        """
        # Only a clip of a single chunk can be shorter than it.
        square = ops.pad(
            ops.square(ops.cast(features, "float32")),
            ((0, 0), (0, self.frames), (0, 0)),
        )
        pooled = ops.average_pool(
            square, self.frames, self.stride, "valid", "channels_last"
        )
        return pooled[..., 0]
