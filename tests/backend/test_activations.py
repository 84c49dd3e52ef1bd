"""Activations with gradients of their own."""

import numpy as np
import pytest

from tests.backend.kernels import COMPILED
from tests.backend.kernels import array
from tests.backend.kernels import check

# From far below to far above, the bends between them.
WIDE = np.linspace(-30, 30, 4 * 11 * 3).reshape(4, 11, 3).astype("float32")
CASES = {
    "gelu": ("gelu", [2 * array(0, 4, 11, 3)], {}),
    "gelu, far": ("gelu", [WIDE], {}),
}


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("case", CASES)
def test_equals_the_plain_function(case, compiled):
    check(*CASES[case], compiled=compiled)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_half_precision_is_near(case, dtype):
    check(*CASES[case], compiled=COMPILED[0], dtype=dtype, tolerance=0.1)
