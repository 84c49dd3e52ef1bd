"""A constructor's arguments, recorded once: configuration and attributes."""

import functools
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import ClassVar
from typing import Self

import keras
import numpy as np

# What Keras' own layers keep of themselves.
KERAS_ARGUMENTS = ("name", "trainable", "dtype")


class Registered:
    """Registers its subclasses with Keras, which then opens their files."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        package = cls.__module__.split(".")[0]
        keras.saving.register_keras_serializable(package)(cls)


class Recorded(Registered):
    """Stands first among the bases of a class that Keras saves by its config.

    What its constructor, and those of its subclasses, are called with is
    recorded, defaults and presets filled in: `get_config` gives it, and
    `from_config` takes it. After `super().__init__(...)` each argument is an
    attribute of its name, which the class may replace by what it makes of it.

    Attributes:
        PRESETS: Arguments of the constructor, by name of the preset: where a
            class has some, its constructor takes `preset` too.
        RETIRED: Arguments that files written earlier hold, and which say
            nothing any more.
        RENAMED: Arguments that have another name now, by the one that files
            written earlier hold; constructors take both.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    RETIRED: ClassVar[tuple[str, ...]] = ()
    RENAMED: ClassVar[dict[str, str]] = {}
    _arguments: "Arguments"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "__init__" in vars(cls):
            # It records, and then is what it was.
            init = recorded(cls, cls.__init__)
            cls.__init__ = init  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    def __init__(self, **kwargs: Any) -> None:
        # Where no class on the way here has a constructor, nothing is there.
        self.__dict__.setdefault("_arguments", Arguments({}))
        super().__init__(**kwargs)
        for name, value in self._arguments.seen.items():
            own = getattr(type(self), name, None)
            method = isinstance(own, property) or callable(own)
            if not (method or holds_layers(value)):
                setattr(self, name, value)

    @classmethod
    def beside(
        cls, preset: dict[str, Any], given: dict[str, Any]
    ) -> dict[str, Any]:
        """A dict that a preset has, with what was given for it in place."""
        return {**preset, **given}

    @classmethod
    def usual(
        cls, preset: dict[str, Any], given: dict[str, Any]
    ) -> dict[str, Any]:
        """The arguments that stand where none are given.

        Args:
            preset: Those of the preset that was asked for, or none.
            given: What the user gave.
        """
        return preset

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the object again, in JSON's words."""
        # Not Keras' own, which for models gives arguments of other classes.
        return serialized(self._arguments.given)

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> Self:
        """Makes an object of what `get_config` gave.

        Args:
            config: The arguments; those in `RETIRED` are left out.
            custom_objects: As of `keras.saving`.
        """
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(
                    value, custom_objects
                )
                if isinstance(value, (dict, list))
                else value
                for name, value in config.items()
                if name not in cls.RETIRED
            }
        )


class RecordedLayer(Recorded):
    """`Recorded` for layers and models: name, policy and what is frozen too.

    A layer that has no `build` of its own made its weights in the
    constructor, and counts as built.
    """

    name: str
    trainable: bool
    dtype_policy: keras.DTypePolicy

    def get_config(self) -> dict[str, Any]:
        """The arguments, Keras' own, and which inner layers are frozen."""
        config = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            **super().get_config(),
        }
        if self.trainable and (frozen := frozen_layers(self)):
            config["frozen"] = frozen
        return config

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        custom_objects: dict[str, Any] | None = None,
    ) -> Self:
        """Makes a layer of what `get_config` gave, frozen where it was."""
        config = dict(config)
        trainable = config.pop("trainable", True)
        frozen = config.pop("frozen", ())
        made = super().from_config(config, custom_objects)
        layers = inner_layers(made)
        for i in frozen:
            layers[i].trainable = False
        # By the setter, which goes down to each layer.
        if not trainable:
            made.trainable = False
        return made


class Layer(RecordedLayer, keras.layers.Layer):
    """A `keras.layers.Layer` whose arguments are recorded."""


class Arguments:
    """Of one object's constructors; opaque to Keras' tracking and saving.

    Attributes:
        given: Of the outermost constructor: those that make it again.
        seen: Of all constructors on the way to Keras' own.
    """

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.seen: dict[str, Any] = {}


