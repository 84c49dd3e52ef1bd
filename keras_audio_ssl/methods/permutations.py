"""Permutations: patches of a spectrogram are put back in order by ranking."""

import itertools
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import RandomSlices
from keras_audio_ssl.augment.alteration import uniform_int
from keras_audio_ssl.blocks import Patches
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.encoders import PatchCNN
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.losses import hard_rank
from keras_audio_ssl.losses import perturbed_rank
from keras_audio_ssl.losses import perturbed_rank_loss
from keras_audio_ssl.losses import rank_agreement
from keras_audio_ssl.losses import soft_rank
from keras_audio_ssl.losses import soft_rank_loss
from keras_audio_ssl.losses.ranking import check_noise
from keras_audio_ssl.losses.ranking import check_soft
from keras_audio_ssl.methods.slices import SliceModel
from keras_audio_ssl.methods.slices import encode
from keras_audio_ssl.methods.slices import mean_of_valid

RANKINGS = ("perturbed", "soft", "classify")


class Permutations(SliceModel):
    """Ranking of shuffled patches of a spectrogram, any of all orders.

    A window of a clip is cut into patches, which are shuffled. One network
    sees each patch alone; from all vectors scores are made whose ranks are to
    be the patches' places.

    Args:
        encoder: Settings that override the paper's, `PatchCNN` on the front
            end `"permutations"`: `{"channels": [8, 16], "dim": 32}`. Or an
            `Encoder`, a `Backbone` or a Keras model, which sees each patch
            with zeros around it and reads whole windows afterwards.
        axis: `"freq"`, `"time"` or `"time_freq"`, along what is cut. Orders
            in time are far harder to learn than in frequency.
        patches: How many; with `"time_freq"`, along time and along frequency.
            None for 8, or 3 by 3.
        gap: Frames or bins between patches that are left out; None for 2
            along time, as windows of neighbouring frames overlap, else 0.
        patch_norm: Whether each patch is standardised, so that its level
            tells nothing.
        frames: Feature frames of a window.
        ranking: `"perturbed"`, ranks under normal noise; `"soft"`, ranks by
            projection; `"classify"`, which of a few fixed orders it is, as
            before the paper.
        distance: `"fenchel_young"`, or `"squared"`, the distance of smoothed
            from true ranks, whose gradient vanishes where ranks are hard.
        sigma: Of the noise; its unit is that of the scores, like that of
            `strength`.
        num_samples: Draws of the noise; None for its exact expectation.
        strength: Of the soft ranks' regularisation.
        regularization: Of the soft ranks, `"l2"` or `"kl"`.
        orders: How many fixed orders `"classify"` has, far from each other.
        hidden_dim: Width of the head.
        learning_rate: Of Adam.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of windows, orders and noise.

    Returns of a call:
        Dict of `"scores"` `(batch, patches)`, `"ranks"` of the same shape,
        int32, what their ranks are to be, `"shuffled"` `(batch, patches,
        frames, bins)`, `"embedding"` `(batch, dim)`, `"valid"` `(batch,)`,
        and with `"classify"` `"logits"` `(batch, orders)` and `"order"`
        `(batch,)`, the class.

    Raises:
        ValueError: There are fewer than two patches, or the window is too
            small for them.

    Reference:
        Carr et al., 2021, "Self-Supervised Learning of Audio Representations
        from Permutations with Differentiable Ranking", arXiv 2103.09879.
    """

    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {"channels": [8, 16, 32], "dim": 32},
            "hidden_dim": 64,
        },
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 256, "seconds": 10.0, "steps": 100_000},
        "tiny": {"batch_size": 32, "seconds": 2.0, "steps": 300},
    }

    def __init__(
        self,
        encoder: EncoderLike = None,
        axis: str = "freq",
        patches: int | Sequence[int] | None = None,
        gap: int | None = None,
        patch_norm: bool = False,
        frames: int = 96,
        ranking: str = "perturbed",
        distance: str = "fenchel_young",
        sigma: float = 1.0,
        num_samples: int | None = None,
        strength: float = 1.0,
        regularization: str = "l2",
        orders: int = 100,
        hidden_dim: int = 512,
        learning_rate: float = 1e-3,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        check_choice("ranking", ranking, RANKINGS)
        check_choice("distance", distance, ("fenchel_young", "squared"))
        check_noise(sigma, num_samples)
        check_soft(strength, regularization)
        paper = {
            "backbone": "patch_cnn", "frontend": "permutations", "axis": axis,
            "patches": patches, "gap": gap, "patch_norm": patch_norm,
        }  # fmt: skip
        super().__init__(encoder, paper, frames, seed, **kwargs)
        self.cutter = Patches(axis, patches, gap, patch_norm, name="patches")
        frontend, count = self.encoder.frontend, self.cutter.number
        self.cutter.sizes(frames, frontend.n_features)
        network, width = self.network, self.network.clip_dim
        if isinstance(network, PatchCNN):
            own = network.cutter
            if cuts(own) != cuts(self.cutter):
                raise ValueError(
                    "The encoder cuts its windows in another way. Its axis="
                    f"{own.axis!r}, counts={own.counts}, gaps={own.gaps}, "
                    f"patch_norm={own.norm}; asked for are {axis!r}, "
                    f"{self.cutter.counts}, {self.cutter.gaps}, {patch_norm}."
                )
            width = network.network.clip_dim
        self.orders = None
        if ranking == "classify":
            self.orders = far_orders(count, orders)
        self.slices = RandomSlices(frames)
        self.span = self.slices.span
        policy = {"dtype": self.dtype_policy}
        self.hidden = keras.layers.Dense(
            hidden_dim, "relu", name="hidden", **policy
        )
        self.hidden.build((None, count * width))
        self.out = keras.layers.Dense(
            count if self.orders is None else orders, name="out",
            # Scores begin within the noise of each other, in no order.
            kernel_initializer=keras.initializers.VarianceScaling(0.01),
            **policy,
        )  # fmt: skip
        self.out.build((None, hidden_dim))
        names = ("full", "partial", "spearman", "kendall")
        self.agreement = {n: keras.metrics.Mean(name=n) for n in names}

    def call(self, x: Batch, training: bool = False) -> dict[str, Tensor]:
        features, valid = self.features_of(x)
        windows, valid = self.slices(
            features, lengths=valid, seed=self.seed_generator
        )
        return {**self.rank(windows[:, 0], training), "valid": valid}

    def rank(self, windows: Tensor, training: bool = False) -> dict[str, Any]:
        """The task on windows `(batch, frames, bins)`; see `call`."""
        patches, outputs = self.cutter(windows), {}
        ranks, order = self.draw(ops.shape(patches)[0])
        # Ranks are the true places of what stands in each place.
        place = (ranks - 1)[..., None, None]
        shuffled = ops.take_along_axis(patches, place, axis=1)
        vectors = self.encode(self.fitted(shuffled), training)
        # The patches' vectors side by side, as they were shuffled.
        embedding = ops.reshape(
            vectors, (-1, vectors.shape[1] * vectors.shape[2])
        )
        scores = self.out(self.hidden(embedding))
        if self.orders is not None:
            # The order that was found, as ranks.
            best = ops.argmax(scores, axis=-1)
            outputs = {"logits": scores, "order": order}
            scores = ops.take(self.orders, best, axis=0) + 1
        return {
            "scores": ops.cast(scores, "float32"),
            "ranks": ranks,
            "shuffled": shuffled,
            "embedding": embedding,
            **outputs,
        }

    def draw(self, clips: Tensor) -> Any:
        """Orders, uniform among all, or among the fixed ones.

        Args:
            clips: How many.

        Returns:
            `(ranks, order)`: int32 `(clips, patches)`, the patch from 1 on
            that is put in each place; and `(clips,)`, which of the fixed
            orders it is, or None.
        """
        seed = self.seed_generator
        if self.orders is None:
            chance = keras.random.uniform(
                (clips, self.cutter.number), seed=seed
            )
            return ops.cast(ops.argsort(chance, axis=-1), "int32") + 1, None
        count = ops.full((clips,), len(self.orders), "int32")
        order = uniform_int(count, seed)
        return ops.take(self.orders, order, axis=0) + 1, order

    def fitted(self, patches: Tensor) -> Tensor:
        """Patches as the network takes them, where need be within zeros."""
        network = self.network
        if isinstance(network, PatchCNN):
            return patches
        _, _, frames, bins = patches.shape
        more = max(network.min_frames - frames, 0), network.n_features - bins
        around = ((0, 0), (0, 0), *((0, n) for n in more))
        return ops.pad(patches, around)

    def encode(self, slices: Tensor, training: bool = False) -> Tensor:
        if not isinstance(self.network, PatchCNN):
            return super().encode(slices, training)
        return encode(self.network.network, slices, training)

    def restored(self, shuffled: Tensor, scores: Tensor) -> Tensor:
        """Features in the order of the scores.

        Args:
            shuffled: `(batch, patches, frames, bins)`.
            scores: `(batch, patches)`.

        Returns:
            `(batch, time, bins)`, gaps left out.
        """
        place = ops.argsort(scores, axis=-1)[..., None, None]
        return self.cutter.join(ops.take_along_axis(shuffled, place, axis=1))

    def pretext_loss(
        self, outputs: dict[str, Tensor], x: Batch, y: Tensor | None = None
    ) -> Tensor:
        scores, valid = outputs["scores"], outputs["valid"]
        for name, value in rank_agreement(
            hard_rank(scores), outputs["ranks"]
        ).items():
            self.agreement[name].update_state(mean_of_valid(value, valid))
        self.std.update_state(embedding_std(outputs["embedding"]))
        if self.orders is None:
            each = self.rank_loss(scores, outputs["ranks"])
        else:
            each = keras.losses.sparse_categorical_crossentropy(
                outputs["order"], outputs["logits"], from_logits=True
            )
        return mean_of_valid(each, valid)

    def rank_loss(self, scores: Tensor, ranks: Tensor) -> Tensor:
        """Loss of each row, `(batch,)`, of scores and true ranks."""
        smooth: Callable[..., Tensor]
        loss: Callable[..., Tensor]
        options: tuple[Any, ...]
        if self.ranking == "soft":
            options = (self.strength, self.regularization)
            smooth, loss = soft_rank, soft_rank_loss
        else:
            options = (self.sigma, self.num_samples, self.seed_generator)
            smooth, loss = perturbed_rank, perturbed_rank_loss
        if self.distance == "fenchel_young":
            return loss(scores, ranks, *options)
        # |r - true|^2, of ranks that have gradients.
        off = smooth(scores, *options) - ops.cast(ranks, scores.dtype)
        return ops.mean(ops.square(off), axis=-1)


def cuts(patches: Any) -> tuple[Any, Any, bool]:
    """What tells one way of cutting from another."""
    return patches.counts, patches.gaps, bool(patches.norm)


def far_orders(
    items: int, count: int, seed: int = 0, most: int = 50_000
) -> np.ndarray:
    """Orders that are far from each other, one after the other.

    Each is, of all or of so many random ones, the one whose nearest among
    those before differs from it in the most places.

    Args:
        items: That are ordered.
        count: Orders.
        seed: Of the draws.
        most: Orders that are looked at.

    Returns:
        numpy int32 `(count, items)`, from 0 on.

    Raises:
        ValueError: There are fewer orders, or fewer than two are wanted.

    Reference:
        Noroozi & Favaro, 2016, arXiv 1603.09246, algorithm 1.
    """
    total = math.factorial(items)
    if not 2 <= count <= min(total, most):
        raise ValueError(
            f"`orders` must be 2 to {min(total, most)} for {items} patches. "
            f"Received: {count}"
        )
    rng = np.random.default_rng(seed)
    if total <= most:
        found = np.array(list(itertools.permutations(range(items))))
    else:
        found = np.argsort(rng.random((most, items)), axis=1)
    nearest = np.full(len(found), items + 1)
    chosen = [int(rng.integers(len(found)))]
    while len(chosen) < count:
        apart = (found != found[chosen[-1]]).sum(axis=1)
        # How far each is from the nearest of those chosen.
        nearest = np.minimum(nearest, apart)
        chosen.append(int(nearest.argmax()))
    return found[chosen].astype("int32")
