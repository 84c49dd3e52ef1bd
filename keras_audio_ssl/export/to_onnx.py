"""ONNX, traced on PyTorch and run by onnxruntime."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import TypeAlias

import keras
import numpy as np

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import for_export
from keras_audio_ssl.export.checks import named
from keras_audio_ssl.export.formats import FORMATS

# A value of an ONNX graph that is being written.
Symbol: TypeAlias = Any

# Clips of a batch, tried in this order; None for any number.
BATCHES = {"onnx": (None, 1)}


def write(
    model: keras.Model,
    path: Path,
    name: str,
    batch: int | None,
    samples: int | None,
    longest: int,
    facts: dict[str, Any],
) -> None:
    """Writes a model.

    Args:
        model: Of waveforms `(batch, samples)`.
        path: The file.
        name: `"onnx"`.
        batch: Clips of a batch; None for any number.
        samples: Of a clip; None for any number.
        longest: Samples of the waveform that is traced.
        facts: Name to value, which the file keeps.
    """
    import torch

    # Of all that the exporter knows and misses, nothing is for the user.
    logging.disable(logging.WARNING)
    keys: list[str] = []

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
            outputs = named(self.model(waveform, training=False))
            keys[:] = outputs
            return tuple(outputs.values())

    class Sizes(torch.overrides.TorchFunctionMode):
        """What Keras does with sizes and traces cannot follow."""

        def __torch_function__(
            self,
            function: Any,
            types: Any,
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> Any:
            kwargs = kwargs or {}
            if function in (torch.as_tensor, torch.tensor):
                if isinstance(args[0], (torch.SymInt, torch.SymFloat)):
                    return scalar(torch, *args, **kwargs)
            elif function is torch.Tensor.squeeze and len(args) == 2:
                size = args[0].shape[args[1]]
                # ONNX refuses what here does nothing.
                if isinstance(size, int) and size != 1:
                    return args[0]
            return function(*args, **kwargs)

    anything = torch.export.Dim.DYNAMIC
    shape = {0: anything} if batch is None else {}
    shape |= {1: anything} if samples is None else {}
    example = torch.zeros(2 if batch is None else batch, samples or longest)
    ours = torch.ops.keras_audio_ssl
    transforms = FORMATS[name].transforms
    with torch.no_grad(), for_export(transforms), Sizes():
        traced = torch.export.export(
            Network().eval(),
            (example,),
            dynamic_shapes={"waveform": shape},
            strict=False,
        )
        program: Any = torch.onnx.export(
            traced,
            dynamo=True,
            verbose=False,
            input_names=["waveform"],
            output_names=keys,
            custom_translation_table={
                ours.gru.default: gru,
                ours.lstm.default: lstm,
            },
        )
    for key, value in facts.items():
        program.model.metadata_props[key] = str(value)
    program.save(str(path))


def scalar(
    torch: Any, size: Size, dtype: Any = None, device: Any = None
) -> Tensor:
    """A symbol as a tensor, which stays one."""
    if dtype is None:
        whole = isinstance(size, torch.SymInt)
        dtype = torch.int32 if whole else torch.float32
    return torch.scalar_tensor(size, dtype=dtype, device=device)


def operations() -> Any:
    """Those of ONNX, to write a graph with."""
    from onnxscript import opset18

    return opset18


def gru(
    x: Symbol,
    state: Symbol,
    kernel: Symbol,
    recurrent_kernel: Symbol,
    bias: Symbol,
) -> Symbol:
    """`backend.gru` in ONNX' words, which has Keras' order of gates."""
    op = operations()

    return recurrence(
        op.GRU, x, state, kernel, recurrent_kernel, op.Reshape(bias, [1, -1]),
        hidden_size=recurrent_kernel.shape[0], linear_before_reset=1,
    )  # fmt: skip


def lstm(
    x: Symbol,
    state: Symbol,
    cell: Symbol,
    kernel: Symbol,
    recurrent_kernel: Symbol,
    bias: Symbol,
) -> Symbol:
    """`backend.lstm` in ONNX' words: gates input, output, forget, cell."""
    op = operations()

    def reordered(weights: Symbol) -> Symbol:
        i, f, c, o = op.Split(weights, num_outputs=4, axis=-1)
        return op.Concat(i, o, f, c, axis=-1)

    bias = reordered(bias)
    # One for the input, one for the recurrence.
    bias = op.Unsqueeze(op.Concat(bias, op.Sub(bias, bias), axis=0), [0])
    return recurrence(
        op.LSTM, x, state, reordered(kernel), reordered(recurrent_kernel),
        bias, op.Unsqueeze(cell, [0]), hidden_size=recurrent_kernel.shape[0],
    )  # fmt: skip


def recurrence(
    operation: Callable[..., Any],
    x: Symbol,
    state: Symbol,
    kernel: Symbol,
    recurrent_kernel: Symbol,
    bias: Symbol,
    *more: Symbol,
    **kw: int,
) -> Symbol:
    """A recurrent operation of ONNX on tensors laid out as ours are.

    Args:
        operation: `op.GRU` or `op.LSTM`.
        x: `(batch, frames, dim)`.
        state: `(batch, units)`.
        kernel: `(dim, gates * units)`, gates in ONNX' order.
        recurrent_kernel: `(units, gates * units)`.
        bias: `(1, 2 * gates * units)`.
        *more: Further inputs, as the LSTM's cell.
        **kw: Attributes of the operation.

    Returns:
        `(batch, frames, units)`.
    """
    op = operations()

    outputs = operation(
        op.Transpose(x, perm=[1, 0, 2]),
        op.Unsqueeze(op.Transpose(kernel, perm=[1, 0]), [0]),
        op.Unsqueeze(op.Transpose(recurrent_kernel, perm=[1, 0]), [0]),
        bias,
        None,
        op.Unsqueeze(state, [0]),
        *more,
        **kw,
    )
    # One direction among what each frame has.
    return op.Transpose(op.Squeeze(outputs[0], [1]), perm=[1, 0, 2])


def run(
    path: Path, name: str, clips: list[np.ndarray]
) -> list[dict[str, np.ndarray]]:
    """What the file gives for waveforms: dicts of numpy arrays."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    )
    keys = [output.name for output in session.get_outputs()]
    return [
        dict(zip(keys, session.run(None, {"waveform": clip}), strict=True))
        for clip in clips
    ]
