import keras
import numpy as np
import pytest

from tests.parity.golden import PASSED
from tests.parity.golden import golden  # noqa: F401


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Remembers what passed: only then is an empty comparison the fault."""
    outcome = yield
    if call.when == "call":
        item.stash[PASSED] = outcome.get_result().passed


RANDOM = [
    keras.initializers.OrthogonalInitializer,
    keras.initializers.RandomNormal,
    keras.initializers.RandomUniform,
    keras.initializers.TruncatedNormal,
    keras.initializers.VarianceScaling,
]


def by_numpy(initializer, shape, dtype=None):
    """Initial values for which no program is compiled."""
    seed = initializer.seed if isinstance(initializer.seed, int) else 0
    values = np.random.default_rng(seed).standard_normal(shape)
    values /= max(np.prod(shape[:-1]), 1.0) ** 0.5
    return keras.ops.convert_to_tensor(values, dtype)


@pytest.fixture(autouse=True, scope="module")
def optimized():
    """Numbers are those of the programs that users run.

    But for initial values, a program for each shape: here weights are those
    of the references, or any.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    # Operations that other tests compiled would be taken as they are.
    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch:
        for cls in RANDOM:
            patch.setattr(cls, "__call__", by_numpy)
        yield
    jax.config.update("jax_disable_most_optimizations", before)
