"""A run as it is before its next step, new or gone on with."""

import json

from keras_audio_ssl._files import as_json
from keras_audio_ssl.runs.folder import contents_file
from keras_audio_ssl.runs.plan import prepare
from keras_audio_ssl.runs.report import versions


def make_ready(asked, before):
    """A run as it is before its next step.

    Args:
        asked: The arguments, settled.
        before: `config.json` of the run that goes on; None for a new one.

    Returns:
        `(plan, first, config)`: its model compiled and, where it goes on,
        in the state of the last checkpoint; the steps done; all settings.

    Raises:
        ValueError: It can't be, or is not what was begun.
    """
    from keras_audio_ssl.callbacks.resume import copy_state
    from keras_audio_ssl.callbacks.resume import differences
    from keras_audio_ssl.callbacks.resume import last_checkpoint
    from keras_audio_ssl.callbacks.resume import record

    plain = json.loads(as_json(asked.plain()))
    saved, first = None, 0
    if before is not None:
        then = {key: before.get(key) for key in plain}
        refuse_changed(asked, differences(then, plain))
        saved, first = last_checkpoint(asked.folder / "checkpoints", asked.say)
    # The file that the encoder came from may be gone, or replaced, by now.
    plan = prepare(asked, None if saved is None else saved.encoder)
    now = record(plan.model, plan.data)
    if before is not None:
        same_run(asked, before, now, plan.data)
    if first > plan.steps:
        raise ValueError(
            f"{asked.folder} has done {first} steps already, and {plan.steps} "
            "are asked for: ask for more, or choose another `output`."
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
    return plan, first, config


def same_run(asked, before, now, data):
    """Refuses to go on with another model or other data."""
    from keras_audio_ssl.callbacks.resume import changes

    table = contents_file(asked.folder)
    refuse_changed(asked, changes(before, now, table, data))


def refuse_changed(asked, changed):
    """Says what of a run is not as it was, if anything is."""
    if changed:
        raise ValueError(
            f"{asked.folder} holds a run of other data or settings, which it "
            "would go on with: restore them, replace it with "
            "`overwrite=True`, or choose another `output`. Changed: "
            + "; ".join(changed)
        )
