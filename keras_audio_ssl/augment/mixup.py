"""Mixing a clip's log-mel with past ones, in the linear domain."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.protocol import Augmentation


def log_mixup(x: Tensor, z: Tensor, share: Tensor) -> Tensor:
    """Mixes log features as if their powers were mixed.

    Args:
        x: `(batch, time, bins)`, natural logarithms.
        z: The same, what is mixed in.
        share: `(batch,)`, share of `z`; where it is 0 `x` stays as it is.

    Returns:
        Like `x`.

    Reference:
        Niizumi et al., 2021, arXiv 2103.06695, eq. 3.
    """
    share = share[:, None, None]
    mixed = (1.0 - share) * ops.exp(x) + share * ops.exp(z)
    return ops.log(mixed + 1.1920929e-07)


class MixupMemory(Augmentation):
    """`log_mixup` with random entries of a first-in-first-out memory.

    The memory is a non-trainable weight: it is saved with the model.

    Attributes:
        keeps_finite: True: what it remembers is finite, whatever it is given.

    Args:
        ratio: Largest share of what is mixed in (alpha).
        capacity: Clips that are remembered.
        frames: Frames of a clip.
        bins: Bins of a frame.

    Returns of a call:
        Like `x`; `x` itself while the memory is empty.

    Reference:
        Niizumi et al., 2021, arXiv 2103.06695, section III-B.
    """

    domain = "features"
    takes_lengths = False
    keeps_finite = True

    def __init__(
        self, ratio: float, capacity: int, frames: int, bins: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.memory = self.add_weight(
            shape=(capacity, frames, bins),
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="memory",
        )
        self.pushed = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            dtype="int32",
            name="pushed",
        )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        drawn = keras.random.uniform((shape[0], 2), seed=seed)
        count = ops.minimum(self.pushed.value, self.capacity)
        pick = drawn[:, 1] * ops.cast(count, "float32")
        pick = ops.minimum(ops.cast(pick, "int32"), ops.maximum(count - 1, 0))
        return {"share": self.ratio * drawn[:, 0], "pick": pick}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        share: Tensor,
        pick: Tensor,
    ) -> Tensor:
        """Mixes each clip with one of the memory.

        Args:
            x: `(batch, frames, bins)`.
            lengths: None.
            share: `(batch,)`, share of the memory's clip.
            pick: `(batch,)` integers below the clips remembered; 0 is the
                oldest.
        """
        pushed = self.pushed.value
        oldest = ops.maximum(pushed - self.capacity, 0)
        # A ring: place k of the memory holds push k modulo the capacity.
        rows = (oldest + ops.cast(pick, "int32")) % self.capacity
        z = ops.take(self.memory.value, rows, axis=0)
        # An empty memory changes nothing.
        return ops.where(pushed > 0, log_mixup(x, z, share), x)

    def push(self, x: Tensor) -> None:
        """Remembers the clips `(batch, frames, bins)`, oldest first out.

        A batch that is not finite would spoil many to come: it is forgotten.
        """
        batch = ops.shape(x)[0]
        if isinstance(batch, int) and batch > self.capacity:
            x, batch = x[-self.capacity :], self.capacity
        rows = (self.pushed.value + ops.arange(batch)) % self.capacity
        finite = ops.isfinite(ops.sum(x))
        x = ops.where(finite, x, ops.take(self.memory.value, rows, axis=0))
        memory = ops.scatter_update(self.memory.value, rows[:, None], x)
        self.memory.assign(memory)
        # Kept below 2 * capacity, with the same position: it never overflows.
        pushed = self.pushed.value + ops.where(finite, batch, 0)
        over = ops.cast(pushed >= 2 * self.capacity, "int32")
        self.pushed.assign(pushed - over * self.capacity)
