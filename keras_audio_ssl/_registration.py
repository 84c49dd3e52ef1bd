"""Every class is registered with Keras as soon as Keras is there."""

import importlib
import importlib.machinery
import sys
from collections.abc import Callable
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from keras_audio_ssl._backend import check_backend

# Called when Keras, which takes seconds to load, is about to be.
before_keras: list[Callable[[], None]] = []
# The rooms of which `keras.saving` may meet a class in a file.
ROOMS = (
    "engine",
    "features",
    "augment",
    "blocks",
    "encoders",
    "methods",
    "evaluation",
)


def register_all() -> None:
    """Imports all rooms that define classes which Keras saves."""
    for room in ROOMS:
        module = importlib.import_module(f"keras_audio_ssl.{room}")
        for name in getattr(module, "__all__", ()):
            getattr(module, name)


class Registration:
    """Runs `register_all` once Keras is imported, whoever imports it.

    `import keras_audio_ssl` itself imports no Keras: a command answers
    `--help` at once. But `keras.saving.load_model` must know our classes in
    every process. So this finder watches the imports of Keras and of this
    package, and when the outermost of them is done and Keras among what was
    imported, it imports the rest and goes.
    """

    def __init__(self) -> None:
        self.depth = 0

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Finds a module as Python does, and notes when its import is done.

        Args:
            name: Of the module that is imported.
            path: Where its package looks for it.
            target: As of `importlib`.

        Returns:
            A `ModuleSpec` for Keras and modules of this package, else None.
        """
        if name != "keras" and not name.startswith("keras_audio_ssl."):
            return None
        if name == "keras":
            check_backend()
            for told in before_keras:
                told()
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            self.depth += 1
            try:
                run(module)
            finally:
                self.depth -= 1
            if not self.depth and "keras" in sys.modules:
                self.end()

        # This one loader does what it did, and says so.
        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def end(self) -> None:
        """Goes from the finders, and registers every class."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            register_all()


def register_with_keras() -> None:
    """Now, if Keras is imported already; otherwise as soon as it is."""
    registration = Registration()
    sys.meta_path.insert(0, registration)
    if "keras" in sys.modules:
        registration.end()
