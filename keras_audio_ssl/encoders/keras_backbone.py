"""Any Keras model or layer as a backbone."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.encoders.backbone import Backbone

# Feature frames, or samples, that a network is tried with.
PROBES = (128, 1024, 16000, 64000)
# What the backends say of an input that is too short.
TOO_SHORT = (ValueError, TypeError, RuntimeError, IndexError)


class KerasBackbone(Backbone):
    """Any Keras model or layer as a backbone.

    Its stride, how its lengths round and the fewest frames that it takes are
    measured. One that takes inputs of a single length only reads clips of any
    length inside of `Windowed`.

    Such a model knows nothing of padding: what a padded frame holds may leak
    into its neighbours. So `embed` runs clips of unequal length one by one.
    Where `lengths` are given, as in training on padded batches, they select
    the frames that are pooled, no more.

    Args:
        network: Model or layer, see `make_encoder`.
        n_features: Bins of the features.
        exact_lengths: Whether no frame of the network depends on its
            neighbours, as with `Dense` or `Identity`, default False. Then
            padding does no harm, and `embed` may pad.

    Raises:
        ValueError: The network takes no features of this many bins at any
            length that is tried, or gives neither frames nor vectors.
    """

    def __init__(
        self,
        network: keras.layers.Layer,
        n_features: int,
        exact_lengths: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = network
        if isinstance(network, keras.Sequential) and not network.built:
            build_for_any_time(network, n_features)
        self.channel_axis = False
        time, shape = self._probe()
        if len(shape) not in (2, 3, 4):
            raise ValueError(
                "The encoder must give (batch, frames, dim), (batch, frames, "
                f"bins, channels) or (batch, dim). Received: {shape}"
            )
        dim = int(shape[-1])
        if len(shape) == 4:
            dim *= int(shape[2])
        self.rank = len(shape)
        # Output frames of any input, where they do not grow with it, and
        # else the `least` in `(time - least) // stride + 1` of them.
        self.constant: int | None = None
        self.least = 1
        self.dims, self.strides = [dim], [self._measured_stride(time)]
        if self.constant is None:
            self.least = self._measured_least(time)
        self.min_frames = self._measured_minimum(time)
        self.pooling = FramePool(("mean",), name="pooling")

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        lengths = ops.cast(lengths, "int32")
        if self.constant is not None:
            return ops.full_like(lengths, self.constant)
        frames = (lengths - self.least) // self.strides[level] + 1
        return ops.maximum(frames, 1)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x = features[..., None] if self.channel_axis else features
        if self.network._call_has_training_arg:
            x = self.network(x, training=training)
        else:
            x = self.network(x)
        if self.rank == 2:
            x = x[:, None, :]
        if self.rank == 4:
            x = ops.reshape(x, (-1, ops.shape(x)[1], self.dim))
        return [x]

    def _spec(self, time: Size) -> Any:
        shape = (1, time, self.n_features) + (1,) * self.channel_axis
        return keras.KerasTensor(shape, dtype="float32")

    def _output_shape(self, time: Size) -> tuple[Any, ...]:
        """The network's output for so many frames, which it must take."""
        return tuple(self.network(self._spec(time)).shape)

    def _frames(self, time: Size) -> Size:
        """Output frames of so many; 0 where the network takes none."""
        try:
            shape = self._output_shape(time)
        except TOO_SHORT:
            return 0
        return 1 if len(shape) == 2 else int(shape[1])

    def _probe(self) -> Any:
        """`(feature frames, shape of the output)` that the network takes."""
        known: Any = getattr(self.network, "input_shape", None) or ()
        if len(known) == 4 and known[3] not in (None, 1):
            raise ValueError(
                f"The encoder takes maps of {known[3]} channels, and features "
                "have one: let it begin with `keras.Input((None, bins, 1))`; "
                f"`keras.layers.Conv2D({known[3]}, 1)` makes more of it."
            )
        fixed = len(known) > 2 and isinstance(known[1], int)
        lengths, refusals = known[1:2] if fixed else PROBES, []
        for self.channel_axis in (False, True):
            for time in lengths:
                try:
                    shape = self._output_shape(time)
                except TOO_SHORT as error:
                    refusals.append(error)
                    continue
                if 0 not in shape:
                    return time, shape
        # Without an axis of channels if it has three, with one if it has four.
        first = refusals[0 if len(known) == 3 else -1] if refusals else None
        raise ValueError(
            "The encoder must take (batch, time, bins) or (batch, time, bins, "
            f"1) of {self.n_features} bins, as many as the front end gives. "
            "For a network of another number let it begin with "
            "`keras.Input((None, bins))`, or `(None, bins, 1)`, and `n_mels` "
            "follows; or choose the front end: kas.encoders.make_encoder("
            "network, kas.features.recipe('cola', n_mels=bins)). It takes none "
            f"of the times {', '.join(map(str, lengths))}"
            + (f": {plain(first)}" if first else ".")
        ) from first

    def _measured_stride(self, time: Size) -> Tensor:
        frames = self._frames(time)
        stride = max(1, round(time / frames))
        if self.rank == 2:
            self.constant = 1
            return stride
        for _ in range(4):
            # So far on that a frame more or less makes no difference.
            more = min(4 * stride**2, 2**24)
            grown = self._frames(time + more) - frames
            if grown < 1:
                self.constant = frames
                break
            before, stride = stride, max(1, round(more / grown))
            if stride == before:
                break
        return stride

    def _measured_least(self, time: Size) -> Tensor:
        frames, stride = self._frames(time), self.strides[0]
        # The next frame comes somewhere in the next stride.
        following = first(
            time, time + stride, lambda n: self._frames(n) > frames
        )
        return following - frames * stride

    def _measured_minimum(self, time: Size) -> Tensor:
        guess = min(max(self.least, 1), time)
        if not self._frames(guess):
            least = first(guess, time, self._frames)
        elif guess > 1 and self._frames(guess - 1):
            least = first(0, guess - 1, self._frames)
        else:
            least = guess
        # A mean of no frames has a shape too, but no value.
        while self.rank == 2 and least < time and not self._is_defined(least):
            least = min(2 * least, time)
        return least

    def _is_defined(self, time: Size) -> bool:
        if is_graph(self.network):
            return has_entries(self.network, self._spec(time))
        zeros = ops.zeros((1, time, self.n_features), "float32")
        try:
            frames = self.levels(zeros, training=False)[0]
        except TOO_SHORT:
            return False
        return bool(np.isfinite(ops.convert_to_numpy(frames)).all())


