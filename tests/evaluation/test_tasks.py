import csv

import pytest

from keras_audio_ssl.evaluation import TASKS
from keras_audio_ssl.evaluation import Task
from keras_audio_ssl.evaluation import run_task
from keras_audio_ssl.evaluation import run_tasks
from tests.data_folder import data_folder
from tests.evaluation.fakes import BandEncoder
from tests.evaluation.fakes import write_corpus

pytestmark = pytest.mark.no_backend


@pytest.fixture
def real():
    folder = data_folder()
    if folder is None:
        pytest.skip("no folder of real audio (KERAS_AUDIO_SSL_DATA)")
    return folder


@pytest.fixture
def small(tmp_path):
    """The data sets of two tasks, made of tones."""
    for name in ("esc10", "philharmonia"):
        (tmp_path / name).mkdir()
        path = write_corpus(tmp_path / name)
        header, rows = path.read_text().split("\n", 1)
        assert header.startswith("file,label,speaker")
        if name == "esc10":
            header = header.replace("speaker", "fold")
        else:
            header = header.replace("label", "pitch_class")
            header = header.replace("speaker", "instrument")
        path.write_text(header + "\n" + rows)
    return tmp_path


def test_tasks_on_one_data_set_share_its_embeddings(small):
    encoder = BandEncoder()
    results = run_tasks(["scene", "pitch"], encoder, small, "unseen")
    assert list(results) == ["scene", "pitch"]
    assert encoder.calls == 48
    assert results["scene"].accuracy > 0.9
    assert results["pitch"].accuracy > 0.9
    assert results["pitch"].seen == "unseen"
    assert results["pitch"].task == "pitch class, unseen instrument"


def test_the_folder_may_come_from_the_environment(small, monkeypatch):
    monkeypatch.setenv("KERAS_AUDIO_SSL_DATA", str(small))
    assert run_task("scene", BandEncoder()).n == 24
    monkeypatch.delenv("KERAS_AUDIO_SSL_DATA")
    with pytest.raises(ValueError, match="KERAS_AUDIO_SSL_DATA"):
        run_task("scene", BandEncoder())


def test_a_task_of_ones_own(small):
    task = Task("sounds of s2", "esc10", {"label": "label", "fold": "fold"})
    result = run_task(task, BandEncoder(), small)
    assert (result.task, result.n) == ("sounds of s2", 24)
    missing = Task("nothing", "nowhere", {"label": "label"})
    with pytest.raises(ValueError, match="'nothing' needs .*nowhere"):
        run_task(missing, BandEncoder(), small)


def test_errors_name_what_is_there(small):
    with pytest.raises(ValueError, match=r"scene, digit.*'scenes'"):
        run_task("scenes", BandEncoder(), small)
    with pytest.raises(ValueError, match=r"fsdd.manifest\.csv.*missing"):
        run_task("digit", BandEncoder(), small)


@pytest.mark.parametrize("name", list(TASKS))
def test_manifests_have_the_columns_of_the_task(real, name):
    task = TASKS[name]
    with open(real / task.folder / "manifest.csv") as file:
        header = next(csv.reader(file))
    options = dict(task.options)
    if "frames" in options:
        with open(real / task.folder / options["frames"]) as file:
            assert options["label"] in next(csv.reader(file))
        options["label"] = "file"
    columns = [
        options[key]
        for key in ("label", "fold", "leave_one_out", "groups")
        if key in options
    ]
    columns += list(options.get("split", {}))
    assert set(columns) <= set(header)


def test_zero_and_five_of_unseen_speakers(real):
    where = {"split": "test", "label": ["0", "5"]}
    result = run_task("digit", BandEncoder(), real, "unseen", where=where)
    assert result.n == 60 and len(result.per_fold) == 6
    assert result.classes == ["0", "5"]
    # An s against a vowel: the bands that carry the energy tell.
    assert result.accuracy > 0.8
    assert not result.skipped


def test_phones_of_two_speakers(real):
    where = {"speaker": ["03", "08"], "emotion": "anger"}
    result = run_task("phone", BandEncoder(), real, where=where, grid=[1.0])
    assert result.n > 600 and result.frames > 2 * result.n
    assert list(result.per_fold) == ["03", "08"]
    # Chance is 0.1; the phones of two seconds are timed to milliseconds.
    assert result.accuracy > 0.25 and result.frame_accuracy > 0.25
    # One file has no phones, which is said.
    assert [reason for _, reason in result.skipped] == [
        "no interval in phones.csv"
    ]
