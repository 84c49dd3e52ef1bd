"""Audio ALBERT: Mockingjay with one layer, applied again and again."""

from typing import Any
from typing import ClassVar

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import TimeAlteration
from keras_audio_ssl.encoders import EncoderLike
from keras_audio_ssl.methods.mockingjay import Mockingjay


class AudioALBERT(Mockingjay):
    """Mockingjay whose layers share their weights.

    Its weights are those of one layer, whatever the number of layers; the
    work is that of all. Inner levels tell more of phones and speakers than
    the last one (`return_hidden`, `Readout`).

    Args:
        encoder: Settings that override the paper's, `Transformer` with shared
            layers on the front end `"audio_albert"`: `{"layers": 12}`. The
            paper's own input is `{"frontend": "online_logmel_delta",
            "stack": 3}` with `span=1`. Or an `Encoder`, ....
        mask_token: Whether selected frames are replaced by a vector that is
            learnt, and never by others or left, as in the authors' later
            code.
        **kwargs: Arguments of `Mockingjay`.

    Returns of a call:
        See `MaskedReconstruction`.

    Reference:
        Chi et al., 2021, "Audio ALBERT: A Lite BERT for Self-supervised
        Learning of Audio Representation", arXiv 2005.08575.
    """

    PAPER: ClassVar = {
        "backbone": "transformer", "frontend": "audio_albert",
        "share_layers": True, "layers": 6,
    }  # fmt: skip
    PRESETS: ClassVar = {
        "tiny": {
            "encoder": {
                "units": 96, "heads": 4, "feed_forward": 192, "layers": 3,
            },
            "learning_rate": 1e-3,
        },
    }  # fmt: skip

    def __init__(
        self,
        encoder: EncoderLike = None,
        mask_token: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, **kwargs)
        if mask_token:
            bins = self.stack * self.encoder.frontend.n_features
            self.token = self.add_weight(
                shape=(bins,), initializer="zeros", name="mask_token"
            )
            self.time = TimeAlteration(
                self.proportion, self.span, self.overlap, dice=(1.0, 0.0),
                reference=self.reference_policy,
            )  # fmt: skip

    def alter(
        self, features: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        altered, selected = super().alter(features, lengths)
        if self.mask_token:
            token = ops.cast(self.token, altered.dtype)
            # The hidden frames are zeros by now.
            altered = altered + ops.where(selected, token, 0.0)
        return altered, selected