def is_graph(network: Any) -> bool:
    """Whether the layers of a network, and their order, are known."""
    return isinstance(network, (keras.Sequential, keras.Function))


def has_entries(network: Any, spec: Any) -> bool:
    """Whether all that is inside a graph has entries; nothing is computed.

    What a stranger's graph would compute may take any time and memory.

    Args:
        network: For which `is_graph` holds.
        spec: `KerasTensor`, its input.

    Returns:
        False where the output of some layer has an axis of none.
    """
    if isinstance(network, keras.Sequential):
        for layer in network.layers:
            if is_graph(layer) and not has_entries(layer, spec):
                return False
            try:
                spec = layer(spec)
            except TOO_SHORT:
                return False
            if 0 in spec.shape:
                return False
        return True
    nodes = [node for some in network._nodes_by_depth.values() for node in some]
    tensors = [t for node in nodes for t in node.output_tensors]
    try:
        specs = keras.Function(network.inputs, tensors).compute_output_spec(
            [spec]
        )
    except TOO_SHORT:
        return False
    if any(0 in s.shape for s in specs):
        return False
    known = {id(t): s for t, s in zip(tensors, specs, strict=True)}
    return all(
        has_entries(node.operation, known[id(node.input_tensors[0])])
        for node in nodes
        if is_graph(node.operation)
    )


def plain(error: BaseException) -> str:
    """What Keras says of an input, without where and with what arguments."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    text = re.sub(r"Exception encountered when calling \S+\s+", "", text)
    return text.split("Arguments received by")[0].strip()


def first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first whole number above `low` for which a condition holds.

    It holds for `high`, and from the first one on.
    """
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def build_for_any_time(network: Any, n_features: int) -> None:
    """Builds a `Sequential`, which else takes its first input's shape only.

    Args:
        network: The `Sequential`; where it needs a known time, of the first
            of `PROBES`, and left as it is if there is none that it takes.
        n_features: Bins of the features.
    """
    shapes = [
        (None, time, n_features, *channel)
        for time in (None, PROBES[0])
        for channel in ((), (1,))
    ]
    for shape in shapes:
        # A failure leaves traces, so a copy goes first.
        copy = keras.Sequential.from_config(network.get_config())
        try:
            copy.build(shape)
        except TOO_SHORT:
            continue
        network.build(shape)
        return
