import numpy as np
import pytest
from keras import ops

import keras_audio_ssl.backend as backend
from tests.backend.kernels import COMPILED
from tests.backend.kernels import Kernel
from tests.backend.kernels import array
from tests.blocks.gradients import close
from tests.blocks.gradients import run

SHIFT = np.array([0, 3, 6, 1, 0], "int32")
AROUND = np.array([9, 9, 7, 2, 1], "int32")


def moved(x, back=False):
    rows = []
    for row, by, end in zip(x, SHIFT, AROUND, strict=True):
        start = np.roll(row[:end], -by if back else by, axis=0)
        rows.append(np.concatenate([start, row[end:]]))
    return np.stack(rows)


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 4)])
def test_the_beginning_of_each_row_goes_round(shape, compiled):
    x, cotangent = array(0, *shape), array(1, *shape)

    def function(x):
        shift, around = map(ops.convert_to_tensor, (SHIFT, AROUND))
        return backend.rolled(x, shift, around)

    got = run(Kernel(function), [x], cotangent, compiled=compiled)
    close(got["outputs"], [moved(x)], 0)
    close(got["inputs"], [moved(cotangent, back=True)], 1e-6)