def recorded(
    cls: type[Recorded], init: Callable[..., None]
) -> Callable[..., None]:
    """A constructor that records its arguments; see `Recorded`."""
    signature = inspect.signature(init)
    rest = next(
        (p.name for p in signature.parameters.values() if is_rest(p)), ""
    )

    @functools.wraps(init)
    def wrapped(
        self: Any, *args: Any, preset: str | None = None, **kwargs: Any
    ) -> None:
        kwargs = renamed(type(self), kwargs)
        arguments = by_name(signature.bind_partial(self, *args, **kwargs), rest)
        usual = preset_of(type(self), preset)
        if "_arguments" not in self.__dict__:
            # The outermost constructor: the others are given all they need.
            usual = type(self).usual(usual, arguments)
        for name, value in usual.items():
            own = arguments.get(name)
            if isinstance(own, dict) and isinstance(value, dict):
                arguments[name] = type(self).beside(value, own)
            else:
                arguments.setdefault(name, value)
        bound = signature.bind(self, **arguments)
        bound.apply_defaults()
        values = {
            name: plain(value)
            for name, value in by_name(bound, rest).items()
            if name not in KERAS_ARGUMENTS
        }
        # Past `__setattr__`, which needs Keras' constructor first.
        record = self.__dict__.setdefault("_arguments", Arguments(values))
        record.seen.update(values)
        init(self, **arguments)
        # A layer that a class has put in another's place must not stay.
        for name, value in values.items():
            if holds_layers(value) and not hasattr(self, name):
                setattr(self, name, value)
        if getattr(type(self), "build", None) is keras.layers.Layer.build:
            self.built = True

    shown = with_preset(signature) if cls.PRESETS else signature
    # No attribute of all functions: `inspect.signature` looks there.
    wrapped.__signature__ = shown  # type: ignore[attr-defined]
    return wrapped


def renamed(cls: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a class by the names that they have now.

    Args:
        cls: Any class; what has no `RENAMED` has its names.
        arguments: Name to value, whoever wrote them and when.

    Raises:
        ValueError: One is given by both of its names.
    """
    names = getattr(cls, "RENAMED", {})
    for old in names.keys() & arguments.keys():
        if names[old] in arguments:
            raise ValueError(
                f"`{old}` is an earlier name of `{names[old]}`: give that one "
                f"alone. Received: {old}={arguments[old]!r}, "
                f"{names[old]}={arguments[names[old]]!r}"
            )
    return {names.get(name, name): v for name, v in arguments.items()}


def by_name(bound: inspect.BoundArguments, rest: str) -> dict[str, Any]:
    """Bound arguments without the first, `self`; the `rest` by their names."""
    _, *arguments = bound.arguments.items()
    named = dict(arguments)
    more = named.pop(rest, {})
    return {**named, **more}


def with_preset(signature: inspect.Signature) -> inspect.Signature:
    """A signature with `preset` after the arguments that have names."""
    *parameters, last = signature.parameters.values()
    preset = inspect.Parameter("preset", last.KEYWORD_ONLY, default=None)
    ends = (preset, last) if is_rest(last) else (last, preset)
    return signature.replace(parameters=[*parameters, *ends])


def is_rest(parameter: inspect.Parameter) -> bool:
    """Whether a parameter takes all further keywords (`**kwargs`)."""
    return parameter.kind is parameter.VAR_KEYWORD


def constructors(
    cls: type,
) -> Iterator[tuple[type, dict[str, inspect.Parameter]]]:
    """The constructors of a class and of those above it, nearest first.

    Yields:
        `(base, parameters)`: a class with a constructor of its own, and that
        one's parameters by name, without `self` and what only gathers others.
    """
    for base in cls.__mro__:
        if "__init__" in vars(base):
            signature = inspect.signature(vars(base)["__init__"])
            named = dict(list(signature.parameters.items())[1:])
            yield (
                base,
                {
                    name: parameter
                    for name, parameter in named.items()
                    if parameter.kind
                    in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
                },
            )


def preset_of(cls: type[Recorded], preset: str | None) -> dict[str, Any]:
    """The arguments of a preset; none for None and `"paper"`.

    Raises:
        ValueError: The class has no such preset.
    """
    if preset in (None, "paper"):
        return {}
    if preset not in cls.PRESETS:
        raise ValueError(
            f"{cls.__name__} has the presets 'paper', "
            f"{', '.join(map(repr, cls.PRESETS))}. Received: {preset!r}"
        )
    return cls.PRESETS[preset]


def plain(value: Any) -> Any:
    """What JSON has a word for; Keras' objects stay themselves for now."""
    if isinstance(value, (list, tuple, range)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value


def holds_layers(value: Any) -> bool:
    """Whether Keras would track a value, or something in it."""
    return any(
        isinstance(x, keras.layers.Layer) for x in keras.tree.flatten(value)
    )


def serialized(value: Any) -> Any:
    """The same with Keras' objects as their configurations."""
    if isinstance(value, dict):
        return {k: serialized(v) for k, v in value.items()}
    if isinstance(value, list):
        return [serialized(v) for v in value]
    return keras.saving.serialize_keras_object(value)


def inner_layers(layer: Any) -> list[keras.layers.Layer]:
    """All layers inside of one, in the order in which they were made."""
    return list(layer._flatten_layers(include_self=False))


def frozen_layers(layer: Any) -> list[int]:
    """Places among `inner_layers` of those that are not to be trained."""
    return [i for i, x in enumerate(inner_layers(layer)) if not x.trainable]
