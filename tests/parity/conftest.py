import pytest

from tests.parity.golden import PASSED
from tests.parity.golden import golden  # noqa: F401


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Remembers what passed: only then is an empty comparison the fault."""
    outcome = yield
    if call.when == "call":
        item.stash[PASSED] = outcome.get_result().passed
