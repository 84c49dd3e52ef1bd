"""What is quicker, or only possible, in a backend's own words.

Every name has its plain version in `portable`, which says what it does. The
chosen backend's module puts its own in place of some of them, of equal values
and gradients (`tests/backend`) and with a line in `benchmarks/kernels.py`
where it is there for speed. On a backend that has no module here the plain
ones serve.
"""

import keras

from keras_audio_ssl.backend.exported import for_export as for_export
from keras_audio_ssl.backend.exported import has_transforms as has_transforms
from keras_audio_ssl.backend.exported import is_for_export as is_for_export
from keras_audio_ssl.backend.portable import *

if keras.config.backend() == "jax":
    from keras_audio_ssl.backend.jax import *
elif keras.config.backend() == "tensorflow":
    from keras_audio_ssl.backend.tensorflow import *
elif keras.config.backend() == "torch":
    from keras_audio_ssl.backend.torch import *
