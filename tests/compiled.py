"""Networks that are called as one program, where that is quicker."""

import keras


def called(model, x, **options):
    """`model(x, **options)`.

    JAX compiles each operation of an eager call for each shape: for a network
    whole, which is also how it is used, that takes it a third of the time.

    Args:
        model: Built; it draws nothing and keeps no state in this call.
        x: Its input.
        **options: Arrays (`lengths`), or settings.

    Returns:
        What the model returns.
    """
    if keras.backend.backend() != "jax":
        return model(x, **options)
    import jax

    arrays = {k: v for k, v in options.items() if hasattr(v, "shape")}
    settings = {k: v for k, v in options.items() if k not in arrays}
    run = jax.jit(lambda x, arrays: model(x, **arrays, **settings))
    return run(x, arrays)
