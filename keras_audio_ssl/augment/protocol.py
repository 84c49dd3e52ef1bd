"""What every augmentation is, and how often it is applied."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer


class Augmentation(Layer):
    """A random change of waveforms or features that keeps their shape.

    A subclass says its `domain`, and has two functions: `draw`, which makes
    all random choices, and `apply`, which makes none. Each clip has draws of
    its own. Works in float32 whatever the dtype policy.

    Call arguments:
        x: `(batch, samples)` or `(batch, time, bins)`, zero past each clip's
            end.
        lengths: Optional `(batch,)`, valid samples or frames; what lies
            beyond stays zero, and changes nothing before. Some take maps of
            one length only (`takes_lengths`).
        seed: `keras.random.SeedGenerator`.

    Returns:
        Like `x`.

    Attributes:
        domain: `"waveform"` or `"features"`.
        takes_lengths: Whether clips may have padding, default True.

    Raises:
        ValueError: There are `lengths`, and it takes none.
    """

    domain: str
    takes_lengths: bool = True

    def __init__(self, **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        """The random choices for a batch.

        Args:
            shape: Of `x`.
            lengths: `(batch,)`, as of a call, or None.
            seed: `keras.random.SeedGenerator`.

        Returns:
            Dict of tensors, the arguments of `apply`.
        """
        raise NotImplementedError

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, **drawn: Any
    ) -> Tensor:
        """What becomes of `x` with these draws.

        Args:
            x: As of a call.
            lengths: As of a call.
            **drawn: What `draw` gave.
        """
        raise NotImplementedError

    def call(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> Tensor:
        if lengths is not None:
            if not self.takes_lengths:
                raise ValueError(
                    f"{type(self).__name__} takes maps without padding: crop "
                    "them to one length first. Received: `lengths`"
                )
            lengths = ops.cast(lengths, "int32")
        drawn = self.draw(ops.shape(x), lengths, seed)
        return self.apply(x, lengths, **drawn)


class Sometimes(Augmentation):
    """An augmentation that some clips get and others don't.

    Args:
        layer: The augmentation.
        p: Probability of each clip.

    Raises:
        ValueError: `layer` is none, or `p` not in [0, 1].
    """

    def __init__(
        self, layer: Augmentation, p: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(layer, Augmentation):
            raise ValueError(
                "`layer` must be an augmentation. Received: "
                f"{type(layer).__name__}"
            )
        if not 0 <= p <= 1:
            raise ValueError(f"`p` must be in [0, 1]. Received: {p}")

    @property
    def domain(self) -> str:
        """That of the layer: `"waveform"` or `"features"`."""
        return self.layer.domain

    @property
    def takes_lengths(self) -> bool:
        """Whether the layer takes clips with padding."""
        return self.layer.takes_lengths

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        die = keras.random.uniform((shape[0],), seed=seed)
        drawn = self.layer.draw(shape, lengths, seed)
        return {"hit": die < self.p, "drawn": drawn}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        hit: Tensor,
        drawn: dict[str, Any],
    ) -> Tensor:
        hit = ops.reshape(hit, (-1,) + (1,) * (len(x.shape) - 1))
        return ops.where(hit, self.layer.apply(x, lengths, **drawn), x)
