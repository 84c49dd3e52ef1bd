import pytest

from keras_audio_ssl.runs.folder import claim
from keras_audio_ssl.runs.folder import config_file
from keras_audio_ssl.runs.folder import contents_file
from keras_audio_ssl.runs.folder import drop_drafts
from keras_audio_ssl.runs.folder import metrics_file


@pytest.fixture
def place(tmp_path):
    """Where a run may be written: its output and its folder."""
    folder = tmp_path / "x.run"
    folder.mkdir()
    return tmp_path / "x.keras", folder


def test_an_empty_place_is_free(place):
    output, folder = place
    assert claim(output, folder) is False
    # What a run leaves that was killed before it began.
    contents_file(folder).touch()
    (folder / ".config-abc.json").touch()
    assert claim(output, folder) is False
    folder.rename(folder.with_name("y.run"))
    assert claim(output, folder) is False


def test_half_a_run_is_gone_on_with(place):
    output, folder = place
    config_file(folder).touch()
    assert claim(output, folder) is True
    output.touch()
    assert claim(output, folder) is True
    metrics_file(folder).touch()
    with pytest.raises(ValueError, match="`resume=True`"):
        claim(output, folder)
    assert claim(output, folder, resume=True) is True
    assert claim(output, folder, overwrite=True) is False


def test_what_no_run_wrote_is_not_replaced(place):
    output, folder = place
    (folder / "notes.txt").touch()
    with pytest.raises(ValueError, match="`overwrite=True`"):
        claim(output, folder)
    (folder / "notes.txt").unlink()
    output.touch()
    with pytest.raises(ValueError, match="`overwrite=True`"):
        claim(output, folder)
    with pytest.raises(ValueError, match="there is no run"):
        claim(output, folder, resume=True)


def test_drafts_of_killed_runs_go(place):
    output, folder = place
    kept = output.with_name("x.other.keras")
    for path in (kept, output.with_name(".x-abc.keras")):
        path.touch()
    (folder / ".config-abc.json").touch()
    drop_drafts([output, config_file(folder)])
    assert sorted(p.name for p in output.parent.iterdir()) == [
        "x.other.keras",
        "x.run",
    ]
    assert not list(folder.iterdir())
