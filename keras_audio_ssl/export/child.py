"""The process that writes an export: `python -m ...export.child FOLDER`."""

import importlib
import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import keras

from keras_audio_ssl._types import FilePath
from keras_audio_ssl.export.checks import clips_for
from keras_audio_ssl.export.checks import compare
from keras_audio_ssl.export.formats import FORMATS
from keras_audio_ssl.export.formats import ExportError
from keras_audio_ssl.export.write import DRAFT
from keras_audio_ssl.export.write import MODEL
from keras_audio_ssl.export.write import REQUEST
from keras_audio_ssl.export.write import RESULT

# Characters of an error that are passed on.
REASON = 400


def main(folder: FilePath) -> None:
    """Writes and checks what the folder's request says."""
    work = Path(folder)
    request = json.loads((work / REQUEST).read_text(encoding="utf-8"))
    refused = None
    try:
        model = load(work / MODEL, request["classes"])
        draft = work / (DRAFT + FORMATS[request["format"]].suffix)
        write_checked(model, draft, request)
    except ExportError as error:
        refused = str(error)
    (work / RESULT).write_text(
        json.dumps({"refused": refused}), encoding="utf-8"
    )


def load(path: Path, classes: list[tuple[str, str]]) -> keras.Model:
    """The model, all of it in float32."""
    custom = {}
    for module, name in classes:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        custom[found.__name__] = found
    # Its own file, of this moment: no one else's, that might be a trap.
    model = keras.saving.load_model(path, custom_objects=custom, compile=False)
    for layer in model._flatten_layers():
        if layer.compute_dtype != "float32":
            layer.dtype_policy = keras.DTypePolicy("float32")
    return model


def write_checked(
    model: keras.Model, draft: Path, request: dict[str, Any]
) -> None:
    """Writes a file, and compares it with Keras.

    Args:
        model: As for `write.export_model`.
        draft: The file.
        request: Dict of `format`, `samples` and `facts`.

    Raises:
        ExportError: The format has no words for the model, or the file gives
            other vectors.
    """
    name, samples = request["format"], request["samples"]
    title = FORMATS[name].title
    module = "onnx" if name == "onnx" else "tensorflow"
    writer = importlib.import_module(f"keras_audio_ssl.export.to_{module}")
    clips = clips_for(model, samples)
    longest = clips[-1].shape[1]
    reason = ""
    for batch in writer.BATCHES[name]:
        if batch == 1:
            clips = [clip[:1] for clip in clips]
        try:
            writer.write(
                model, draft, name, batch, samples, longest, request["facts"]
            )
            found = writer.run(draft, name, clips)
        except Exception as error:
            traceback.print_exc()
            reason = short(error)
            continue
        compare(model, clips, found, title)
        return
    hint = " More can be written for clips of one length: `samples=`."
    raise ExportError(
        f"{model.name} cannot be written as {title}. {reason}"
        + hint * (samples is None)
    )


def short(error: Exception) -> str:
    """What an error says, in as many words as a screen has room for."""
    text = " ".join(str(error).split())
    if len(text) > REASON:
        text = text[:REASON].rsplit(" ", 1)[0] + " ..."
    return f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
