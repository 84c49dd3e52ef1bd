"""Models that come back whole from an error, on every backend."""

import contextlib
import functools
import threading

import keras

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
            if keras.backend.backend() == "jax" and not self._jax_state_synced:
                if done := getattr(self, "_done", None):
                    self._remember(done.pop()[1])
                self.jax_state_sync()
                self._jax_state = None

    def _get_jax_state(self, purge_model_variables=False, **groups):
        # Keras would wrap an attribute, and the states that are put in it.
        object.__setattr__(self, "_done", [])
        state = super()._get_jax_state(
            purge_model_variables=purge_model_variables, **groups
        )
        # What there is if the first step fails.
        self._remember(state)
        return state

    def _remember(self, state):
        self._jax_state = dict(zip(STATES[len(state)], state, strict=True))

    def _make_function(self, step_function, *args, **kwargs):
        if keras.backend.backend() != "jax":
            return super()._make_function(step_function, *args, **kwargs)

        def kept(state, data):
            # An interrupt comes between two instructions of Python, and
            # there is none between the step's end and the list.
            self._done.clear()
            self._done.extend(map(step_function, (state,), (data,)))
            return self._done[0]

        return super()._make_function(kept, *args, **kwargs)


@contextlib.contextmanager
def alone():
    """Waits for the passes of other threads, on JAX."""
    if keras.backend.backend() != "jax":
        yield
        return
    with _ALONE:
        yield
