"""An encoder read at several of its levels."""

from collections.abc import Sequence
from typing import Any
from typing import Self

from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.blocks import softmax
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.encoder import Encoder
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import waveform_and_lengths


class Readout(Encoder):
    """An encoder whose vectors join the levels of another one.

    Where a representation is read decides as much as how it was trained.
    Levels of another frame rate than that of the result are brought to it:
    frames of finer ones are averaged, a clip's last frame over those that
    there are, where the encoder's strides round up; frames of coarser ones
    are repeated, a clip's last one for as long as finer ones follow.

    Args:
        encoder: `Encoder` to read.
        levels: `"all"`, or indices of its levels, first is 0, last is -1.
        pooling: Statistics over time that make the clip vector: some of
            `"mean"`, `"max"`, `"std"`.
        rate: Frame rate of the result: `"coarsest"` of the encoder's own and
            of those of the levels that are read; or `"finest"` of these
            levels, for what is shorter than a frame of the encoder, such as
            phones.

    Raises:
        ValueError: A level that the encoder does not have, or an unknown
            `rate`.

    Example:
        >>> kas.Readout(encoder, levels=[0, -1]).embed("clip.flac").ndim
        1
    """

    def __init__(
        self,
        encoder: Encoder,
        levels: str | Sequence[int] = "all",
        pooling: Sequence[str] = ("mean", "max", "std"),
        rate: str = "coarsest",
        **kwargs: Any,
    ) -> None:
        backbone = LevelsBackbone.of(encoder, levels, pooling, rate)
        super().__init__(encoder.frontend, backbone, **kwargs)


