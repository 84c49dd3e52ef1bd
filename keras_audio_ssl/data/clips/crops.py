"""Parts of clips: where they lie, and their samples."""

import dataclasses

import numpy as np

from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioSource
from keras_audio_ssl.data.audio import read_part
from keras_audio_ssl.data.audio import resampled_length
from keras_audio_ssl.data.clips.base import Clips

FAR = 1 << 62  # samples: beyond the end of all files


@dataclasses.dataclass
class Crops:
    """Cuts segments of one length out of clips, or takes them whole.

    Args:
        clips: The source.
        sample_rate: Of what is cut, in Hz.
        seconds: Length of the segments; `None` for whole clips.
        crop: Place of the segment in a longer clip: `"random"`, `"start"` or
            `"center"`.
        min_seconds: Shorter clips are refused.
        max_seconds: With `seconds=None`, longer clips are cropped to this.

    Attributes:
        extra_spec: Shape and dtype of what the source adds to each crop.

    Raises:
        ValueError: The source adds what batches have anyway.
    """

    clips: Clips
    sample_rate: int
    seconds: float | None = None
    crop: str = "random"
    min_seconds: float = 0.0
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        spec = self.clips.extra_spec
        taken = sorted({"waveform", "lengths"} & spec.keys())
        if taken:
            raise ValueError(
                "`extra_spec` must name other arrays. "
                f"Received: extra_spec={taken!r}"
            )
        self.extra_spec = {
            name: (tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in spec.items()
        }

    @property
    def most(self) -> int | None:
        """Samples that no crop has more of; `None` where clips are whole."""
        seconds = self.max_seconds if self.seconds is None else self.seconds
        if seconds is None:
            return None
        return max(1, round(seconds * self.sample_rate))

    def blank(self, count: int) -> dict[str, np.ndarray]:
        """Arrays of a batch, zero; of whole clips without samples yet."""
        samples = 0 if self.seconds is None else self.most or 0
        x = {
            "waveform": np.zeros((count, samples), "float32"),
            "lengths": np.zeros(count, "int32"),
        }
        for name, (shape, dtype) in self.extra_spec.items():
            x[name] = np.zeros((count, *shape), dtype)
        return x

    def read(
        self, clip: int, chance: float
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A clip's segment, and what the source adds to it.

        Args:
            clip: Its number.
            chance: In [0, 1): where the segment lies, if at random.

        Returns:
            float32 `(samples,)`, and an array for each name of `extra_spec`.

        Raises:
            AudioError: It cannot be used.
        """
        with self.clips.open(clip) as audio:
            rate = self.sample_rate
            first, length = self.extent(audio, clip, rate)
            wanted = self.most or length
            room = max(0, length - wanted)
            if self.crop == "random":
                first += int(chance * (room + 1))
            elif self.crop == "center":
                first += room // 2
            wave = read_part(audio, rate, first, min(wanted, length))
        return wave, self._extras(clip, first, len(wave))

    def extent(
        self, audio: AudioSource, clip: int, rate: int
    ) -> tuple[int, int]:
        """First sample and length of a clip, at a rate.

        Raises:
            AudioError: It lies beyond the end of its file, or is too short.
        """
        first, end = 0, resampled_length(audio.frames, audio.rate, rate)
        span = self.clips.span(clip)
        if span is not None:
            start, stop = span
            # Times of strangers may be too large for any sample.
            first = 0 if np.isnan(start) else round(min(start * rate, FAR))
            last = end if np.isnan(stop) else round(min(stop * rate, FAR))
            # Tables round their times.
            if last > end + 0.1 * rate or first >= end:
                raise AudioError(
                    audio.name,
                    f"the part {start} to {stop} s lies beyond the end at "
                    f"{end / rate:.2f} s",
                )
            end = min(last, end)
        length = end - first
        if length < max(1, self.min_seconds * rate):
            raise AudioError(
                audio.name,
                f"too short: {length / rate:.3f} s, at least "
                f"{max(self.min_seconds, 1 / rate):.3g} s expected",
            )
        return first, length

    def _extras(
        self, clip: int, start: int, samples: int
    ) -> dict[str, np.ndarray]:
        """What the source adds to a crop."""
        extras = self.clips.extras(clip, start, samples, self.sample_rate)
        arrays = {name: np.asarray(value) for name, value in extras.items()}
        found = {name: (a.shape, a.dtype) for name, a in arrays.items()}
        if found != self.extra_spec:
            raise ValueError(
                f"`extras` must be {self.extra_spec}, as `extra_spec`. "
                f"Received for {self.clips.name(clip)}: {found}"
            )
        return arrays
