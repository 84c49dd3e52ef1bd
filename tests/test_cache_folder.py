"""Where what can be made again is kept."""

from pathlib import Path

import platformdirs
import pytest

from keras_audio_ssl import _files
from keras_audio_ssl._files import cache_folder

pytestmark = pytest.mark.no_backend


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A system that keeps caches elsewhere than Linux, and its user."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "Library" / "Caches" / "keras_audio_ssl"
    monkeypatch.setattr(
        platformdirs, "user_cache_path", lambda *names, **options: folder
    )
    monkeypatch.setattr(_files.sys, "platform", "darwin")
    return folder


def test_it_is_where_the_system_keeps_caches(elsewhere):
    assert cache_folder() == elsewhere


def test_one_that_is_there_already_is_used(elsewhere, tmp_path, monkeypatch):
    before = tmp_path / ".cache" / "keras_audio_ssl"
    before.mkdir(parents=True)
    assert cache_folder() == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache_folder() == elsewhere


@pytest.mark.parametrize("answer", [RuntimeError("no home"), Path("~/.cache")])
def test_a_user_without_a_home_has_none(answer, monkeypatch):
    def without(*names, **options):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(platformdirs, "user_cache_path", without)
    assert cache_folder() is None