class LevelsBackbone(Backbone):
    """A backbone's levels, joined; see `Readout`.

    Args:
        backbone: Whose levels they are.
        levels: Their indices, or `"all"`.
        pooling: Of the clip vector, as of `FramePool`.
        rate: As of `Readout`.
    """

    def __init__(
        self,
        backbone: Backbone,
        levels: str | Sequence[int],
        pooling: Sequence[str],
        rate: str = "coarsest",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("rate", rate, ("coarsest", "finest"))
        count = len(backbone.dims)
        wanted: Any = list(range(count)) if levels == "all" else levels
        if not wanted or any(not -count <= i < count for i in wanted):
            raise ValueError(
                f"`levels` must be 'all' or indices of {count} levels. "
                f"Received: {levels}"
            )
        self.indices = [i % count for i in wanted]
        self.n_features = backbone.n_features
        self.min_frames = backbone.min_frames
        self.dims = [backbone.dims[i] for i in self.indices]
        self.strides = [backbone.strides[i] for i in self.indices]
        # The level that sets the rate; None where it is the encoder's own.
        choose = max if rate == "coarsest" else min
        self.pace: int | None = choose(
            self.indices, key=lambda i: backbone.strides[i]
        )
        if (
            rate == "coarsest"
            and backbone.strides[self.pace] <= backbone.stride
        ):
            self.pace = None
        self.pooling = FramePool(pooling, join="concat", name="pooling")

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        levels: str | Sequence[int],
        pooling: Sequence[str],
        rate: str,
    ) -> Self:
        """The levels of an encoder; arguments as of `Readout`."""
        # An array would be compared value by value.
        if not (isinstance(levels, str) and levels == "all"):
            levels = [int(i) for i in levels]
        return cls(encoder.backbone, levels, tuple(pooling), rate)

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        return self.backbone.level_lengths(lengths, self.indices[level])

    # Both are attributes of the class in `Backbone`.

    @property
    def exact_lengths(self) -> bool:  # type: ignore[override]
        return self.backbone.exact_lengths

    @property
    def has_attention(self) -> bool:  # type: ignore[override]
        return self.backbone.has_attention

    @property
    def dim(self) -> int:
        return sum(self.dims)

    @property
    def stride(self) -> int:
        if self.pace is None:
            return self.backbone.stride
        return self.backbone.strides[self.pace]

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        if self.pace is None:
            return self.backbone.frame_lengths(lengths)
        return self.backbone.level_lengths(lengths, self.pace)

    def read(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> tuple[dict[str, Any], list[Tensor], list[Tensor]]:
        """The levels, each at its own rate and at the common one.

        Returns:
            `(outputs, hidden, paced)`: the backbone's outputs, the levels
            that are read, and the same with as many frames each.
        """
        outputs = self.backbone(
            features,
            lengths=lengths,
            training=training,
            return_attention=return_attention,
        )
        hidden = [outputs["hidden"][i] for i in self.indices]
        pace = outputs["frames"]
        if self.pace is not None:
            pace = outputs["hidden"][self.pace]
        count, paced = ops.shape(pace)[1], []
        for i, (level, stride) in enumerate(
            zip(hidden, self.strides, strict=True)
        ):
            valid = self.lengths_of(lengths, i)
            if stride > self.stride:
                level = repeated(level, count, stride // self.stride, valid)
            else:
                level = averaged(level, count, self.stride // stride, valid)
            paced.append(level)
        return outputs, hidden, paced

    def lengths_of(self, lengths: Tensor | None, level: int) -> Any:
        """`level_lengths`, or None where there are no lengths."""
        return None if lengths is None else self.level_lengths(lengths, level)

    def call(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> dict[str, Any]:
        read = self.read(features, lengths, training, return_attention)
        return self.joined(*read, lengths)

    def joined(
        self,
        outputs: dict[str, Tensor],
        hidden: list[Tensor],
        paced: list[Tensor],
        lengths: Tensor | None = None,
    ) -> dict[str, Any]:
        """What `call` returns, of what `read` did."""
        clip = [
            self.pooling(level, lengths=self.lengths_of(lengths, i))
            for i, level in enumerate(hidden)
        ]
        return {
            **outputs,
            "frames": ops.concatenate(paced, axis=-1),
            "clip": ops.concatenate(clip, axis=-1),
            "hidden": hidden,
        }


class WeightedSum(Encoder):
    """An encoder whose frames are a weighted sum of another one's levels.

    The weights are a softmax that is trained with the task, all equal at
    first. In a `Classifier` with `freeze` they are trained, and the head, and
    nothing else. Levels of other rates are averaged or repeated as by
    `Readout`.

    Args:
        encoder: `Encoder` whose levels are of one width.
        levels: `"all"`, or indices of its levels.
        pooling: Statistics over time that make the clip vector: some of
            `"mean"`, `"max"`, `"std"`.
        rate: As of `Readout`.

    Raises:
        ValueError: A level that the encoder does not have, levels of
            different width, or an unknown `rate`.

    Reference:
        Yang et al., 2021, "SUPERB", arXiv 2105.01051, section 3.

    Example:
        >>> classifier = kas.Classifier(kas.WeightedSum(encoder), freeze=True)
    """

    def __init__(
        self,
        encoder: Encoder,
        levels: str | Sequence[int] = "all",
        pooling: Sequence[str] = ("mean",),
        rate: str = "coarsest",
        **kwargs: Any,
    ) -> None:
        backbone = MixedBackbone.of(encoder, levels, pooling, rate)
        super().__init__(encoder.frontend, backbone, **kwargs)

    @property
    def level_weights(self) -> Any:
        """Share of each level, numpy `(levels,)`, adding up to 1."""
        return ops.convert_to_numpy(softmax(self.backbone.mixture))

    @property
    def mixing(self) -> list[Any]:
        return [self.backbone.mixture]

    def frozen(self, x: Batch) -> Any:
        waveform, lengths = waveform_and_lengths(x)
        features, valid = self.features(waveform, lengths)
        outputs, hidden, paced = self.backbone.read(
            features, valid, training=False
        )
        # The encoder is frozen, the shares of its levels learn.
        paced = [ops.stop_gradient(level) for level in paced]
        outputs = self.backbone.joined(outputs, hidden, paced, valid)
        return {k: ops.cast(outputs[k], "float32") for k in ("frames", "clip")}


class MixedBackbone(LevelsBackbone):
    """A backbone's levels, mixed; see `WeightedSum`.

    Args:
        backbone: Whose levels they are.
        levels: Their indices, or `"all"`.
        pooling: Of the clip vector, as of `FramePool`.
        rate: As of `Readout`.
    """

    def __init__(
        self,
        backbone: Backbone,
        levels: str | Sequence[int],
        pooling: Sequence[str],
        rate: str = "coarsest",
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, levels, pooling, rate, **kwargs)
        if len(set(self.dims)) > 1:
            raise ValueError(
                "`WeightedSum` needs levels of one width. Received: "
                f"{self.dims}; choose some with `levels`."
            )
        self.mixture = self.add_weight(
            shape=(len(self.dims),), initializer="zeros", name="mixture",
            dtype="float32",
        )  # fmt: skip

    @property
    def dim(self) -> int:
        return self.dims[0]

    def joined(
        self,
        outputs: dict[str, Tensor],
        hidden: list[Tensor],
        paced: list[Tensor],
        lengths: Tensor | None = None,
    ) -> dict[str, Any]:
        shares = ops.unstack(softmax(self.mixture), len(paced))
        frames = sum(
            ops.cast(share, level.dtype) * level
            for share, level in zip(shares, paced, strict=True)
        )
        valid = None if lengths is None else self.frame_lengths(lengths)
        clip = self.pooling(frames, lengths=valid)
        return {**outputs, "frames": frames, "clip": clip, "hidden": hidden}


def averaged(
    level: Tensor, count: Size, step: int, lengths: Tensor | None = None
) -> Tensor:
    """Means of so many frames each.

    Args:
        level: `(batch, frames, dim)`.
        count: Means wanted.
        step: Frames in one.
        lengths: `(batch,)`, valid frames; the others are left out. All of
            them if None.

    Returns:
        `(batch, count, dim)`; zero where there is no valid frame.
    """
    if step == 1:
        return level[:, :count]
    dim, dtype = level.shape[-1], level.dtype
    level = ops.cast(level, "float32")
    valid = ops.ones_like(level[..., :1])
    if lengths is not None:
        level, valid = (mask_frames(x, lengths) for x in (level, valid))
    # As many zeros as there could be frames missing, and then cut.
    # Means over the valid frames of each group (batch, count, step, dim).
    sums, shares = (
        ops.sum(
            ops.reshape(
                ops.pad(x, ((0, 0), (0, step), (0, 0)))[:, : count * step],
                (-1, count, step, width),
            ),
            axis=2,
        )
        for x, width in ((level, dim), (valid, 1))
    )
    return ops.cast(sums / ops.maximum(shares, 1.0), dtype)


def repeated(
    level: Tensor, count: int, times: int, lengths: Tensor | None = None
) -> Tensor:
    """Frames that stand for several each.

    Args:
        level: `(batch, frames, dim)`.
        count: Frames wanted.
        times: How often each comes.
        lengths: `(batch,)`, valid frames; the last of them is what follows
            it, too. All of them if None.

    Returns:
        `(batch, count, dim)`.
    """
    clips, frames, _ = ops.shape(level)
    if lengths is None:
        lengths = ops.full((clips,), frames)
    last = ops.maximum(ops.cast(lengths, "int32") - 1, 0)
    which = ops.minimum(
        ops.arange(count, dtype="int32") // times, last[:, None]
    )
    return ops.take_along_axis(level, which[..., None], axis=1)
