"""The training of a run, and how it ends before its time."""

from typing import Any

from keras_audio_ssl.runs.arguments import Arguments
from keras_audio_ssl.runs.plan import Plan
from keras_audio_ssl.runs.progress import Progress
from keras_audio_ssl.runs.stopping import Failure
from keras_audio_ssl.runs.stopping import Interrupted
from keras_audio_ssl.runs.stopping import stop_when_asked

# Why a training ended that nobody stopped, and what may help.
NOT_FINITE = (
    "no finite loss for ten batches up to step {}{}. Try a lower learning "
    'rate: `settings["learning_rate"]`'
)


def train(plan: Plan, steps_done: int, arguments: Arguments) -> None:
    """One long Keras epoch over the steps that are left.

    Args:
        plan: `Plan`, its model compiled, its data at step `steps_done`.
        steps_done: Steps that are done.
        arguments: Those of the run.

    Raises:
        Interrupted: A signal came; the run can go on.
        Failure: The loss is not finite any more.
    """
    import keras

    import keras_audio_ssl.backend as backend
    from keras_audio_ssl.callbacks import Checkpoint
    from keras_audio_ssl.callbacks import SkippedBatches
    from keras_audio_ssl.callbacks import StepCost

    left = plan.steps - steps_done
    if plan.model.unmeasured():
        arguments.say(
            "measuring the features of the first clips, then compiling"
        )
    elif backend.name() != "torch":
        arguments.say("compiling the first step")
    checkpoint = Checkpoint(
        arguments.folder / "checkpoints", arguments.checkpoint_every, steps_done
    )
    skipped = SkippedBatches(say=arguments.say)
    watch = watchers(plan, steps_done, arguments)
    with (
        Progress(
            "training", left, not arguments.progress, arguments.say
        ) as progress,
        stop_when_asked(arguments.say) as signals,
    ):

        class Bar(keras.callbacks.Callback):
            def on_train_batch_end(
                self, batch: int, logs: dict[str, Any] | None = None
            ) -> None:
                progress.advance(note=f"loss {(logs or {})['loss']:.4f}")

        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(
                self, batch: int, logs: dict[str, Any] | None = None
            ) -> None:
                # Between two steps: inside of one, JAX's state is in flight.
                if signals:
                    raise KeyboardInterrupt

        try:
            plan.model.fit(
                plan.data,
                steps_per_epoch=left,
                callbacks=[
                    StepCost(left, arguments.say),
                    Bar(),
                    *watch,
                    checkpoint,
                    skipped,
                    Stop(),
                ],
                verbose=0,
            )
        except KeyboardInterrupt:
            if len(signals) > 1:
                raise
            checkpoint.save()
            raise Interrupted(
                f"interrupted after step {checkpoint.step}; the same again "
                "(or `resume=True`) goes on from there."
            ) from None
    path = checkpoint.save()
    if skipped.stopped:
        kept = f"; the last good weights are in {path}"
        raise Failure(NOT_FINITE.format(checkpoint.step, kept))


def watchers(plan: Plan, steps_done: int, arguments: Arguments) -> list[Any]:
    """The callbacks that write down how a run goes."""
    from keras_audio_ssl.callbacks import EmbeddingMonitor
    from keras_audio_ssl.callbacks import HistoryCSV
    from keras_audio_ssl.callbacks import TensorBoard

    every = max(1, min(20, plan.steps // 20))
    watch, monitor = [], None
    if plan.data.batch_size >= 4:
        # Ten times a run: that costs little, and shows how it goes.
        rows = every * max(1, plan.steps // (10 * every))
        # The same ones where a run goes on, whatever its epoch.
        clips = plan.data.batch(0, 0)
        monitor = EmbeddingMonitor(
            clips, None, rows, steps_done, say=arguments.say
        )
        watch.append(monitor)
    folder = arguments.folder
    if arguments.tensorboard:
        watch.append(
            TensorBoard(folder / "tensorboard", every, steps_done, monitor)
        )
    table = folder / "history.csv"
    watch.append(HistoryCSV(table, every, steps_done, monitor, arguments.say))
    return watch


def measure(plan: Plan, arguments: Arguments) -> tuple[dict[str, Any], str]:
    """Trains a few steps.

    Args:
        plan: `Plan`, its model compiled.
        arguments: Those of the run.

    Returns:
        What all steps will cost, as `StepCost.cost`, and that in words.

    Raises:
        Failure: The loss is not finite.
    """
    from keras_audio_ssl.callbacks import StepCost

    words: list[str] = []
    cost = StepCost(plan.steps, words.append, stop=True)
    few = cost.warm + cost.measured
    arguments.say(f"timing up to {few} steps of {plan.data.batch_size} clips")
    plan.model.fit(plan.data, steps_per_epoch=few, callbacks=[cost], verbose=0)
    if cost.cost is None:
        raise Failure(NOT_FINITE.format(cost.step, ""))
    return cost.cost, words[0]
