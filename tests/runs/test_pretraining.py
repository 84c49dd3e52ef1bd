"""`kas.pretrain` as a script calls it."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile

import keras_audio_ssl as kas
from keras_audio_ssl.callbacks import HistoryCSV
from keras_audio_ssl.cli.arguments import parse_settings
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.methods import method_class
from keras_audio_ssl.methods import settings_of
from keras_audio_ssl.runs import Failure
from keras_audio_ssl.runs import Interrupted
from keras_audio_ssl.runs import plan
from keras_audio_ssl.runs.arguments import Arguments
from keras_audio_ssl.runs.progress import Progress
from tests.contract import same
from tests.contract import waves
from tests.contract import weights_of
from tests.methods.denoising import Denoising


def pretrain(data, output, method="cola", **more):
    """A short run, and what it said."""
    said = []
    run = kas.pretrain(
        method,
        data,
        output,
        **{"preset": "tiny", "steps": 4, "say": said.append, **more},
    )
    return run, said


def arrays(clips=10, **more):
    options = {"seconds": 1.0, "batch_size": 4, "seed": 3, **more}
    return kas.data.from_arrays(waves(clips), **options)


def trained_on(audio, output, **more):
    return pretrain(audio, output, batch_size=4, checkpoint_every=2, **more)


def signal_after(steps, monkeypatch, number=signal.SIGINT):
    """Sends this process a signal after some steps of the next training."""
    advance = Progress.advance

    def sent(self, *args, **kwargs):
        advance(self, *args, **kwargs)
        if self.done == steps:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Progress, "advance", sent)


def test_a_folder_becomes_an_encoder(audio, tmp_path):
    run, said = trained_on(audio, tmp_path / "x.keras")
    assert isinstance(run.encoder, kas.Encoder)
    assert (run.output, run.folder) == (
        tmp_path / "x.keras",
        tmp_path / "x.run",
    )
    saved = kas.load_encoder(run.output)
    assert same(weights_of(run.encoder), weights_of(saved))
    assert run.metrics["steps"] == 4 and run.metrics["skipped"] == 1
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics == run.metrics
    assert "text.wav" in str(run) and "4 steps in" in str(run)
    assert "text.wav" in (run.folder / "skipped.csv").read_text()
    assert any("steps 1 to 4 of 4 clips" in line for line in said)


def test_without_a_preset_the_plan_fits_the_machine(tmp_path, monkeypatch):
    import keras_audio_ssl.backend as backend
    from keras_audio_ssl.runs import plan
    from keras_audio_ssl.runs.arguments import Arguments

    small = kas.COLA.TRAINING["tiny"]
    arguments = Arguments("cola", arrays(), tmp_path / "x.keras", say=print)
    for accelerated, preset in ((False, "tiny"), (True, "paper")):
        monkeypatch.setattr(backend, "is_accelerated", lambda a=accelerated: a)
        settled = plan.settled(arguments)
        assert settled.preset == preset and settled.fitted
        # A run that goes on stays what it was, wherever it goes on.
        before = {"preset": "tiny", "steps": 7}
        again = plan.settled(arguments, before)
        assert (again.preset, again.steps) == ("tiny", 7)
    for hours, clips, steps in (
        (0.001, 10, small["steps"]),
        (1.0, 10, round(30 * 3600 / 4)),
        (1e5, 10, 10 * small["steps"]),
    ):
        data = arrays(clips)
        data.hours = hours
        most = 10 * small["steps"]
        assert plan.fitting_steps(data, small, "tiny") == min(steps, most)
    paper = kas.COLA.TRAINING["paper"]
    assert plan.fitting_steps(data, paper, "paper") == paper["steps"]
    data.hours = 0.0
    assert plan.fitting_steps(data, paper, "paper") == 2000
    explicit = Arguments("cola", arrays(), tmp_path / "x.keras", preset="paper")
    assert plan.settled(explicit) is explicit


@pytest.mark.any_backend
def test_what_it_makes_of_the_users_audio(tmp_path):
    from keras_audio_ssl.runs import own_audio

    run, _ = pretrain(arrays(), tmp_path / "x.keras")
    own = run.metrics["own_audio"]
    assert own["clips"] == 10 and own["dim"] == run.encoder.dim
    draws = own["untrained_draws"]
    assert len(draws) == 3 and draws[0] != draws[1]
    for row in (own["trained"], own["untrained"], *draws):
        assert 0 <= row["own_half_nearest"] <= 1
        assert 1 <= row["effective_rank"] <= 10
    assert own["untrained"]["effective_rank"] == pytest.approx(
        np.mean([draw["effective_rank"] for draw in draws])
    )
    assert "10 of your clips" in str(run)
    assert "3 draws of random weights" in str(run)
    # An encoder that hears pitch finds the other half of each tone.
    seconds = np.arange(16000) / 16000
    tones = np.sin(2 * np.pi * 200 * np.outer(1.3 ** np.arange(8), seconds))
    found = own_audio.look_at_own_audio(
        kas.evaluation.LogMelStatistics(),
        kas.data.from_arrays(tones.astype("float32"), batch_size=8),
        type("Arguments", (), {"progress": False, "say": print}),
    )
    # By chance one in fifteen.
    assert found["trained"]["own_half_nearest"] > 0.7
    few = kas.data.from_arrays(tones[:3], batch_size=3)
    assert own_audio.look_at_own_audio(run.encoder, few, None) is None


def test_what_takes_classes_takes_their_names(tmp_path):
    data = kas.data.from_arrays(
        waves(8), np.array(["low", "high"] * 4), batch_size=8
    )
    able = [m for m in METHODS if "classes" in settings_of(method_class(m))]
    assert sorted(able) == ["clar", "lim"]
    for method in [*able, "permutations"]:
        arguments = Arguments(method, data, tmp_path / "x.keras", preset="tiny")
        model = plan.make_model(arguments, method_class(method), None)
        assert (model.get_config().get("classes") is None) is (
            method not in able
        )


def test_a_run_without_a_preset_goes_on_as_it_was(tmp_path, monkeypatch):
    import keras_audio_ssl.backend as backend

    monkeypatch.setattr(backend, "is_accelerated", lambda: False)
    output = tmp_path / "x.keras"
    run, said = pretrain(arrays(), output, preset=None)
    assert "cola (tiny, as this is a CPU)" in "".join(said)
    monkeypatch.setattr(backend, "is_accelerated", lambda: True)
    run, said = pretrain(arrays(), output, preset=None, steps=6, resume=True)
    assert run.metrics["steps"] == 6 and run.metrics["resumed_at"] == 4
    assert "2 steps, after 4 before" in str(run)


def test_a_data_set_is_read_from_its_start_and_stays_as_it_is(tmp_path):
    data = arrays()
    data.start(5, 1)
    one, _ = pretrain(data, tmp_path / "one.keras", epochs=2, steps=None)
    assert (data.epoch, data.repeat) == (5, False)
    assert one.metrics["steps"] == 4
    other, _ = pretrain(arrays(repeat=True), tmp_path / "other.keras")
    assert same(weights_of(one.encoder), weights_of(other.encoder))


@pytest.mark.parametrize("method", ["cola", "byol_a", "apc"])
def test_parts_are_the_whole_to_the_bit(method, audio, tmp_path):
    whole, _ = trained_on(audio, tmp_path / "whole.keras", method=method)
    parts = tmp_path / "parts.keras"
    trained_on(audio, parts, method=method, steps=3)
    run, said = trained_on(audio, parts, method=method, resume=True)
    assert run.metrics["steps"] - run.metrics["resumed_at"] == 1
    assert any("steps 4 to 4" in line for line in said)
    assert same(weights_of(whole.encoder), weights_of(run.encoder))


def test_parts_of_a_data_set_are_the_whole_to_the_bit(tmp_path):
    whole, _ = pretrain(arrays(), tmp_path / "whole.keras", steps=5)
    pretrain(arrays(), tmp_path / "parts.keras", steps=3)
    run, _ = pretrain(arrays(), tmp_path / "parts.keras", steps=5, resume=True)
    assert same(weights_of(whole.encoder), weights_of(run.encoder))


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
)
def test_a_signal_interrupts_and_the_same_call_goes_on(
    tmp_path, monkeypatch, number, heeding_ctrl_c
):
    # The signal comes in the middle of a row, in the second epoch.
    rows = lambda path, every, *rest: HistoryCSV(path, 2, *rest)
    monkeypatch.setattr(kas.callbacks, "HistoryCSV", rows)
    before = signal.getsignal(number)
    whole, _ = pretrain(arrays(), tmp_path / "whole.keras")
    with monkeypatch.context() as patch:
        signal_after(3, patch, number)
        with pytest.raises(Interrupted, match="after step 3.*`resume=True`"):
            pretrain(arrays(), tmp_path / "cut.keras")
    assert signal.getsignal(number) == before
    run, _ = pretrain(arrays(), tmp_path / "cut.keras")
    assert run.metrics["steps"] - run.metrics["resumed_at"] == 1
    assert same(weights_of(whole.encoder), weights_of(run.encoder))
    tables = [
        (tmp_path / f"{name}.run" / "history.csv").read_bytes()
        for name in ("whole", "cut")
    ]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 3


def test_another_thread_leaves_signals_alone(tmp_path):
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(pretrain(arrays(), tmp_path / "x.keras"))
    )
    thread.start()
    thread.join()
    assert runs[0][0].metrics["steps"] == 4


def test_the_encoder_it_began_with_may_be_gone(
    tmp_path, monkeypatch, heeding_ctrl_c
):
    first = tmp_path / "first.keras"
    kas.COLA(preset="tiny", seed=9).encoder.save(first)
    begun = {"init_from": first}
    whole, _ = pretrain(arrays(), tmp_path / "whole.keras", **begun)
    with monkeypatch.context() as patch:
        signal_after(2, patch)
        with pytest.raises(Interrupted):
            pretrain(arrays(), tmp_path / "cut.keras", **begun)
    first.unlink()
    run, _ = pretrain(arrays(), tmp_path / "cut.keras", **begun)
    assert same(weights_of(whole.encoder), weights_of(run.encoder))


def test_random_numbers_of_the_caller_go_on(tmp_path):
    np.random.seed(1)
    random.seed(1)
    want = np.random.rand(2), [random.random() for _ in range(2)]
    np.random.seed(1)
    random.seed(1)
    got = [np.random.rand()], [random.random()]
    pretrain(arrays(), tmp_path / "x.keras", steps=1)
    got[0].append(np.random.rand())
    got[1].append(random.random())
    assert list(want[0]) == got[0] and want[1] == got[1]


@pytest.mark.any_backend
def test_a_first_run_draws_what_a_later_one_does():
    # Keras draws a number while it is imported.
    code = """
