"""A run as it is before its next step, new or gone on with."""

import json
from typing import Any

from keras_audio_ssl._files import as_json
from keras_audio_ssl.runs.arguments import Arguments
from keras_audio_ssl.runs.folder import contents_file
from keras_audio_ssl.runs.plan import Plan
from keras_audio_ssl.runs.plan import prepare
from keras_audio_ssl.runs.report import versions


def make_ready(
    arguments: Arguments, before: dict[str, Any] | None
) -> tuple[Plan, int, dict[str, Any]]:
    """A run as it is before its next step.

    Args:
        arguments: Those of the run, settled.
        before: `config.json` of the run that goes on; None for a new one.

    Returns:
        `(plan, steps_done, config)`: its model compiled and, where it goes on,
        in the state of the last checkpoint; the steps done; all settings.

    Raises:
        ValueError: It can't be, or is not what was begun.
    """
    from keras_audio_ssl.callbacks.resume import copy_state
    from keras_audio_ssl.callbacks.resume import differences
    from keras_audio_ssl.callbacks.resume import last_checkpoint
    from keras_audio_ssl.callbacks.resume import record

    plain = json.loads(as_json(arguments.plain()))
    saved, steps_done = None, 0
    if before is not None:
        then = {key: before.get(key) for key in plain}
        refuse_changed(arguments, differences(then, plain))
        saved, steps_done = last_checkpoint(
            arguments.folder / "checkpoints", arguments.say
        )
    # The file that the encoder came from may be gone, or replaced, by now.
    plan = prepare(arguments, None if saved is None else saved.encoder)
    now = record(plan.model, plan.data)
    if before is not None:
        same_run(arguments, before, now, plan.data)
    if steps_done > plan.steps:
        raise ValueError(
            f"{arguments.folder} has done {steps_done} steps already, and "
            f"{plan.steps} are asked for: ask for more, or choose another "
            "`output`."
        )
    plan.compile_model()
    if saved is not None:
        copy_state(saved, plan.model)
    config = {
        **plain,
        "steps": plan.steps,
        "batch_size": plan.data.batch_size,
        "seconds": plan.data.seconds,
        "versions": versions(),
        **now,
    }
    return plan, steps_done, config


def same_run(
    arguments: Arguments, before: dict[str, Any], now: dict[str, Any], data: Any
) -> None:
    """Refuses to go on with another model or other data."""
    from keras_audio_ssl.callbacks.resume import changes

    table = contents_file(arguments.folder)
    refuse_changed(arguments, changes(before, now, table, data))


def refuse_changed(arguments: Arguments, changed: list[str]) -> None:
    """Says what of a run is not as it was, if anything is."""
    if changed:
        raise ValueError(
            f"{arguments.folder} holds a run of other data or settings, which "
            "it would go on with: restore them, replace it with "
            "`overwrite=True`, or choose another `output`. Changed: "
            + "; ".join(changed)
        )
