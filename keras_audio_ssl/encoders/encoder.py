"""Waveform to representation: front end and backbone in one model."""

import os
from collections.abc import Iterable
from collections.abc import Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._long_clips import block_count
from keras_audio_ssl._types import Audio
from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import FilePath
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.data import AudioDataset
from keras_audio_ssl.data import bucket
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data.audio import read_all
from keras_audio_ssl.data.audio import read_part
from keras_audio_ssl.data.audio import resampled_length
from keras_audio_ssl.data.clips.given import is_one
from keras_audio_ssl.data.clips.given import is_path
from keras_audio_ssl.data.clips.given import open_given
from keras_audio_ssl.data.clips.given import several
from keras_audio_ssl.data.clips.given import whole_rate
from keras_audio_ssl.data.isolation import open_audio
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import Model
from keras_audio_ssl.export import export_model
from keras_audio_ssl.features import FrontEnd

# Seconds of a clip of which `batch_size` pass the network together; of longer
# ones, fewer do.
CLIP_SECONDS = 2
# Batches that are loaded at once, so that clips of like length meet.
LOADED_BATCHES = 16


class Encoder(Model):
    """A pretrained, or to be pretrained, audio encoder.

    The front end and its statistics are inside, so a saved `.keras` file is
    all that a user needs; it opens on any backend with `kas.load_encoder`.

    Args:
        frontend: `FrontEnd`, waveform to features.
        backbone: `Backbone`, features to frames; usable alone as
            `encoder.backbone(features)`.

    Call arguments:
        waveform: `(batch, samples)` float32 in [-1, 1] at `sample_rate`, or
            a dict with `"waveform"` and `"lengths"`.
        lengths: Optional `(batch,)`, samples before the padding. A clip's
            vectors then don't depend on the rest of the batch, but for
            backbones that know of no padding (`exact_lengths`).
        return_hidden: Adds `"hidden"`, the list of the backbone's levels.
        return_attention: Adds `"attention"`, the list of the backbone's maps
            `(batch, heads, frames, frames)`, for backbones that have some.
            They cost time and memory; without, none is computed.

    Returns:
        Dict of `"frames"` `(batch, frames, dim)` and `"clip"`
        `(batch, dim)`.

    Raises:
        ValueError: The waveform has another rank than 2 or fewer samples
            than `min_samples`, or the backbone has no attention maps.

    Example:
        >>> encoder = kas.COLA(preset="tiny").encoder
        >>> encoder.embed(np.zeros(16000, "float32")).shape == (encoder.dim,)
        True
    """

    def __init__(
        self, frontend: FrontEnd, backbone: Backbone, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(frontend, FrontEnd):
            raise ValueError(
                "`frontend` must be a keras_audio_ssl.features.FrontEnd. "
                f"Received: {type(frontend).__name__}"
            )
        if not isinstance(backbone, Backbone):
            raise ValueError(
                "`backbone` must be a keras_audio_ssl.encoders.Backbone. "
                f"Received: {type(backbone).__name__}"
            )
        if frontend.n_features != backbone.n_features:
            raise ValueError(
                f"The backbone expects {backbone.n_features} features a "
                f"frame and the front end gives {frontend.n_features}."
            )
        backbone.at_output(backbone.dims)  # It must be among them.

    @property
    def sample_rate(self) -> int:
        """Hz, of the waveforms it takes."""
        return self.frontend.sample_rate

    @property
    def frame_rate(self) -> float:
        """Hz, of the frames it gives."""
        return self.frontend.frame_rate / self.backbone.stride

    @property
    def dim(self) -> int:
        """Width of the clip vector."""
        return self.backbone.clip_dim

    @property
    def min_samples(self) -> int:
        """Fewest samples of a clip; `embed` pads shorter ones with zeros."""
        return self.samples_for(self.backbone.min_frames)

    def samples_for(self, frames: int) -> int:
        """Fewest samples that give so many feature frames."""
        extra = (frames - 1) * self.frontend.hop_length
        return self.frontend.min_samples + extra

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """Valid output frames of clips of `lengths` samples."""
        lengths = ops.maximum(lengths, self.min_samples)
        return self.backbone.frame_lengths(self.frontend.frame_lengths(lengths))

    def features(
        self, waveform: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Front end alone: `(features, valid feature frames or None)`."""
        samples = waveform.shape[1] if len(waveform.shape) == 2 else None
        if isinstance(samples, int) and samples < self.min_samples:
            raise ValueError(
                f"{self.name} needs at least {self.min_samples} samples "
                f"({self.min_samples / self.sample_rate:.3f} s). "
                f"Received: {samples}"
            )
        if lengths is None:
            return self.frontend(waveform), None
        lengths = ops.maximum(ops.cast(lengths, "int32"), self.min_samples)
        features = self.frontend(waveform, lengths=lengths)
        return features, self.frontend.frame_lengths(lengths)

    def call(
        self,
        waveform: Tensor,
        lengths: Tensor | None = None,
        return_hidden: bool = False,
        return_attention: bool = False,
        training: bool | None = None,
    ) -> dict[str, Any]:
        if isinstance(waveform, dict):
            lengths = waveform.get("lengths", lengths)
            waveform = waveform["waveform"]
        features, valid = self.features(waveform, lengths)
        outputs = self.backbone(
            features,
            lengths=valid,
            training=training,
            return_attention=return_attention,
        )
        wanted = ["frames", "clip"] + ["hidden"] * return_hidden
        wanted += ["attention"] * return_attention
        return {
            key: keras.tree.map_structure(
                lambda x: ops.cast(x, "float32"), outputs[key]
            )
            for key in wanted
        }

    @property
    def mixing(self) -> list[Any]:
        """Variables that are trained even where the encoder is frozen."""
        return []

    def frozen(self, x: Batch) -> Any:
        """Outputs of inference, which pass no gradient on but to `mixing`.

        Args:
            x: As of a call.
        """
        outputs = self(x, training=False)
        return {k: ops.stop_gradient(v) for k, v in outputs.items()}

    def compute_output_spec(
        self,
        waveform: Tensor,
        lengths: Tensor | None = None,
        return_hidden: bool = False,
        return_attention: bool = False,
        training: bool | None = None,
    ) -> Any:
        # Keras would try the call on a few samples, fewer than there must be.
        if return_hidden or return_attention:
            raise ValueError(
                "Levels and attention maps are for tensors, not for symbolic "
                "inputs; `Readout` reads levels in any model."
            )
        if isinstance(waveform, dict):
            waveform = waveform["waveform"]
        batch, samples = waveform.shape
        frames = None
        if samples is not None:
            lengths = np.array([samples])
            frames = int(ops.convert_to_numpy(self.frame_lengths(lengths))[0])
        return {
            "frames": keras.KerasTensor(
                (batch, frames, self.backbone.dim), dtype="float32"
            ),
            "clip": keras.KerasTensor((batch, self.dim), dtype="float32"),
        }

    def embed(
        self, audio: Audio, sample_rate: int | None = None, batch_size: int = 32
    ) -> Any:
        """Clip vectors of audio of any length.

        The vector of a clip of over a minute is the mean of those of equal
        blocks of at most 30 s, so that the network's memory does not grow
        with the clip; `embed_stream` does not load it whole either.

        Args:
            audio: One clip: a path, the bytes of a file, a waveform
                `(samples,)` of floats in [-1, 1] or of integers, which are
                scaled by the range of their type, `(waveform, rate)` as
                `librosa.load` returns it, a row of a data set. Many: an
                array `(batch, samples)`, a list or a column of such clips, a
                folder, an `AudioDataset` (whole clips, in the order of its
                `files` and `labels`).
            sample_rate: Hz of arrays that do not say it, which are resampled
                where it differs from the encoder's (the default).
            batch_size: Clips of up to two seconds that pass the network
                together; of longer ones, as many as make up no more sound.

        Returns:
            numpy float32 `(dim,)` for one clip, `(clips, dim)` otherwise.

        Raises:
            ValueError: A file cannot be read, or an array is empty, not
                finite, of another rank, or has its channels where clips or
                samples belong.
        """
        clips, single = self._clips(audio, sample_rate)
        owners: list[int] = []

        def blocks() -> Iterator[np.ndarray]:
            for i, clip in enumerate(clips):
                wave = clip()
                count = block_count(len(wave) / self.sample_rate)
                owners.extend([i] * count)
                yield from np.array_split(wave, count)

        out = np.zeros((len(clips), self.dim))
        for indices, outputs, _ in self._batches(blocks(), batch_size):
            vectors = outputs["clip"][: len(indices)]
            np.add.at(out, [owners[index] for index in indices], vectors)
        out /= np.bincount(owners, minlength=len(clips))[:, None]
        out = out.astype("float32")
        return out[0] if single else out

    def embed_frames(
        self, audio: Audio, sample_rate: int | None = None, batch_size: int = 32
    ) -> Any:
        """Frame vectors of audio of any length; arguments as `embed`.

        A clip passes the network whole, however long it is: frames may know
        of all of it.

        Returns:
            numpy float32 `(frames, dim)` for one clip, otherwise a list of
            them; `frame_times` says when they are.
        """
        clips, single = self._clips(audio, sample_rate)
        out: list[Any] = [None] * len(clips)
        waves = (clip() for clip in clips)
        for indices, outputs, frames in self._batches(waves, batch_size):
            for row, index in enumerate(indices):
                out[index] = np.array(outputs["frames"][row, : frames[row]])
        return out[0] if single else out

    def frame_times(self, frames: Any) -> np.ndarray:
        """When the frames of a clip are.

        Args:
            frames: How many, or frame vectors `(frames, dim)`.

        Returns:
            numpy float64 `(frames,)`, seconds from the clip's start to the
            middle of each frame, which lasts `1 / frame_rate` seconds.

        Example:
            >>> vectors = encoder.embed_frames("clip.flac")
            >>> seconds = encoder.frame_times(vectors)
        """
        count = frames if isinstance(frames, int) else len(frames)
        return (np.arange(count) + 0.5) / self.frame_rate

    def embed_stream(
        self,
        path: FilePath,
        window: float,
        hop: float | None = None,
        start: float = 0.0,
        batch_size: int = 32,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Vectors of the windows of a recording of any length.

        Reads, resamples and embeds `batch_size` windows at a time: the memory
        does not grow with the recording. The windows cover all of it; the
        last one ends with the recording and may be shorter.

        Args:
            path: An audio file.
            window: Seconds of a window.
            hop: Seconds between the starts of windows; None for `window`.
            start: Seconds, of the first window. Where an earlier pass was
                interrupted, go on with the time after the last one it gave,
                plus `hop`.
            batch_size: Windows that pass the network together.

        Yields:
            `(seconds, vectors)`: numpy float64 `(windows,)`, when each window
            starts, and float32 `(windows, dim)`.

        Raises:
            ValueError: The file cannot be read, or an argument is not
                positive.

        Example:
            >>> stream = encoder.embed_stream("night.flac", 1.0)
            >>> for seconds, vectors in stream:
            ...     print(seconds[0], vectors.shape == (3, encoder.dim))
            0.0 True
        """
        hop = window if hop is None else hop
        size = round(window * self.sample_rate)
        step = round(hop * self.sample_rate)
        first = round(start * self.sample_rate)
        if size < 1 or step < 1 or first < 0 or batch_size < 1:
            raise ValueError(
                "`window`, `hop` and `batch_size` must be positive and `start` "
                f"not negative. Received: window={window}, hop={hop}, "
                f"batch_size={batch_size}, start={start}"
            )
        with open_audio(path) as audio:
            total = resampled_length(audio.frames, audio.rate, self.sample_rate)
            # None where the one before `start` reached the end already.
            count = max(-(-(total - size - first) // step) + 1, first == 0)
            starts = first + step * np.arange(count)
            starts = starts[starts < total]
            for at in range(0, len(starts), batch_size):
                block = starts[at : at + batch_size]
                if step > size:
                    waves = [
                        read_part(audio, self.sample_rate, int(s), size)
                        for s in block
                    ]
                else:
                    begin, end = int(block[0]), int(block[-1]) + size
                    wave = read_part(
                        audio, self.sample_rate, begin, end - begin
                    )
                    waves = [wave[s - begin :][:size] for s in block]
                vectors = self.embed(waves, batch_size=batch_size)
                yield block / self.sample_rate, vectors

    def export(
        self,
        filepath: FilePath,
        format: str | None = None,
        samples: int | None = None,
    ) -> Any:
        """Writes the encoder for ONNX, TensorFlow or LiteRT, and checks it.

        The file takes waveforms `waveform` `(batch, samples)` float32 in
        [-1, 1] at `sample_rate`, of at least `min_samples`, and gives `clip`
        and `frames` as a call does; front end and statistics are inside. It
        is written by a process of its own, in some ten seconds or more, and
        takes its place once its vectors at three lengths are Keras' to 1e-4
        (or, where the last digit of the samples makes more of a difference,
        as in CLAR's phases, to ten times that).

        Batches and clips may have any size, with one exception: encoders with
        recurrent layers take one clip at a time as LiteRT.

        Args:
            filepath: `X.onnx` (ONNX; needs PyTorch, onnx, onnxscript and
                onnxruntime), `X.tflite` (LiteRT; needs TensorFlow), or a
                folder (SavedModel; needs TensorFlow).
            format: `"onnx"`, `"tf_saved_model"` or `"litert"`, by default
                what the ending says.
            samples: For a file that takes clips of so many samples alone;
                for backbones of your own that cannot be written otherwise.

        Returns:
            The path.

        Raises:
            ImportError: A package is missing; nothing has begun.
            ValueError: The path, the format or `samples` is wrong; the
                format has no words for the encoder, or the file gives other
                vectors, and is gone.

        Example:
            With the extra `export` installed::

                encoder.export("cola.onnx")
                session = onnxruntime.InferenceSession("cola.onnx")
                clip, frames = session.run(["clip", "frames"], {"waveform": x})
        """
        return export_model(self, filepath, format, samples)

    def _clips(self, audio: Audio, sample_rate: int | None) -> Any:
        """What is to be embedded, opened lazily: `(clips, one clip only)`."""
        rate = self.sample_rate
        if sample_rate is not None:
            rate = whole_rate(sample_rate)
        if is_path(audio) and os.path.isdir(audio):
            audio = from_folder(audio, batch_size=1)
        if isinstance(audio, AudioDataset):
            return [
                partial(audio.read_clip, i, self.sample_rate)
                for i in range(audio.num_clips)
            ], False
        single = is_one(audio)
        clips = [audio] if single else several(audio)
        return [
            partial(self._read, clip, rate, f"clip {i}")
            for i, clip in enumerate(clips)
        ], single

    def _read(self, clip: Any, rate: Any, name: str) -> Any:
        """The waveform of a clip at this encoder's rate."""
        with open_given(clip, rate, name) as audio:
            return read_all(audio, self.sample_rate)

    def _batches(
        self, clips: Iterable[np.ndarray], batch_size: int
    ) -> Iterator[Any]:
        """Yields (indices, outputs, valid frames) in a few padded shapes."""
        budget = batch_size * bucket(CLIP_SECONDS * self.sample_rate)
        # Reading in windows of neighbours bounds the memory; sorting inside
        # a window bounds the padding.
        waves: dict[int, np.ndarray] = {}
        samples = 0
        for i, wave in enumerate(clips):
            waves[i] = wave
            samples += len(wave)
            if (
                len(waves) == LOADED_BATCHES * batch_size
                or samples >= LOADED_BATCHES * budget
            ):
                yield from self._sorted(waves, batch_size, budget)
                waves, samples = {}, 0
        if waves:
            yield from self._sorted(waves, batch_size, budget)

    def _sorted(
        self, waves: dict[int, np.ndarray], batch_size: int, budget: int
    ) -> Iterator[Any]:
        """What `_batches` yields, of waveforms by index."""
        order = sorted(waves, key=lambda i: len(waves[i]))
        while order:
            longest = max(len(waves[order[0]]), self.min_samples)
            if self.backbone.exact_lengths:
                longest = bucket(longest)
            most = min(batch_size, max(1, budget // longest))
            group = [i for i in order[:most] if len(waves[i]) <= longest]
            order = order[len(group) :]
            # Powers of two, so that few shapes compile.
            rows = min(most, 1 << (len(group) - 1).bit_length())
            yield self._run(group, [waves[i] for i in group], rows)

    def _run(self, indices: Any, waves: Any, rows: Any) -> Any:
        lengths = np.array([len(w) for w in waves], "int32")
        lengths = np.maximum(lengths, self.min_samples)
        if len(set(lengths)) == 1 and (
            lengths[0] < CLIP_SECONDS * self.sample_rate
            or not self.backbone.exact_lengths
        ):
            # Clips of one length need no masks: the network's quick path.
            batch = np.zeros((rows, lengths[0]), "float32")
            x: Any = batch
        else:
            width = bucket(int(lengths.max()), self.min_samples)
            batch = np.zeros((rows, width), "float32")
            padded = np.full(rows, self.min_samples, "int32")
            padded[: len(waves)] = lengths
            x = {"waveform": batch, "lengths": padded}
        for row, wave in zip(batch, waves, strict=False):
            row[: len(wave)] = wave
        with backend.taking_shapes():
            outputs = self.predict_on_batch(x)
        outputs = keras.tree.map_structure(ops.convert_to_numpy, outputs)
        frames = ops.convert_to_numpy(self.frame_lengths(lengths))
        return indices, outputs, frames
