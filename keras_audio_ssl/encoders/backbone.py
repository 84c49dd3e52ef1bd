"""What every backbone offers: features to frames, a clip vector, levels."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer


class Backbone(Layer):
    """Features to a representation; the base class of all backbones.

    A subclass builds its layers in the constructor, sets the attributes
    below and implements `levels`, which returns the list of its hidden
    levels, first to last. With `lengths` it keeps every level zero past each
    clip's end, so that convolutions see what they would see for the clip
    alone.

    A subclass that has attention maps says so (`has_attention`): then
    `levels` takes `return_attention` too, and where it is true returns
    `(levels, maps)`. It is not given otherwise, so that attention can be
    computed in the backend's fastest way, which knows no maps.

    Call arguments:
        features: `(batch, time, bins)`.
        lengths: Optional `(batch,)`, valid feature frames.
        return_attention: Adds `"attention"`.

    Returns:
        Dict of `"frames"` `(batch, frames, dim)`, `"clip"` `(batch, clip
        dim)` and `"hidden"`, the list of levels `(batch, frames of the
        level, dim of the level)`; if wanted `"attention"`, the list of maps
        `(batch, heads, frames, frames)`.

    Raises:
        ValueError: There are fewer feature frames than `min_frames`, or maps
            are wanted of a backbone that has none.

    Attributes:
        n_features: Bins of the features.
        strides: Feature frames in one frame of each level.
        dims: Width of each level.
        min_frames: Fewest feature frames it can take.
        pooling: Frames to clip vector, a `FramePool` or a layer of the same
            call that says the vector's `width(dim)`.
        output_level: Index of the level that is the output, default -1, the
            last; a class's, or an argument of its constructor.
        has_attention: Whether there are attention maps, default False.
        exact_lengths: Whether a clip with `lengths` gives what it gives
            alone, default True; else `embed` runs clips of unequal length one
            by one.
    """

    n_features: int
    strides: list[int]
    dims: list[int]
    min_frames: int = 1
    pooling: Any
    output_level: int = -1
    has_attention: bool = False
    exact_lengths: bool = True

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Any:
        """The hidden levels; a subclass has to say what they are.

        Args:
            features: `(batch, time, bins)`.
            lengths: `(batch,)`, valid feature frames, or None.
            training: bool.

        Returns:
            List of `(batch, frames of the level, dim of the level)`, first to
            last; zero past each clip's end.
        """
        raise NotImplementedError

    def at_output(self, of_levels: Sequence[Any]) -> Any:
        """The output's among what there is of each level, first to last.

        Raises:
            ValueError: `output_level` is not among the levels.
        """
        count = len(of_levels)
        if not -count <= self.output_level < count:
            raise ValueError(
                f"`output_level` must be an index of {count} levels. "
                f"Received: {self.output_level}"
            )
        return of_levels[self.output_level]

    @property
    def dim(self) -> int:
        """Width of the output's frames."""
        return self.at_output(self.dims)

    @property
    def stride(self) -> int:
        """Feature frames in one output frame."""
        return self.at_output(self.strides)

    @property
    def clip_dim(self) -> int:
        """Width of the clip vector."""
        return self.pooling.width(self.dim)

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        """Valid frames of a level, at least one.

        Rounds down; a backbone whose frames are counted in another way, as
        where strides round up, says so here.

        Args:
            lengths: `(batch,)`, valid feature frames.
            level: Its index, default -1, the last.

        Returns:
            `(batch,)` int32.
        """
        frames = ops.cast(lengths, "int32") // self.strides[level]
        return ops.maximum(frames, 1)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Valid output frames for `lengths` feature frames."""
        return self.level_lengths(lengths, self.output_level)

    def clip_vector(
        self,
        frames: Tensor,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """The clip vector of output frames.

        Args:
            frames: `(batch, frames, dim)`.
            lengths: `(batch,)`, valid ones among them, or None.
            features: `(batch, time, bins)` that they were made of.

        Returns:
            `(batch, clip dim)`.
        """
        return self.pooling(frames, lengths=lengths)

    def call(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> dict[str, Any]:
        time = features.shape[1]
        # Under JAX an unknown time is no None, but a symbol.
        if isinstance(time, int) and time < self.min_frames:
            raise ValueError(
                f"{type(self).__name__} needs at least {self.min_frames} "
                f"feature frames. Received: {time}"
            )
        if return_attention and not self.has_attention:
            raise ValueError(f"{type(self).__name__} has no attention maps.")
        outputs = {}
        if return_attention:
            # Its `levels` takes it then.
            hidden, outputs["attention"] = self.levels(  # type: ignore[call-arg]
                features, lengths, training, return_attention=True
            )
        else:
            hidden = self.levels(features, lengths, training)
        frames = self.at_output(hidden)
        valid = None if lengths is None else self.frame_lengths(lengths)
        clip = self.clip_vector(frames, valid, features)
        return {"frames": frames, "clip": clip, "hidden": hidden, **outputs}
