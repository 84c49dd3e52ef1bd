"""Names for what signatures speak of, and what Keras has no types for."""

import os
from typing import Any
from typing import TypeAlias

# A tensor of whatever backend runs, or an array that becomes one.
Tensor: TypeAlias = Any
# An int, or what stands for one where a size is not known: a scalar tensor,
# or JAX's symbol.
Size: TypeAlias = Any
# Of draws: an int or a `keras.random.SeedGenerator`; None for Keras' own.
Seed: TypeAlias = Any
# What `fit` takes: `(batch, samples)`, or a dict of that as `"waveform"`,
# `"lengths"` and what else a task wants.
Batch: TypeAlias = Any
# A path, a waveform `(samples,)` or `(batch, samples)`, or a list of either.
Audio: TypeAlias = Any
# Where a file or a folder is.
FilePath: TypeAlias = str | os.PathLike[str]
