"""APC: predict the frame a few steps ahead; with codes, VQ-APC."""

from typing import ClassVar

import keras
from keras import ops

from keras_audio_ssl.blocks import GumbelQuantizer
from keras_audio_ssl.blocks import codebook_perplexity
from keras_audio_ssl.blocks import frame_mask
from keras_audio_ssl.encoders import RecurrentStack
from keras_audio_ssl.encoders import make_encoder
from keras_audio_ssl.features import recipe
from keras_audio_ssl.losses import masked_l1
from keras_audio_ssl.methods.pretext import PretextModel
from keras_audio_ssl.methods.pretext import waveform_and_lengths


@keras.saving.register_keras_serializable(package="keras_audio_ssl")
class APC(PretextModel):
    """Autoregressive predictive coding of log-mel frames.

    A recurrent network reads the frames up to t and predicts frame
    t + `n_future`. An utterance of at most `n_future` frames has no target
    and adds nothing to the loss.

    Args:
        n_future: Frames ahead.
        units: Width of the GRU layers.
        layers: Number of GRU layers.
        prenet_layers: Dense layers before them.
        dropout: Rate after each layer.
        dropout_last: Whether the last layer has dropout too (s3prl).
        residual_first: Whether the first layer adds its input where widths
            are equal (official code; s3prl does not).
        encoder: None for the paper's, or an `Encoder`, a `Backbone` or a
            Keras model that keeps the frame rate and looks at the past only.
        codebooks: Codes of each group of the quantiser, e.g. `[512]`: with
            them it is VQ-APC.
        codebook_dims: Width of each group, adding up to `units`; None
            divides evenly.
        temperature: Of the quantiser's Gumbel-softmax.
        n_mels: Bins of the filterbank.
        normalize: Of the features, see `FrontEnd`. `"utterance"` (s3prl's)
            takes each utterance's mean and deviation away, and with them much
            of the speaker; `"per_bin"` those of the training data: better
            where the speaker or the place is to be told.
        reference_loss: Average over padded frames too, as the released code
            does; short utterances then pull the prediction to its bias.
        learning_rate: Of Adam.
        clip_norm: Largest global norm of the gradient.
        preset: `"tiny"`, a model for a laptop's CPU.
        seed: Seed of the quantiser's draws.

    Returns of a call:
        Dict of `"prediction"` and `"target"` `(batch, frames - n_future,
        bins)`, `"mask"` `(batch, frames - n_future)`, and with a quantiser
        `"codes"` `(batch, frames - n_future, groups)`.

    Reference:
        Chung et al., 2019, arXiv 1904.03240; Chung, Tang & Glass, 2020,
        arXiv 2005.08392 (VQ-APC).
    """

    baseline = "copy_l1"
    PRESETS: ClassVar = {
        "tiny": {"units": 96, "layers": 2, "learning_rate": 2e-3},
    }
    TRAINING: ClassVar = {
        "paper": {"batch_size": 32, "seconds": 16.0, "steps": 325_000},
        "tiny": {"batch_size": 16, "seconds": 2.0, "steps": 500},
    }

    def __init__(
        self,
        n_future=3,
        units=512,
        layers=3,
        prenet_layers=0,
        dropout=0.0,
        dropout_last=False,
        residual_first=True,
        encoder=None,
        codebooks=None,
        codebook_dims=None,
        temperature=0.5,
        n_mels=80,
        normalize="utterance",
        reference_loss=False,
        learning_rate=1e-4,
        clip_norm=1.0,
        seed=0,
        **kwargs,
    ):
        if n_future < 1:
            raise ValueError(
                f"`n_future` must be positive. Received: {n_future}"
            )
        if encoder is None:
            encoder = RecurrentStack(
                n_mels,
                units,
                layers,
                prenet_layers,
                dropout,
                dropout_last,
                residual_first,
                dtype=kwargs.get("dtype"),
            )
        frontend = recipe("apc", n_mels=n_mels, normalize=normalize)
        encoder = make_encoder(encoder, frontend)
        if encoder.backbone.stride != 1:
            raise ValueError(
                "APC needs an encoder with one frame for each feature frame. "
                f"Received: stride {encoder.backbone.stride}"
            )
        super().__init__(encoder, seed=seed, **kwargs)
        self.n_future, self.units, self.layers_ = n_future, units, layers
        self.prenet_layers, self.dropout = prenet_layers, dropout
        self.dropout_last = dropout_last
        self.residual_first = residual_first
        self.codebooks = list(codebooks) if codebooks else None
        self.temperature, self.n_mels = temperature, n_mels
        self.normalize = normalize
        self.reference_loss = reference_loss
        self.learning_rate, self.clip_norm = learning_rate, clip_norm
        width, bins = encoder.backbone.dim, encoder.frontend.n_features
        kind = {"dtype": self.dtype_policy}
        self.quantizer = None
        if self.codebooks:
            groups = len(self.codebooks)
            codebook_dims = codebook_dims or [width // groups] * groups
            if sum(codebook_dims) != width:
                raise ValueError(
                    f"`codebook_dims` must add up to {width}. "
                    f"Received: {codebook_dims}"
                )
            self.quantizer = GumbelQuantizer(
                codebook_dims,
                self.codebooks,
                temperature,
                name="quantizer",
                **kind,
            )
            self.perplexity = keras.metrics.Mean(name="codebook_perplexity")
        self.codebook_dims = codebook_dims
        self.postnet = keras.layers.Dense(bins, name="postnet", **kind)
        self.postnet.build((None, None, width))
        self.copy_error = keras.metrics.Mean(name="copy_l1")

    def call(self, x, training=False):
        waveform, lengths = waveform_and_lengths(x)
        features, valid = self.encoder.features(waveform, lengths)
        return self.predict_ahead(features, valid, training)

    def predict_ahead(self, features, lengths=None, training=False):
        """The task on features `(batch, frames, bins)`; see `call`."""
        n, frames = self.n_future, ops.shape(features)[1]
        if isinstance(frames, int) and frames <= n:
            raise ValueError(
                f"APC with n_future={n} needs more than {n} frames. "
                f"Received: {frames}"
            )
        known, target = features[:, : frames - n], features[:, n:]
        if lengths is None:
            lengths = ops.full((ops.shape(features)[0],), frames, "int32")
        left = ops.maximum(ops.cast(lengths, "int32") - n, 0)
        read = self.encoder.backbone(known, lengths=left, training=training)
        frames, outputs = read["frames"], {}
        if self.quantizer is not None:
            frames, outputs["codes"] = self.quantizer(
                frames, training=training, seed=self.seed_generator
            )
        return {
            "prediction": self.postnet(frames),
            "target": target,
            "last": known,
            "mask": frame_mask(left, ops.shape(target)[1]),
            **outputs,
        }

    def pretext_loss(self, outputs, x, y=None):
        target, mask = outputs["target"], outputs["mask"]
        # What is lost by repeating the current frame: to be beaten.
        self.copy_error.update_state(masked_l1(outputs["last"], target, mask))
        if self.quantizer is not None:
            codes = outputs["codes"]
            used = [
                codebook_perplexity(codes[..., i], size, mask)
                for i, size in enumerate(self.codebooks)
            ]
            self.perplexity.update_state(sum(used) / len(used))
        if self.reference_loss:
            mask = None
        return masked_l1(outputs["prediction"], target, mask)

    def default_optimizer(self):
        return keras.optimizers.Adam(
            self.learning_rate, global_clipnorm=self.clip_norm
        )

    def get_config(self):
        return {
            **super().get_config(),
            "n_future": self.n_future,
            "units": self.units,
            "layers": self.layers_,
            "prenet_layers": self.prenet_layers,
            "dropout": self.dropout,
            "dropout_last": self.dropout_last,
            "residual_first": self.residual_first,
            "codebooks": self.codebooks,
            "codebook_dims": self.codebook_dims,
            "temperature": self.temperature,
            "n_mels": self.n_mels,
            "normalize": self.normalize,
            "reference_loss": self.reference_loss,
            "learning_rate": self.learning_rate,
            "clip_norm": self.clip_norm,
        }
