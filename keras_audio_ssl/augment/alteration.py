"""What masked reconstruction hides: spans of frames, bands, noise.

Each policy draws first and applies after: `draw` needs the valid frames
alone, `apply` is a function of features and draw.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask

ZERO, SWAP, KEEP = 0, 1, 2


class TimeAlteration(Layer):
    """Hides spans of frames, as BERT hides words.

    For each utterance of L frames `round(proportion * L / span)` spans start
    at different frames, half to even, at least one; they may overlap. One die
    falls for all spans of an utterance: 80 % are set to zero, 10 % replaced
    by other spans of the same utterance, 10 % left as they are. All are
    selected alike.

    Args:
        proportion: Share of the frames.
        span: Frames of a span, or the least and the most of them, between
            which each utterance draws.
        overlap: Whether spans may overlap; else they start on a grid of
            `round(1.5 * span)` frames from a random offset.
        dice: Shares of zero and of replaced utterances.
        reference: As the released code draws: the last frame is never
            selected, and utterances too short for a span have none.

    Call arguments:
        x: `(batch, frames, dim)`.
        lengths: Optional `(batch,)`, valid frames.
        seed: `keras.random.SeedGenerator`.

    Returns:
        `(altered, selected)`: like `x`, and boolean `(batch, frames)`.

    Reference:
        Liu et al., 2020, "Mockingjay", arXiv 1910.12638, section 2.2.
    """

    def __init__(
        self,
        proportion: float = 0.15,
        span: int | Sequence[int] = 7,
        overlap: bool = True,
        dice: Sequence[float] = (0.8, 0.1),
        reference: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        least, most = (span, span) if isinstance(span, int) else span
        if not 1 <= least <= most:
            raise ValueError(
                "`span` must be a positive number of frames, or the least and "
                f"the most of them. Received: {span}"
            )
        check_share("proportion", proportion)
        self.spans = (least, most)
        # A fraction, so that rounding is that of exact numbers.
        self.share = Fraction(proportion).limit_denominator(10_000)

    def call(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor]:
        draw = self.draw(valid_frames(x, lengths), ops.shape(x)[1], seed)
        return self.apply(x, **draw), draw["selected"]

    def draw(self, lengths: Tensor, frames: Size, seed: Seed) -> dict[str, Any]:
        """What becomes of each frame.

        Args:
            lengths: `(batch,)` int32, valid frames.
            frames: Their number in all.
            seed: `keras.random.SeedGenerator`.

        Returns:
            Dict of `"selected"`, boolean `(batch, frames)`; `"source"` int32
            of the same shape, the frame that a selected one is replaced by;
            `"die"` `(batch,)`: 0 zero, 1 replace, 2 leave.
        """
        clips, lengths = ops.shape(lengths)[0], lengths[:, None]
        least, most = self.spans
        span = keras.random.randint(
            (clips, 1), least, most + 1, dtype="int32", seed=seed
        )
        place = ops.arange(frames, dtype="int32")[None]
        count = half_to_even(self.share.numerator * lengths,
                             self.share.denominator * span)  # fmt: skip
        if self.reference:
            last = ops.maximum(lengths - span - 1, 0)
        else:
            # A clip shorter than a span is hidden as a whole.
            span = ops.minimum(span, lengths)
            # At least one span, and the last frame may be in it.
            count, last = ops.maximum(count, 1), lengths - span
        possible = place <= last
        if not self.overlap:
            offset = uniform_int(ops.minimum(span, last) + 1, seed)
            # Starts stand one and a half spans apart, from a random offset on.
            grid = ops.maximum(half_to_even(3 * span, 2 + 0 * span), 1)
            possible &= (place >= offset) & ((place - offset) % grid == 0)
        order = keras.random.uniform((clips, frames), seed=seed)
        order = ops.where(possible, order, 2.0)
        # How many possible starts come before each, in a random order.
        rank = ops.argsort(ops.argsort(order, axis=1), axis=1)
        starts = possible & (ops.cast(rank, "int32") < count)
        # Where each span's frames are taken from, if they are swapped.
        origin = uniform_int(ops.broadcast_to(last + 1, (clips, frames)), seed)
        die = keras.random.uniform((clips,), seed=seed)
        zero, swap = self.dice
        die = ops.cast(die >= zero, "int32") + ops.cast(
            die >= zero + swap, "int32"
        )
        # Frame t lies in the span that began `back` frames before, the latest
        # one where spans overlap.
        selected = ops.zeros((clips, frames), "bool")
        source = place + ops.zeros_like(origin)
        for back in range(most - 1, -1, -1):
            began = shifted(starts, back, False) & (back < span)
            selected = selected | began
            source = ops.where(began, shifted(origin, back, 0) + back, source)
        valid = place < lengths
        return {
            "selected": selected & valid,
            "source": ops.minimum(source, ops.maximum(lengths - 1, 0)),
            "die": die,
        }

    def apply(
        self, x: Tensor, selected: Tensor, source: Tensor, die: Tensor
    ) -> Tensor:
        """Features of which the selected frames are altered, as drawn."""
        return replaced(x, selected, source, die[:, None])


class ChunkAlteration(Layer):
    """Hides chunks of frames, cut on a grid from the first frame on.

    Each chunk of an utterance is selected or not, whatever becomes of the
    others, but one is in any case. A die falls for each chunk: which are set
    to zero, which replaced by other chunks of the same utterance, which left.

    Args:
        proportion: Share of the chunks.
        step: Frames that the network joins to one.
        chunk_size: Such steps in a chunk.
        dice: Shares of zero and of replaced chunks.
        reference: As the released code draws: utterances may be without a
            selected chunk, and in batches so short that 0.15 of them is no
            more than a chunk, a chunk is one step.

    Call arguments and returns as `TimeAlteration`.

    Reference:
        Jiang et al., 2019, arXiv 1910.09932.
    """

    def __init__(
        self,
        proportion: float = 0.15,
        step: int = 4,
        chunk_size: int = 1,
        dice: Sequence[float] = (1.0, 0.0),
        reference: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_share("proportion", proportion)
        if step < 1 or chunk_size < 1:
            raise ValueError(
                "`step` and `chunk_size` must be positive. "
                f"Received: step={step}, chunk_size={chunk_size}"
            )

    def call(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor]:
        draw = self.draw(valid_frames(x, lengths), ops.shape(x)[1], seed)
        return self.apply(x, **draw), draw["selected"]

    def draw(self, lengths: Tensor, frames: Size, seed: Seed) -> dict[str, Any]:
        """What becomes of each frame.

        Args:
            lengths: As of `TimeAlteration.draw`.
            frames: Likewise.
            seed: Likewise.

        Returns:
            As of `TimeAlteration.draw`, but for `"die"`, `(batch, frames)`.
        """
        clips, lengths = ops.shape(lengths)[0], lengths[:, None]
        place = ops.arange(frames, dtype="int32")
        chunk = self.chunk_size * self.step
        if self.reference:
            short = 0.15 * ops.cast(frames, "float32") <= chunk
            chunk = ops.where(short, self.step, chunk)
        # A chunk's numbers are those that were drawn for its first frame.
        draws = keras.random.uniform((3, clips, frames), seed=seed)
        draws = ops.take(draws, place - place % chunk, axis=2)
        valid = place < lengths
        chance, die, origin = draws[0], draws[1], draws[2]
        selected = chance < self.proportion
        if not self.reference:
            # The least chance wins: something is hidden in every clip.
            lowest = ops.min(ops.where(valid, chance, 2.0), 1, keepdims=True)
            selected = selected | (chance == lowest)
        chunks = (lengths + chunk - 1) // chunk
        other = ops.cast(origin * ops.cast(chunks, "float32"), "int32")
        # The same place in a random chunk of the clip.
        source = ops.minimum(other, chunks - 1) * chunk + place % chunk
        zero, swap = self.dice
        die = ops.cast(die >= zero, "int32") + ops.cast(
            die >= zero + swap, "int32"
        )
        return {
            "selected": selected & valid,
            "source": ops.minimum(source, ops.maximum(lengths - 1, 0)),
            "die": die,
        }

    def apply(
        self, x: Tensor, selected: Tensor, source: Tensor, die: Tensor
    ) -> Tensor:
        """Features of which the selected frames are altered, as drawn."""
        return replaced(x, selected, source, die)


class VectorAlteration(Layer):
    """Puts one random vector in the place of spans, or of single frames.

    Spans have geometric widths, drawn until they cover the proportion of an
    utterance's L frames; the last may cover more. All ways to place them with
    a frame or more between any two are equally likely. Where L is no more
    than the longest, none is wider than L / 2. One frame is hidden in any
    case.

    Args:
        dim: Width of a frame.
        proportion: Share of the frames; 0 hides nothing.
        policy: `"span"`, or `"frame"`: each frame on its own.
        stop: Chance of a span to end with each of its frames.
        longest: Frames of the widest span.
        learned: Whether the vector is trained.

    Call arguments and returns as `TimeAlteration`.

    Reference:
        Chen et al., 2020, "MAM", arXiv 2010.11445; Joshi et al., 2020,
        "SpanBERT", arXiv 1907.10529.
    """

    def __init__(
        self,
        dim: int,
        proportion: float = 0.15,
        policy: str = "span",
        stop: float = 0.2,
        longest: int = 10,
        learned: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_share("proportion", proportion)
        check_choice("policy", policy, ("span", "frame"))
        if not 0 < stop < 1 or longest < 1:
            raise ValueError(
                "`stop` must be in (0, 1) and `longest` positive. "
                f"Received: stop={stop}, longest={longest}"
            )
        self.share = Fraction(proportion).limit_denominator(10_000)
        self.vector = self.add_weight(
            shape=(dim,), trainable=learned, name="vector",
            # Of the scale of normalised features.
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )  # fmt: skip

    def call(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor]:
        selected = self.draw(valid_frames(x, lengths), ops.shape(x)[1], seed)
        return self.apply(x, selected), selected

    def draw(self, lengths: Tensor, frames: Size, seed: Seed) -> Tensor:
        """Boolean `(batch, frames)`, what is hidden.

        Args:
            lengths: `(batch,)` int32, valid frames.
            frames: Their number in all.
            seed: `keras.random.SeedGenerator`.
        """
        clips, lengths = ops.shape(lengths)[0], lengths[:, None]
        place = ops.arange(frames, dtype="int32")[None]
        if not self.proportion:
            return ops.zeros((clips, frames), "bool")
        if self.policy == "frame":
            chance = keras.random.uniform((clips, frames), seed=seed)
            chance = ops.where(place < lengths, chance, 2.0)
            lowest = ops.min(chance, axis=1, keepdims=True)
            selected = (chance < self.proportion) | (chance == lowest)
            return selected & (place < lengths)
        start, width = self.spans(lengths, frames, seed)
        start, place = start[:, None], place[..., None]
        inside = (place >= start) & (place < start + width[:, None])
        return ops.any(inside, axis=-1)

    def spans(
        self, lengths: Tensor, frames: Size, seed: Seed
    ) -> tuple[Tensor, Tensor]:
        """Start and width of each span.

        Args:
            lengths: `(batch, 1)` int32, valid frames.
            frames: Their number in all.
            seed: `keras.random.SeedGenerator`.

        Returns:
            Two int32 `(batch, most spans)`; what is no span has width 0.
        """
        clips, share = ops.shape(lengths)[0], self.share
        # As many as there are where each is of one frame.
        most = (frames * share.numerator - 1) // share.denominator + 1
        number = ops.arange(most, dtype="int32")[None]
        chance = keras.random.uniform((clips, most), seed=seed)
        # Geometric: how often a coin that stops with `stop` went on.
        chance = ops.log(ops.maximum(chance, 1e-7)) / math.log1p(-self.stop)
        width = 1 + ops.cast(ops.minimum(chance, self.longest), "int32")
        narrow = ops.maximum(lengths // 2, 1)
        widest = ops.where(lengths <= self.longest, narrow, self.longest)
        width = ops.minimum(width, widest)
        before = ops.cumsum(width, axis=1) - width
        # What is left beside those before it and a frame behind each.
        room = lengths - before - number
        # Spans until `proportion` of the frames are hidden; the rest get width
        # 0.
        wanted = before * share.denominator < lengths * share.numerator
        width = ops.where(wanted & (room > 0), ops.minimum(width, room), 0)
        # Frames that stay have so many gaps between them, and at both ends; a
        # gap takes one span at most.
        gap = ops.arange(frames + 1, dtype="int32")[None]
        stay = lengths - ops.sum(width, axis=1, keepdims=True)
        order = keras.random.uniform((clips, frames + 1), seed=seed)
        order = ops.argsort(ops.where(gap <= stay, order, 2.0), axis=1)
        gap = ops.cast(order[:, :most], "int32")
        earlier = gap[:, None] < gap[..., None]
        # Start: the frames that stay before it, and the spans before it.
        shift = ops.sum(ops.where(earlier, width[:, None], 0), axis=-1)
        return gap + ops.cast(shift, "int32"), width

    def apply(self, x: Tensor, selected: Tensor) -> Tensor:
        """Features with the vector in place of the selected frames."""
        vector = ops.cast(ops.convert_to_tensor(self.vector), x.dtype)
        return ops.where(selected[..., None], vector, x)


class ChannelAlteration(Layer):
    """Hides one band of neighbouring channels of each utterance.

    The band's width is uniform from 0 to `int(share * channels)`, and so is
    its place.

    Args:
        share: Of the channels, the widest band.
        groups: How often the channels repeat in a frame (a filterbank and
            its deltas: 3); the same band is hidden in each.
        least: Narrowest band, 1 where every utterance must have one.
        reference: As the released code draws: never the last channel.

    Call arguments and returns as `TimeAlteration`; what is selected is
    `(batch, 1, dim)`.

    Reference:
        Liu et al., 2021, "TERA", arXiv 2007.06028.
    """

    def __init__(
        self,
        share: float = 0.2,
        groups: int = 1,
        least: int = 0,
        reference: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_share("share", share)

    def call(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor]:
        selected = self.draw(ops.shape(x)[0], x.shape[-1], seed)
        return self.apply(x, selected), selected

    def widest(self, channels: int) -> int:
        """Channels of the widest band, in each group.

        Raises:
            ValueError: The groups do not divide the channels.
        """
        if channels % self.groups:
            raise ValueError(
                f"`groups` must divide the {channels} channels. "
                f"Received: {self.groups}"
            )
        return int(self.share * (channels // self.groups))

    def draw(self, clips: Size, channels: int, seed: Seed) -> Tensor:
        """Boolean `(clips, 1, channels)`, the channels that are hidden."""
        one, widest = channels // self.groups, self.widest(channels)
        width = keras.random.randint(
            (clips, 1), min(self.least, widest), widest + 1, dtype="int32",
            seed=seed,
        )  # fmt: skip
        # The reference never hides the last channel.
        places = one - width + (0 if self.reference else 1)
        start = uniform_int(ops.maximum(places, 1), seed)
        channel = ops.arange(one, dtype="int32")[None]
        hidden = (channel >= start) & (channel < start + width)
        # The same band in each group: a static bin and its deltas.
        return ops.tile(hidden, (1, self.groups))[:, None]

    def apply(self, x: Tensor, selected: Tensor) -> Tensor:
        """Features without the selected channels."""
        return ops.where(selected, ops.zeros((), x.dtype), x)


class BandMasks(Layer):
    """Hides bands of channels and bands of frames, as SpecAugment does.

    A band's width is uniform from 0 to the widest, and so is its place; every
    utterance has at least one hidden element.

    Args:
        channels: Widest band of channels.
        frames: Widest band of frames.
        count: Bands of each kind.
        reference: As the released code of DAPC draws: a band's end is drawn a
            second time, so that bands are half as wide, a width of 0 leaves
            out the bands of that kind that would follow, and an utterance may
            have none.

    Call arguments:
        x: `(batch, frames, dim)`.
        lengths: Optional `(batch,)`, valid frames.
        seed: `keras.random.SeedGenerator`.

    Returns:
        `(altered, hidden)`: like `x`, and boolean `(batch, frames, dim)`,
        True on hidden elements of valid frames.

    Reference:
        Park et al., 2019, "SpecAugment", arXiv 1904.08779; Bai et al., 2021,
        arXiv 2010.03135, section 3.
    """

    def __init__(
        self,
        channels: int = 27,
        frames: int = 40,
        count: int = 2,
        reference: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if min(channels, frames) < 0 or count < 1 or channels + frames < 1:
            raise ValueError(
                "`channels` and `frames` must not be negative, not both 0, "
                f"and `count` positive. Received: channels={channels}, "
                f"frames={frames}, count={count}"
            )

    def call(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor]:
        hidden = self.draw(
            valid_frames(x, lengths), ops.shape(x)[1], x.shape[-1], seed
        )
        return self.apply(x, hidden), hidden

    def draw(
        self, lengths: Tensor, frames: Size, dim: int, seed: Seed
    ) -> Tensor:
        """Boolean `(batch, frames, dim)`, the elements that are hidden."""
        lengths = lengths[:, None]
        of_channels = self.bands(dim + 0 * lengths, dim, self.channels, seed)
        of_frames = self.bands(lengths, frames, self.frames, seed)
        if not self.reference:
            # Something must be left to predict.
            none = ~(
                ops.any(of_channels, axis=1, keepdims=True)
                | ops.any(of_frames, axis=1, keepdims=True)
            )
            if self.frames:
                only = uniform_int(lengths, seed)
                of_frames |= none & (ops.arange(frames)[None] == only)
            else:
                only = uniform_int(dim + 0 * lengths, seed)
                of_channels |= none & (ops.arange(dim)[None] == only)
        valid = ops.arange(frames, dtype="int32")[None] < lengths
        # (batch, 1, dim) or (batch, frames, 1).
        both = of_channels[:, None, :] | of_frames[:, :, None]
        return both & valid[..., None]

    def bands(
        self, room: Tensor, size: Size, widest: Tensor, seed: Seed
    ) -> Tensor:
        """Boolean `(batch, size)`: bands within the first `room` places."""
        clips = ops.shape(room)[0]
        many = ops.broadcast_to(room, (clips, self.count))
        if self.reference:
            width = uniform_int(ops.full_like(many, max(widest, 1)), seed)
            start = uniform_int(ops.maximum(many - width, 1), seed)
            # The end is drawn once more, which halves most bands.
            end = start + uniform_int(ops.maximum(width, 1), seed)
            # Once a width was 0, no band follows.
            goes_on = ops.cumprod(ops.cast(width > 0, "int32"), axis=1)
            end = ops.where(goes_on > 0, end, start)
        else:
            width = uniform_int(ops.full_like(many, widest + 1), seed)
            width = ops.minimum(width, many)
            start = uniform_int(many - width + 1, seed)
            end = start + width
        place = ops.arange(size, dtype="int32")[None, None]
        inside = (place >= start[..., None]) & (place < end[..., None])
        return ops.any(inside, axis=1)

    def apply(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Features without the hidden elements."""
        return ops.where(hidden, ops.zeros((), x.dtype), x)


