"""Pictures of what a model makes of a clip, as it learns."""

import os
from typing import Any

import numpy as np

from keras_audio_ssl._optional import need
from keras_audio_ssl._types import FilePath
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.callbacks.steps import StepCallback


class ReconstructionPictures(StepCallback):
    """Draws `viz.reconstruction` of one clip as training goes on.

    What is hidden is drawn from the model's generator, whose state is put
    back: the run is the same with and without pictures.

    Args:
        clip: `(samples,)` at the encoder's rate.
        folder: Gets `reconstruction_000100.png` after step 100, and so on.
        every: Steps between pictures; the first is before training.
        steps_done: Steps done before this `fit`.

    Raises:
        ImportError: Matplotlib is not installed.

    Example:
        >>> clip = kas.data.read_audio("clip.flac", 16000)
        >>> pictures = kas.callbacks.ReconstructionPictures(clip, "pictures")
        >>> data = kas.data.from_folder("my_audio", 0.95, batch_size=32)
        >>> model = kas.NPC(preset="tiny")
        >>> model.compile()
        >>> run = model.fit(data, callbacks=[pictures], verbose=0)
    """

    def __init__(
        self,
        clip: Tensor,
        folder: FilePath,
        every: int = 100,
        steps_done: int = 0,
    ) -> None:
        super().__init__(every, steps_done)
        need("matplotlib", "`ReconstructionPictures`")
        self.clip, self.folder = np.asarray(clip, "float32"), folder

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        os.makedirs(self.folder, exist_ok=True)
        self.draw(self.step)

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        self.draw(step)

    def draw(self, step: int) -> None:
        """Writes the picture of the model as it is."""
        # What draws pages too takes a while to import: not for every run.
        from keras_audio_ssl.viz import reconstruction

        sync = getattr(self.model, "jax_state_sync", None)
        if sync is not None:
            sync()
        draws = self.model.seed_generator.state
        before = draws.numpy()
        path = os.path.join(self.folder, f"reconstruction_{step:06}.png")
        reconstruction(self.model, self.clip).savefig(path, dpi=110)
        draws.assign(before)
