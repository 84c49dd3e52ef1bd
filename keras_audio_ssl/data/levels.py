"""What to say of a data set's levels before training on it."""

import contextlib

import numpy as np

from keras_audio_ssl._text import printable
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio.clipping import LOUD
from keras_audio_ssl.data.audio.clipping import clipped_share
from keras_audio_ssl.data.audio.clipping import plateau_step
from keras_audio_ssl.data.dataset import AudioDataset

# Before a run so many clips are looked at, and so many seconds of each.
CLIPS, SECONDS = 64, 5.0
MOSTLY = 0.2  # clipped part of a clip of which little else is left


def odd_levels(data: AudioDataset) -> list[str]:
    """What to say of a data set's levels before training on it.

    Looks at some clips from all over it, a few seconds of each.

    Args:
        data: The data set.

    Returns:
        A sentence for each kind of fault, none if there is none.
    """
    count = min(CLIPS, data.num_clips)
    some = np.unique(np.linspace(0, data.num_clips - 1, count).astype(int))
    loud, clipped, looked = [], [], 0
    for clip in some.tolist():
        with contextlib.suppress(AudioError):
            wave, coding = data.read_native(clip, SECONDS)
            looked += 1
            peak = float(np.abs(wave).max())
            if peak > LOUD:
                loud.append((peak, clip))
            share = clipped_share(wave, plateau_step(coding))
            if share > MOSTLY:
                clipped.append((share, clip))
    said = []
    if loud:
        peak, clip = max(loud)
        said.append(
            f"{len(loud)} of {looked} clips go beyond full scale, "
            f"{printable(data.files[clip])} up to {peak:.6g}: samples that "
            "were not scaled to [-1, 1]?"
        )
    if clipped:
        share, clip = max(clipped)
        said.append(
            f"{len(clipped)} of {looked} clips are mostly clipped, "
            f"{printable(data.files[clip])} in {100 * share:.0f} % of its "
            "samples: little of the sound is left in them"
        )
    return said
