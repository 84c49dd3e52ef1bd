"""What the front ends compute in JAX's own words."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import chunks


def sliding_frames(
    x: Tensor, frame_length: int, hop_length: int, frames: Size
) -> Tensor:
    # Slices of whole hops: a gather is several times slower.
    pieces = -(-frame_length // hop_length)
    rows = frames + pieces - 1
    short = rows * hop_length - x.shape[1]
    if not isinstance(short, int) or short > 0:
        short = short if isinstance(short, int) else hop_length * pieces
        x = jnp.pad(x, ((0, 0), (0, short)))
    hops = x[:, : rows * hop_length].reshape(x.shape[0], rows, hop_length)
    rest = frame_length - (pieces - 1) * hop_length
    parts = [hops[:, i : i + frames] for i in range(pieces - 1)]
    parts.append(hops[:, pieces - 1 : pieces - 1 + frames, :rest])
    return jnp.concatenate(parts, axis=-1) if pieces > 1 else parts[0]


def in_chunks(
    function: Callable[[Tensor], Tensor], x: Tensor, clip_bytes: Size
) -> Tensor:
    clips = chunks.clips_at_once(x, clip_bytes, chunks.ABOVE, chunks.ABOUT)
    if not clips or not chunks.one_cpu():
        return function(x)
    if not isinstance(x, jax.core.Tracer):
        return chunks.in_pieces(function, x, clips)
    # A loop inside the graph, compiled once however many pieces there are.
    pieces = x.shape[0] // clips
    inside = pieces * clips
    y = jax.lax.map(function, x[:inside].reshape(pieces, clips, *x.shape[1:]))
    y = y.reshape(inside, *y.shape[2:])
    if inside < x.shape[0]:
        y = jnp.concatenate([y, function(x[inside:])], axis=0)
    return y


def splitting_pays(x: Tensor) -> bool:
    return chunks.one_cpu()


def as_one(function: Callable[..., Any]) -> Callable[..., Any]:
    names = inspect.signature(function).parameters.values()
    static = [p.name for p in names if p.kind is p.KEYWORD_ONLY]
    return jax.jit(function, static_argnames=static)


def wide() -> contextlib.AbstractContextManager[Any]:
    """JAX's own context, outside of which it knows no float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    # Where it was before, which newer versions do not tell of.
    from jax.experimental import enable_x64  # type: ignore[attr-defined]

    return enable_x64(True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def in_float64(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with wide():
        return function(x)


def _float64_forward(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Any, Any]:
    return in_float64(function, x), x


def _float64_backward(
    function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor
) -> tuple[Tensor, ...]:
    # The gradient has to enter the context again.
    with wide():
        return jax.vjp(function, x)[1](grad)


in_float64.defvjp(_float64_forward, _float64_backward)