class NoiseAlteration(Layer):
    """Adds normal noise to some utterances; it selects nothing.

    Args:
        probability: Of an utterance to be noisy.
        std: Standard deviation of the noise.
        reference: As the released code draws: one die for a whole batch, and
            noise in the padding too.

    Call arguments:
        x: `(batch, frames, dim)`.
        lengths: Optional `(batch,)`, valid frames; others stay as they are.
        seed: `keras.random.SeedGenerator`.

    Returns:
        Like `x`.

    Reference:
        Liu et al., 2021, "TERA", arXiv 2007.06028.
    """

    def __init__(
        self,
        probability: float = 0.15,
        std: float = 0.2,
        reference: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_share("probability", probability)

    def call(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> Tensor:
        # One die for each utterance, or for the whole batch.
        rows = 1 if self.reference else ops.shape(x)[0]
        noisy = keras.random.uniform((rows, 1, 1), seed=seed) < self.probability
        if not self.reference and lengths is not None:
            noisy = noisy & frame_mask(lengths, ops.shape(x)[1])[..., None]
        noise = self.std * keras.random.normal(ops.shape(x), seed=seed)
        return ops.where(noisy, x + ops.cast(noise, x.dtype), x)


def replaced(
    x: Tensor, selected: Tensor, source: Tensor, die: Tensor
) -> Tensor:
    """Features of which selected frames are hidden.

    Args:
        x: `(batch, frames, dim)`.
        selected: Boolean `(batch, frames)`.
        source: `(batch, frames)` int32, the frame that may take its place.
        die: `(batch, frames or 1)`: 0 zero, 1 replace, 2 leave.
    """
    other = ops.take_along_axis(x, source[..., None], axis=1)
    die = die[..., None]
    other = ops.where(die == SWAP, other, ops.zeros((), x.dtype))
    return ops.where(selected[..., None] & (die != KEEP), other, x)


def check_share(name: str, value: float) -> None:
    """Refuses what is no share of a whole.

    Raises:
        ValueError: It is none.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` must be in [0, 1]. Received: {value}")


def valid_frames(x: Tensor, lengths: Tensor | None) -> Tensor:
    """`lengths` as int32 `(batch,)`; all frames of `x` where it is None."""
    if lengths is None:
        return ops.full((ops.shape(x)[0],), ops.shape(x)[1], "int32")
    return ops.cast(lengths, "int32")


def half_to_even(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Rounded quotients of whole numbers, a half to the even neighbour."""
    whole, twice = numerator // denominator, 2 * (numerator % denominator)
    up = (twice > denominator) | ((twice == denominator) & (whole % 2 == 1))
    return whole + ops.cast(up, "int32")


def uniform_int(count: Tensor, seed: Seed) -> Tensor:
    """Whole numbers, uniform from 0 to `count - 1` of each place."""
    share = keras.random.uniform(ops.shape(count), seed=seed)
    drawn = ops.cast(share * ops.cast(count, "float32"), "int32")
    return ops.minimum(drawn, count - 1)


def shifted(x: Tensor, frames: int, fill: Tensor) -> Tensor:
    """`x` `(batch, time)`, later by so many frames."""
    if not frames:
        return x
    return ops.pad(x, ((0, 0), (frames, 0)), constant_values=fill)[:, :-frames]
