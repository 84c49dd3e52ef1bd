"""Encoders that tests call on JAX: a program each, and not one an operation."""

import functools

import keras

# Inside of such a call, layers call each other as ever.
_inside = []


def as_one_program(call):
    """A layer's `__call__` that is compiled where JAX would run it eagerly.

    An eager call compiles each of its operations, for each shape, which takes
    three times as long; whoever uses an encoder compiles it too. Not where it
    is trained, built, or part of a program already.

    Args:
        call: `Layer.__call__`.

    Returns:
        A function of the same arguments.
    """
    import jax

    def is_array(x):
        return hasattr(x, "shape") and not isinstance(x, keras.KerasTensor)

    @functools.wraps(call)
    def called(self, *args, **kwargs):
        leaves = keras.tree.flatten((args, kwargs))
        arrays = [x for x in leaves if is_array(x)]
        if (
            _inside
            or not self.built
            or kwargs.get("training")
            or not arrays
            or len(arrays) < sum(hasattr(x, "shape") for x in leaves)
            or any(isinstance(x, jax.core.Tracer) for x in arrays)
        ):
            return call(self, *args, **kwargs)
        variables = self.variables

        def run(values, arrays):
            left = iter(arrays)
            given = [next(left) if is_array(x) else x for x in leaves]
            args_, kwargs_ = keras.tree.pack_sequence_as((args, kwargs), given)
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return call(self, *args_, **kwargs_)

        _inside.append(self)
        try:
            return jax.jit(run)([v.value for v in variables], arrays)
        except jax.errors.JAXTypeError:
            # Something in it depends on values.
            return call(self, *args, **kwargs)
        finally:
            _inside.pop()

    return called
