import inspect
import os
import signal
import sys
import tempfile

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Tests build the same small models over and over: what JAX compiled for one
# of them serves the others, the smallest operations too, most of which take
# longer to compile than to read.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), "keras_audio_ssl_jax_cache"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Most of a suite on JAX is XLA at work on programs that run a few times. What
# it does by default is tested by `tests/parity` and `tests/faults`, on
# TensorFlow, and with `JAX_DISABLE_MOST_OPTIMIZATIONS=0`.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


def pytest_runtest_teardown(item, nextitem):
    """Forgets what JAX compiled for the tests of a folder.

    A suite's programs would take some 8 GB of each worker.
    """
    jax = sys.modules.get("jax")
    if jax and nextitem and nextitem.path.parent != item.path.parent:
        jax.clear_caches()


@pytest.fixture
def heeding_ctrl_c():
    """Signals as a terminal has them: what a shell puts in the background
    ignores Ctrl-C, what `nohup` starts ignores SIGHUP, and so would the run
    that a test interrupts."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {n: signal.signal(n, handler) for n, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Computed(BaseException):
    """A test that is marked `no_backend` computed with one.

    No `Exception`: nothing that such a test looks at may catch it.
    """


@pytest.fixture(autouse=True)
def no_backend(request, monkeypatch):
    """Keeps the mark true: whatever a backend would do raises.

    That is to make a variable, to call a layer, an operation or a random
    generator, and to ask which backend it is.
    """
    if request.node.get_closest_marker("no_backend") is None:
        return
    import keras

    # Here, where it may still ask which backend it is.
    import keras_audio_ssl.backend as backend

    def refuse(name):
        def refused(*args, **kwargs):
            raise Computed(
                f"{name}: this test computes with a backend, so the mark "
                "`no_backend` must go"
            )

        return refused

    for module in (keras.ops, keras.random):
        for name, function in vars(module).items():
            if inspect.isfunction(function):
                monkeypatch.setattr(module, name, refuse(name))
    monkeypatch.setattr(keras.Variable, "__init__", refuse("Variable"))
    monkeypatch.setattr(keras.Operation, "__call__", refuse("a call"))
    monkeypatch.setattr(keras.Layer, "__call__", refuse("a call"))
    for module in (keras.backend, keras.config):
        monkeypatch.setattr(module, "backend", refuse("backend"))
    for name in ("is_stateless", "reads_ahead"):
        monkeypatch.setattr(backend, name, refuse(name))


@pytest.fixture(autouse=True)
def programs(request, monkeypatch):
    """On JAX a test's calls of encoders are programs: `tests/compiled.py`."""
    if "no_backend" in request.keywords:
        return
    import keras

    if keras.backend.backend() != "jax":
        return
    from keras_audio_ssl.encoders import Backbone
    from keras_audio_ssl.encoders import Encoder
    from tests.compiled import as_one_program

    for cls in (Encoder, Backbone):
        monkeypatch.setattr(cls, "__call__", as_one_program(cls.__call__))
