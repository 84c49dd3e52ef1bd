import keras
import pytest

from tests.parity.golden import PASSED
from tests.parity.golden import golden  # noqa: F401


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Remembers what passed: only then is an empty comparison the fault."""
    outcome = yield
    if call.when == "call":
        item.stash[PASSED] = outcome.get_result().passed


@pytest.fixture(autouse=True, scope="module")
def optimized():
    """Numbers are those of the programs that users run."""
    if keras.backend.backend() == "jax":
        import jax

        before = jax.config.values["jax_disable_most_optimizations"]
        jax.config.update("jax_disable_most_optimizations", False)
        # Operations that other tests compiled would be taken as they are.
        jax.clear_caches()
        yield
        jax.config.update("jax_disable_most_optimizations", before)
    else:
        yield
