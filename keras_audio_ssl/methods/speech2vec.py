"""Speech2Vec: a spoken word's vector writes the words around it."""

import warnings
from collections.abc import Iterable
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import crop
from keras_audio_ssl.blocks import MeanTrajectory
from keras_audio_ssl.blocks import WordDecoder
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import WordVectors
from keras_audio_ssl.encoders import word_vectors
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import masked_mse
from keras_audio_ssl.methods.pretext import PretextModel


class Speech2Vec(PretextModel):
    """Word2Vec on spoken words.

    A recurrent encoder reads a word, a recurrent decoder writes those around
    it (`"skipgram"`), or a word from the sum of those around it (`"cbow"`).
    Where words begin and end must be known, not which words they are:
    `kas.data.from_alignments` gives such batches. Each word of a clip is a
    centre in turn; a clip of one word teaches nothing.

    What comes out is an acoustic word embedding, with whatever context the
    corpus teaches. A full reproduction of the paper found no more of the
    words' meaning in it than in the untrained network, far from the
    published similarities (Chen, 2022, arXiv 2209.10791).

    Args:
        task: `"skipgram"` or `"cbow"`.
        encoder: Settings that override the paper's, `BidirectionalStack` on
            the front end `"speech2vec"`: `{"units": 50}`. Or an `Encoder`, a
            `Backbone` or a Keras model; its clip vector is the word's.
        window: Words on each side that are neighbours.
        max_frames: Longer words are cut at the end.
        decoder: `"shared"`, one for all neighbours; `"per_position"`, one
            for each, of `"skipgram"`.
        decoder_input: What enters the decoder at each frame: `"embedding"`,
            the word's vector; `"teacher"`, the true frame before too, as in
            the released code, which the decoder then learns to repeat;
            `"free"`, its own frame before.
        combine: Of the neighbours' vectors in `"cbow"`: `"sum"` or `"mean"`.
        learning_rate: Of Adam; the paper has plain SGD.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Unused: the task draws nothing.

    Call arguments:
        x: Dict of `"waveform"` `(batch, samples)` and `"segments"`, int32
            `(batch, words, 2)`, the first sample of each word in turn and
            the one after its last; both 0 where there is no word.

    Returns of a call:
        Dict of `"prediction"` `(batch, words, 1 or neighbours, frames,
        bins)`, `"target"` `(batch, words, 1 or neighbours, frames, bins)`,
        `"mask"` of its first four axes, what counts, `"reference"`, what
        `baseline` is the loss of, `"embedding"` `(batch, words, dim)` and
        `"words"` `(batch, words)`, whether there is one.

    Reference:
        Chung & Glass, 2018, "Speech2Vec: A Sequence-to-Sequence Framework
        for Learning Word Embeddings from Speech", arXiv 1803.08976.
    """

    needs_segments = True
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {"units": 16, "frontend": "speech2vec_coarse"},
            "window": 2,
            "max_frames": 40,
            "learning_rate": 3e-3,
        },
    }
    # Of read speech, clips of 6 s have some 16 words.
    TRAINING: ClassVar = {
        "paper": {"batch_size": 16, "seconds": 6.0, "steps": 100_000},
        "tiny": {"batch_size": 8, "seconds": 2.0, "steps": 600},
    }

    def __init__(
        self,
        task: str = "skipgram",
        encoder: EncoderLike = None,
        window: int = 3,
        max_frames: int = 100,
        decoder: str = "shared",
        decoder_input: str = "embedding",
        combine: str = "sum",
        learning_rate: float = 1e-3,
        clip_norm: float = 5.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("task", task, ("skipgram", "cbow"))
        check_choice("decoder", decoder, ("shared", "per_position"))
        check_choice("combine", combine, ("sum", "mean"))
        if window < 1:
            raise ValueError(f"`window` must be positive. Received: {window}")
        if task == "cbow" and decoder != "shared":
            raise ValueError(
                "`task='cbow'` writes one word, with one decoder. Received: "
                f"decoder={decoder!r}"
            )
        paper = {"backbone": "bidirectional", "frontend": "speech2vec"}
        super().__init__(encoder, paper, seed, **kwargs)
        self.samples = self.word_samples(max_frames)
        bins = self.encoder.frontend.n_features
        count = 2 * window if decoder == "per_position" else 1
        self.decoders = [
            WordDecoder(
                self.encoder.dim, bins, decoder_input, name=f"decoder_{i}",
                dtype=self.dtype_policy,
            )
            for i in range(count)
        ]  # fmt: skip
        self.copies = decoder_input == "teacher"
        if not self.copies:
            self.trajectory = MeanTrajectory(max_frames, bins)
        self.baseline = "copy_mse" if self.copies else "trajectory_mse"
        self.nothing = keras.metrics.Mean(name=self.baseline)
        self.spread = keras.metrics.Mean(name="embedding_std")

    def word_samples(self, frames: int) -> int:
        """Samples of which the front end makes so many frames, at most.

        Raises:
            ValueError: The encoder needs longer words.
        """
        encoder, frontend = self.encoder, self.encoder.frontend
        samples = encoder.samples_for(frames)
        while samples > encoder.min_samples and (
            frontend.frame_lengths(samples) > frames
        ):
            samples = max(samples - frontend.hop_length, encoder.min_samples)
        if frontend.frame_lengths(samples) > frames or frames < 1:
            raise ValueError(
                "`max_frames` must be at least "
                f"{frontend.frame_lengths(encoder.min_samples)}, of the "
                f"shortest word of this encoder. Received: {frames}"
            )
        return samples

    @property
    def min_samples(self) -> int:
        # Two words.
        return 2 * self.encoder.min_samples

    def spoken(self, x: Batch) -> tuple[Tensor, Tensor]:
        """The words of a batch, cut out.

        Returns:
            `(waveforms, lengths)`: `(batch, words, samples)`, zero past each
            word's end, and `(batch, words)` samples, 0 where there is none.

        Raises:
            ValueError: The batch does not tell where its words are.
        """
        waveform, _ = waveform_and_lengths(x)
        if not isinstance(x, dict) or "segments" not in x:
            raise ValueError(
                "Speech2Vec learns from words: a batch must hold 'segments' "
                "(batch, words, 2), where each word begins and ends, beside "
                "'waveform'. kas.data.from_alignments(folder, alignments) "
                "reads them from TextGrid, CTM, .alignment.txt or CSV files."
            )
        segments = x["segments"]
        if len(segments.shape) != 3 or segments.shape[2] != 2:
            raise ValueError(
                "'segments' must have the shape (batch, words, 2). Received: "
                f"{tuple(segments.shape)}"
            )
        start, end = (ops.cast(segments[..., i], "int32") for i in (0, 1))
        lengths = ops.clip(end - start, 0, self.samples)
        words = crop(waveform, start, self.samples)
        inside = ops.arange(self.samples, dtype="int32") < lengths[..., None]
        # Not a product: what lies beyond may be the next word, or NaN.
        return ops.where(inside, words, 0.0), lengths

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        words, lengths = self.spoken(x)
        flat = ops.reshape(lengths, (-1,))
        features, frames = self.encoder.features(
            ops.reshape(words, (-1, self.samples)), flat
        )
        frames = ops.where(flat > 0, ops.minimum(frames, self.max_frames), 0)
        count, bins = words.shape[1], features.shape[-1]
        features = features[:, : self.max_frames]
        features = ops.reshape(features, (-1, count, self.max_frames, bins))
        frames = ops.reshape(frames, (-1, count))
        return self.predict_words(features, frames, training)

    def predict_words(
        self, features: Tensor, lengths: Tensor, training: bool = False
    ) -> dict[str, Any]:
        """The task on features.

        Args:
            features: `(batch, words, frames, bins)`, the words in turn.
            lengths: `(batch, words)`, valid frames; 0 where there is no word.
            training: bool.

        Returns:
            As of a call.
        """
        _, count, frames, bins = features.shape
        lengths = ops.cast(lengths, "int32")
        words = lengths > 0
        flat = ops.reshape(lengths, (-1,))
        valid = frame_mask(flat, frames)
        rows = ops.reshape(features, (-1, frames, bins))
        # Not a product: what stands past a word's end may be anything.
        rows = ops.where(valid[..., None], rows, 0.0)
        features = ops.reshape(rows, (-1, count, frames, bins))
        # A place without a word is read as one frame, and left out below.
        read = self.encoder.backbone(
            rows, lengths=ops.maximum(flat, 1), training=training
        )
        z = ops.reshape(read["clip"], (-1, count, self.encoder.dim))
        z = ops.where(words[..., None], z, ops.zeros((), z.dtype))
        mask = ops.reshape(valid, (-1, count, frames))
        if self.task == "skipgram":
            known, written = words, z
            # (batch, words, 2 window, frames, bins): all write the same from
            # the centre's vector.
            target = neighbours(features, self.window)
            mask = neighbours(mask, self.window)
        else:
            around = neighbours(ops.cast(words, z.dtype), self.window)
            around = ops.sum(around, axis=2)
            known = around > 0
            # The sum of the vectors around; those of missing words are 0.
            written = ops.sum(neighbours(z, self.window), axis=2)
            if self.combine == "mean":
                written = written / ops.maximum(around, 1.0)[..., None]
            target, mask = features[:, :, None], mask[:, :, None]
        mask = ops.logical_and(mask, known[..., None, None])
        prediction = self.write(written, target)
        if self.copies:
            # Each frame's own predecessor, silence before the first.
            last = [(0, 0)] * 3 + [(1, 0), (0, 0)]
            reference = ops.pad(target[:, :, :, :-1], last)
        else:
            reference = self.trajectory(target, mask, training=training)
            reference = ops.broadcast_to(
                reference, (ops.shape(features)[0], 1, 1, frames, bins)
            )
        return {
            "prediction": prediction,
            "target": target,
            "mask": mask,
            "reference": reference,
            "embedding": z,
            "words": words,
        }

    def write(self, z: Tensor, target: Tensor) -> Tensor:
        """What the decoders write from vectors.

        Args:
            z: `(batch, words, dim)`.
            target: `(batch, words, places, frames, bins)`, which
                `"teacher"` sees the past of.

        Returns:
            `(batch, words, places or 1, frames, bins)`.
        """
        _, count, places, frames, bins = target.shape
        rows = ops.reshape(z, (-1, self.encoder.dim))
        if self.decoder == "per_position":
            written = [
                decoder(
                    rows,
                    frames=frames,
                    target=ops.reshape(target[:, :, i], (-1, frames, bins)),
                )
                for i, decoder in enumerate(self.decoders)
            ]
            y = ops.stack(written, axis=1)
        elif self.copies:
            y = self.decoders[0](
                ops.repeat(rows, places, axis=0),
                frames=frames,
                target=ops.reshape(target, (-1, frames, bins)),
            )
        else:
            # The same for every neighbour.
            places, y = 1, self.decoders[0](rows, frames=frames)
        return ops.reshape(y, (-1, count, places, frames, bins))

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        target, mask = outputs["target"], outputs["mask"]
        # What is lost without knowing anything of a word, or by repeating
        # the frame before: to be beaten.
        self.nothing.update_state(
            masked_mse(outputs["reference"], target, mask)
        )
        z = ops.reshape(outputs["embedding"], (-1, self.encoder.dim))
        words = ops.reshape(outputs["words"], (-1,))
        self.spread.update_state(embedding_std(z, words))
        return masked_mse(outputs["prediction"], target, mask)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.Optimizer:
        return keras.optimizers.Adam(
            self.learning_rate, global_clipnorm=self.clip_norm
        )

    def clips(self, x: Batch) -> Batch:
        # The words alone: the statistics are not of what is between them.
        waveform, lengths = waveform_and_lengths(x)
        super().check_clips(waveform, lengths)
        words, lengths = (ops.convert_to_numpy(v) for v in self.spoken(x))
        there = lengths > 0
        if not there.any():
            # The front end wants something to look at.
            there[0, 0], lengths = True, np.maximum(lengths, self.samples)
        return {"waveform": words[there], "lengths": lengths[there]}

    def check_clips(self, waveform: Tensor, lengths: Tensor | None) -> None:
        # Of words: `clips` has looked at the clips.
        if self.encoder.frontend.normalize is not None:
            return
        features, frames = self.encoder.features(waveform, lengths)
        total = ops.convert_to_numpy(features).sum((0, 1))
        mean = np.abs(total / ops.convert_to_numpy(frames).sum()).max()
        if mean > 10:
            warnings.warn(
                f"A feature's mean is {mean:.0f}, far from 0: it will swamp "
                "the loss. Give the front end `normalize='per_bin'`.",
                stacklevel=4,
            )

    def embed_types(
        self,
        segments: Iterable[Any],
        labels: Iterable[str],
        sample_rate: int | None = None,
        batch_size: int = 32,
    ) -> WordVectors:
        """A vector for each word, the mean of how it was spoken.

        Args:
            segments: Spoken words, each a waveform `(samples,)` or a path,
                e.g. of `kas.data.spoken_words`.
            labels: The word of each.
            sample_rate: Hz of waveforms; None for the encoder's.
            batch_size: As of `Encoder.embed`.

        Returns:
            `kas.encoders.WordVectors`: vectors of unit length, `nearest`
            neighbours, `save_word2vec`.
        """
        return word_vectors(
            self.encoder, segments, labels, sample_rate, batch_size
        )


def neighbours(x: Tensor, window: int) -> Tensor:
    """The entries before and after each along the second axis.

    Args:
        x: `(batch, words, ...)`.
        window: How many on either side.

    Returns:
        `(batch, words, 2 * window, ...)`, zeros (False) beyond the ends, in
        their order: `-window ... -1, 1 ... window`.
    """
    words = x.shape[1]
    ends = [(0, 0), (window, window)] + [(0, 0)] * (len(x.shape) - 2)
    padded = ops.pad(x, ends)
    return ops.stack(
        [
            padded[:, window + i : window + i + words]
            for i in range(-window, window + 1)
            if i
        ],
        axis=2,
    )
