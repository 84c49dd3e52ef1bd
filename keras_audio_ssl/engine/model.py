"""What all models of the package share."""

from typing import Any

import keras

import keras_audio_ssl.backend as backend
from keras_audio_ssl.engine.batches import checked
from keras_audio_ssl.engine.batches import rate_of
from keras_audio_ssl.engine.batches import whole
from keras_audio_ssl.engine.finite import unwrapped
from keras_audio_ssl.engine.recording import RecordedLayer
from keras_audio_ssl.engine.recovery import Whole


class Model(Whole, RecordedLayer, keras.Model):
    """A `keras.Model` on waveforms.

    Its arguments are recorded (`Recorded`), an error leaves it whole
    (`Whole`), and its files open on every backend: they name no optimizer
    class of one backend, nor what `"auto"` came to there for `jit_compile`
    (compiled for PyTorch, what JAX saved would take minutes to its first
    step). Variables without weight decay stay so after a reload.

    Every weight exists since the constructor, waveforms stay float32 under
    any policy, and `evaluate` and `predict` see all clips of a data set.
    """

    def __init__(self, **kwargs: Any) -> None:
        check_default_type(type(self).__name__)
        super().__init__(autocast=False, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        x = whole(checked(x, rate_of(self)))
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        x = whole(checked(x, rate_of(self)))
        return super().predict(x, *args, **kwargs)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        *,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        self._jit_wanted = jit_compile
        super().compile(
            optimizer=unwrapped(optimizer), jit_compile=jit_compile, **kwargs
        )
        backend.quicken(self.optimizer)

    def make_train_function(self, force: bool = False) -> None:
        """Keras' own, when the optimizer has its variables.

        TensorFlow traces a step again whose first trace has made variables.
        """
        if self.optimizer is not None and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)

    def get_compile_config(self) -> dict[str, Any] | None:
        config = super().get_compile_config()
        if config and config.get("optimizer") is not None:
            config["optimizer"] = portable_optimizer(config["optimizer"])
        if config and "jit_compile" in config:
            config["jit_compile"] = self._jit_wanted
        if config and (places := undecayed(self)):
            config["undecayed"] = places
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        config = keras.saving.deserialize_keras_object(config)
        places = config.pop("undecayed", ())
        self.compile(**config)
        variables = self.trainable_variables
        if places:
            updating(self.optimizer).exclude_from_weight_decay(
                var_list=[variables[i] for i in places]
            )
        self.optimizer.build(variables)


def check_default_type(name: str) -> None:
    """Refuses another default type of Keras than float32.

    Raises:
        ValueError: It is another one.
    """
    if keras.config.floatx() != "float32":
        raise ValueError(
            f"{name} needs Keras' default type, float32. Received: "
            f"{keras.config.floatx()} (keras.config.set_floatx)."
        )


def undecayed(model: keras.Model) -> list[int]:
    """Places among the trainable variables of those without weight decay."""
    optimizer = updating(model.optimizer)
    if optimizer is None or optimizer.weight_decay is None:
        return []
    return [
        i
        for i, variable in enumerate(model.trainable_variables)
        if not optimizer._use_weight_decay(variable)
    ]


def updating(optimizer: keras.Optimizer) -> Any:
    """The optimizer that updates, inside of those that scale or withhold."""
    optimizer = unwrapped(optimizer)
    return getattr(optimizer, "inner_optimizer", optimizer)


def portable_optimizer(config: Any) -> Any:
    """An optimizer's config without the name of PyTorch's own class."""
    if isinstance(config, dict):
        config = {k: portable_optimizer(v) for k, v in config.items()}
        module = config.get("module") or ""
        if module.startswith("keras.src.backend.torch.optimizers"):
            name = config["class_name"].removeprefix("Torch")
            config.update(
                module="keras.optimizers", class_name=name, registered_name=None
            )
    return config
