"""Models that come back whole from an error, on every backend."""

import contextlib
import functools
import signal
import threading

import keras

import keras_audio_ssl.backend as backend

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


class Whole:
    """Stands before `keras.Model` among a class's bases.

    On JAX Keras takes the values out of the variables while a pass lasts, and
    the compiled step uses up what it is given. Where a pass fails or is
    stopped, Keras puts values back after `fit` alone, and there not those of
    a first step. Here the last good values are put back, whatever ends a
    pass; and passes of several threads wait for each other.
    """

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        with self._put_back():
            return super().fit(*args, **kwargs)

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, *args, **kwargs):
        with self._put_back():
            return super().evaluate(*args, **kwargs)

    @functools.wraps(keras.Model.train_on_batch)
    def train_on_batch(self, *args, **kwargs):
        with self._put_back():
            return super().train_on_batch(*args, **kwargs)

    @functools.wraps(keras.Model.test_on_batch)
    def test_on_batch(self, *args, **kwargs):
        with self._put_back():
            return super().test_on_batch(*args, **kwargs)

    @functools.wraps(keras.Model.predict)
    def predict(self, *args, **kwargs):
        with alone(), self._put_back():
            return super().predict(*args, **kwargs)

    @functools.wraps(keras.Model.predict_on_batch)
    def predict_on_batch(self, *args, **kwargs):
        with alone(), self._put_back():
            return super().predict_on_batch(*args, **kwargs)

    @contextlib.contextmanager
    def _put_back(self):
        try:
            yield
        finally:
            if backend.is_stateless() and not self._jax_state_synced:
                self.jax_state_sync()
                self._jax_state = None

    def _get_jax_state(self, purge_model_variables=False, **groups):
        state = super()._get_jax_state(**groups)
        # What there is if the first step fails.
        self._remember(state)
        self._jax_state_synced = False
        if purge_model_variables:
            self._purge_model_variables(**groups)
        return state

    def _remember(self, state):
        # Past Keras' tracking, which would copy the lists at each step.
        groups = zip(STATES[len(state)], state, strict=True)
        vars(self)["_jax_state"] = dict(groups)

    def _make_function(self, step_function, *args, **kwargs):
        if not backend.is_stateless():
            return super()._make_function(step_function, *args, **kwargs)

        def kept(state, data):
            with uninterrupted():
                out, state = step_function(state, data)
                self._remember(state)
            return out, state

        return super()._make_function(kept, *args, **kwargs)


@contextlib.contextmanager
def uninterrupted():
    """Holds an interrupt (Ctrl-C, a notebook's stop button) back till the end.

    A compiled step uses up what it is given; what it gives must be kept.
    """
    handler = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not (main and callable(handler)):
        yield
        return
    asked = []
    signal.signal(signal.SIGINT, lambda *args: asked.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if asked:
        handler(*asked[-1])


@contextlib.contextmanager
def alone():
    """Waits for the passes of other threads, on JAX."""
    if not backend.is_stateless():
        yield
        return
    with _ALONE:
        yield
