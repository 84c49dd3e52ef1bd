"""Compiled models whose files every backend opens and goes on with."""

import keras


class PortableCompile:
    """Stands before `keras.Model` among a class's bases.

    Its files name no optimizer class of one backend, nor what `"auto"` came
    to there for `jit_compile`: compiled for PyTorch, what JAX saved would take
    minutes to its first step.
    """

    def compile(self, *args, jit_compile="auto", **kwargs):
        self._jit_wanted = jit_compile
        super().compile(*args, jit_compile=jit_compile, **kwargs)

    def get_compile_config(self):
        config = super().get_compile_config()
        if config and config.get("optimizer") is not None:
            config["optimizer"] = portable_optimizer(config["optimizer"])
        if config and "jit_compile" in config:
            config["jit_compile"] = self._jit_wanted
        return config

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def portable_optimizer(config):
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