import random
from keras_audio_ssl.runs.pretraining import seeded
drawn = []
for _ in range(2):
    with seeded(0):
        import keras
        drawn.append(random.random())
print(*drawn)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    first, later = done.stdout.split()
    assert first == later


@pytest.mark.any_backend
def test_a_second_run_is_refused(tmp_path):
    output = tmp_path / "x.keras"
    first, _ = pretrain(arrays(), output)
    with pytest.raises(ValueError, match="`resume=True`.*`overwrite=True`"):
        pretrain(arrays(), output)
    again, said = pretrain(arrays(), output, resume=True)
    assert said == [f"All 4 steps are done: {output} is up to date."]
    assert again.metrics == first.metrics and str(again) == str(first)
    assert same(weights_of(first.encoder), weights_of(again.encoder))
    with pytest.raises(ValueError, match="4 steps already"):
        pretrain(arrays(), output, steps=3, resume=True)
    over, _ = pretrain(arrays(), output, steps=2, overwrite=True)
    assert over.metrics["steps"] == 2
    names = [p.name for p in (over.folder / "checkpoints").iterdir()]
    assert names == ["step_000000002.keras"]


@pytest.mark.any_backend
def test_another_run_is_not_gone_on_with(tmp_path, monkeypatch):
    output = tmp_path / "x.keras"
    pretrain(arrays(), output)
    for words, data, more in (
        (r"settings\.noise: None then, 0\.5", arrays(),
         {"settings": {"noise": 0.5}}),
        ("method: cola then, apc now", arrays(), {"method": "apc"}),
        ("data.batch_size: 4 then, 5 now", arrays(batch_size=5), {}),
        ("data.clips: 10 then, 12 now", arrays(12), {}),
        ("seed: 0 then, 1 now", arrays(), {"seed": 1}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            pretrain(data, output, steps=6, resume=True, **more)
    monkeypatch.setitem(kas.COLA.PRESETS["tiny"], "noise", 0.25)
    with pytest.raises(ValueError, match=r"model\.noise: 0\.001 then, 0\.25"):
        pretrain(arrays(), output, steps=6, resume=True)


def test_clips_are_read_as_long_as_the_method_needs():
    # The preset's seconds are those that its own slices need.
    arguments = Arguments(
        method="audio2vec_cbow", data="synthetic", output=Path("x.keras"),
        preset="tiny", settings={"frames": 48}, say=print,
    )  # fmt: skip
    made = plan.prepare(arguments)
    assert made.data.seconds == plan.shortest(made.model) > 2.0
    with pytest.raises(ValueError, match=r"at least 2\.4.*Received: 2"):
        plan.prepare(dataclasses.replace(arguments, seconds=2.0))


@pytest.mark.any_backend
def test_an_estimate_writes_nothing(tmp_path):
    run, said = pretrain(
        arrays(), tmp_path / "x.keras", steps=5000, estimate=True
    )
    assert run.encoder is None
    cost = run.metrics
    assert cost["seconds_per_step"] > 0
    assert cost["seconds"] == (
        5000 * cost["seconds_per_step"] + cost["start_seconds"]
    )
    assert "5,000 steps in" in str(run) and "timing" in said[0]
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_fails(tmp_path):
    settings = {"learning_rate": 1e30}
    for more in ({}, {"estimate": True}):
        with pytest.raises(Failure, match=r'settings\["learning_rate"\]'):
            pretrain(
                arrays(), tmp_path / "x.keras", steps=40, settings=settings,
                **more,
            )  # fmt: skip


class Guided(Denoising):
    """Predicts the label too, of clips that have one."""

    def __init__(self, classes=("a", "b"), **kwargs):
        super().__init__(**kwargs)
        self.known = keras.metrics.Mean(name="labelled")

    def pretext_loss(self, outputs, x, y=None):
        self.known.update_state(keras.ops.cast(y >= 0, "float32"))
        return super().pretext_loss(outputs, x)


def manifest(folder, names):
    """A table of noises with the labels given, "" for none."""
    lines = ["file,kind"]
    for i, (wave, name) in enumerate(zip(waves(len(names)), names)):
        soundfile.write(folder / f"{i}.wav", wave, 16000)
        lines.append(f"{i}.wav,{name}")
    (folder / "table.csv").write_text("\n".join(lines))
    return folder / "table.csv"


def test_labels_for_some_clips(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "guided", (__name__, "Guided", {}))
    table = manifest(tmp_path, ["x", "", "y", "-1", "z", "x", "y", "z"])
    more = {"method": "guided", "batch_size": 8, "seconds": 1.0, "steps": 2}
    run, _ = pretrain(table, tmp_path / "all.keras", label="kind", **more)
    config = json.loads((run.folder / "config.json").read_text())
    # Known before the model was made.
    assert config["model"]["classes"] == ["x", "y", "z"]
    assert config["label"] == "kind" and config["label_fraction"] == 1.0
    rows = (run.folder / "history.csv").read_text().splitlines()
    place = rows[0].split(",").index("labelled")
    assert float(rows[1].split(",")[place]) == pytest.approx(6 / 8)
    run, _ = pretrain(
        table, tmp_path / "half.keras", label="kind", label_fraction=0.5, **more
    )
    rows = (run.folder / "history.csv").read_text().splitlines()
    assert float(rows[1].split(",")[place]) == pytest.approx(3 / 8)
    with pytest.raises(ValueError, match="label_fraction: 0.5 then, 1.0 now"):
        pretrain(table, run.output, resume=True, label="kind", **more)
    with pytest.raises(ValueError, match="`label` needs a manifest"):
        pretrain(tmp_path, tmp_path / "n.keras", label="kind", **more)


def test_settings_of_the_encoder_have_names(tmp_path):
    settings = parse_settings(
        ["encoder.dim=16", "noise=0.1", "encoder.backbone=cnn"]
    )
    assert settings == {
        "encoder": {"dim": 16, "backbone": "cnn"},
        "noise": 0.1,
    }
    run, _ = pretrain(arrays(), tmp_path / "x.keras", settings=settings)
    assert run.encoder.dim == 16
    # The preset's other settings stay.
    assert run.encoder.frontend.n_mels == 32
    with pytest.raises(ValueError, match="given twice"):
        parse_settings(["encoder=cnn", "encoder.dim=3"])


def test_half_precision_is_a_setting(tmp_path):
    settings = parse_settings(["dtype=mixed_bfloat16"])
    output = tmp_path / "x.keras"
    run, _ = pretrain(arrays(), output, settings=settings)
    for encoder in run.encoder, kas.load_encoder(output):
        assert encoder.backbone.compute_dtype == "bfloat16"
        assert {v.dtype for v in encoder.trainable_variables} == {"float32"}
    with pytest.raises(ValueError, match="dtype: mixed_bfloat16 then, None"):
        pretrain(arrays(), output, steps=6, resume=True)


def test_a_method_made_of_another_one_has_its_settings(tmp_path):
    settings = {
        name: settings_of(method_class(name))
        for name in ("mockingjay", "audio_albert")
    }
    both = settings["audio_albert"]
    assert set(both) == {*settings["mockingjay"], "mask_token"}
    for name in METHODS:
        assert "paper" not in settings_of(method_class(name))
    asked = Arguments(
        "audio_albert", None, tmp_path / "x.keras", preset="tiny",
        settings={"span": 3, "learning_rate": 5e-4},
    )  # fmt: skip
    plan.check_settings(kas.AudioALBERT, asked.settings)
    model = plan.make_model(asked, kas.AudioALBERT, None)
    assert (model.span, model.learning_rate) == (3, 5e-4)


def test_the_papers_schedule_spans_the_run(tmp_path, monkeypatch):
    steps = []

    def optimizer(self, total_steps=None):
        steps.append(total_steps)
        return keras.optimizers.Adam(1e-3)

    monkeypatch.setattr(kas.COLA, "default_optimizer", optimizer)
    pretrain(arrays(), tmp_path / "x.keras", steps=3)
    pretrain(arrays(), tmp_path / "y.keras", steps=None, epochs=2)
    assert steps == [3, 4]


@pytest.mark.any_backend
def test_every_encoder_of_a_method_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(
        kas.PretextModel,
        "exports",
        lambda m: {"": m.encoder, "again": m.encoder},
    )
    output, other = tmp_path / "x.keras", tmp_path / "x.again.keras"
    other.write_text("of somebody else")
    with pytest.raises(ValueError, match=r"x\.again\.keras exists"):
        pretrain(arrays(), output)
    assert other.read_text() == "of somebody else"
    other.unlink()
    pretrain(arrays(), output)
    one, two = kas.load_encoder(output), kas.load_encoder(other)
    assert same(weights_of(one), weights_of(two))
    other.unlink()
    # A run with a part missing is not finished: the same again makes it.
    run, said = pretrain(arrays(), output, resume=True)
    assert other.exists() and run.metrics["resumed_at"] == 4
    assert not any("up to date" in line for line in said)


@pytest.mark.parametrize(
    "words, more",
    [
        ("`method` must be one of apc", {"method": "nothing"}),
        ("`output` must end in .keras", {"output": "y.h5"}),
        ("`preset` must be paper or tiny", {"preset": "huge"}),
        ("no such file or folder: no/such", {"data": "no/such"}),
        (r'`settings\["colour"\]`', {"settings": {"colour": 1}}),
        ("`epochs` or `steps`", {"epochs": 1}),
        ("`steps` must be a whole number", {"steps": 0}),
        ("`steps` must be a whole number", {"steps": 1.5}),
        ("`batch_size` must be a whole number", {"batch_size": -1}),
        ("`seed` must not be negative", {"seed": -1}),
        ("`resume=True` or `overwrite=True`",
         {"resume": True, "overwrite": True}),
        ("`resume=True`: there is no run", {"resume": True}),
        (r'`init_from` or `settings\["encoder"\]`',
         {"init_from": "e.keras", "settings": {"encoder": "cnn"}}),
        (r'`init_from` or `settings\["dtype"\]`',
         {"init_from": "e.keras", "settings": {"dtype": "mixed_bfloat16"}}),
        ("no encoder 'none.keras'", {"init_from": "none.keras"}),
        ("`where` needs a manifest", {"where": "a=b"}),
        ("`seconds` must be at least", {"seconds": 0.001}),
        ("`batch_size=48` is more than the 12 clips", {"batch_size": 48}),
        ("`seconds` is for a folder", {"data": "made", "seconds": 1.0}),
        ("16000 Hz. Received: 8000 Hz", {"data": "slow"}),
        ("AudioDataset. Received: list", {"data": [1, 2]}),
    ],
)  # fmt: skip
def test_a_wrong_argument_leaves_nothing_behind(
    words, more, audio, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    made = {
        "made": lambda: arrays(),
        "slow": lambda: arrays(sample_rate=8000),
    }
    options = {"data": audio, "output": "new/x.keras", **more}
    if isinstance(options["data"], str) and options["data"] in made:
        options["data"] = made[options["data"]]()
    with pytest.raises(ValueError, match=words):
        pretrain(**options)
    assert not list(tmp_path.iterdir())
