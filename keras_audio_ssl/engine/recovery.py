"""Models that come back whole from an error, on every backend."""

import contextlib
import functools
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import TypeVar

import keras

import keras_audio_ssl.backend as backend
from keras_audio_ssl.engine.before_model import BeforeModel

GROUPS = (
    "trainable_variables",
    "non_trainable_variables",
    "optimizer_variables",
    "metrics_variables",
)
# The groups that a step is given and returns, by their number.
STATES = {4: GROUPS, 3: (*GROUPS[:2], GROUPS[3]), 2: GROUPS[:2]}

# On JAX a pass takes the variables' values away while it lasts, and they may
# belong to several models: one pass at a time.
_ALONE = threading.RLock()


Method = TypeVar("Method", bound=Callable[..., Any])


def described_by(other: Callable[..., Any]) -> Callable[[Method], Method]:
    """As `functools.wraps`, but of the method's own type."""
    decorate: Any = functools.wraps(other)
    return decorate


class Whole(BeforeModel):
    """Stands before `keras.Model` among a class's bases.

    On JAX Keras takes the values out of the variables while a pass lasts, and
    the compiled step uses up what it is given. Where a pass fails or is
    stopped, Keras puts values back after `fit` alone, and there not those of
    a first step. Here the last good values are put back, whatever ends a
    pass; and passes of several threads wait for each other.
    """

    @described_by(keras.Model.fit)
    def fit(self, *args: Any, **kwargs: Any) -> Any:
        with self._put_back():
            return super().fit(*args, **kwargs)

    @described_by(keras.Model.evaluate)
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        with self._put_back():
            return super().evaluate(*args, **kwargs)

    @described_by(keras.Model.train_on_batch)
    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._put_back():
            return super().train_on_batch(*args, **kwargs)

    @described_by(keras.Model.test_on_batch)
    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._put_back():
            return super().test_on_batch(*args, **kwargs)

    @described_by(keras.Model.predict)
    def predict(self, *args: Any, **kwargs: Any) -> Any:
        with alone(), self._put_back():
            return super().predict(*args, **kwargs)

    @described_by(keras.Model.predict_on_batch)
    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with alone(), self._put_back():
            return super().predict_on_batch(*args, **kwargs)

    @contextlib.contextmanager
    def _put_back(self) -> Iterator[None]:
        try:
            yield
        finally:
            if backend.is_stateless() and not self._jax_state_synced:
                self.jax_state_sync()
                self._jax_state = None

    def _get_jax_state(
        self, purge_model_variables: bool = False, **groups: bool
    ) -> tuple[Any, ...]:
        state = super()._get_jax_state(**groups)
        # What there is if the first step fails.
        self._remember(state)
        self._jax_state_synced = False
        if purge_model_variables:
            self._purge_model_variables(**groups)
        return state

    def _remember(self, state: tuple[Any, ...]) -> None:
        # Past Keras' tracking, which would copy the lists at each step.
        groups = zip(STATES[len(state)], state, strict=True)
        vars(self)["_jax_state"] = dict(groups)

    def _make_function(
        self, step_function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Callable[..., Any]:
        if not backend.is_stateless():
            return super()._make_function(step_function, *args, **kwargs)

        def kept(
            state: tuple[Any, ...], data: Any
        ) -> tuple[Any, tuple[Any, ...]]:
            with uninterrupted():
                out, state = step_function(state, data)
                self._remember(state)
            return out, state

        return super()._make_function(kept, *args, **kwargs)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds an interrupt (Ctrl-C, a notebook's stop button) back till the end.

    A compiled step uses up what it is given; what it gives must be kept.
    """
    handler = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not (main and callable(handler)):
        yield
        return
    asked: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *args: asked.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if asked:
        handler(*asked[-1])


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Waits for the passes of other threads, on JAX."""
    if not backend.is_stateless():
        yield
        return
    with _ALONE:
        yield
