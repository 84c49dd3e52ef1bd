import sys

import pytest

from keras_audio_ssl.cli import memory

pytestmark = pytest.mark.no_backend


@pytest.fixture
def executed(monkeypatch):
    """Arguments that the process was started again with."""
    calls = []
    monkeypatch.setattr(memory.os, "execv", lambda *a: calls.append(a))
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("glibc", "2.36"))
    # Set, then deleted, so that it is put back as it was.
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.setattr(sys, "argv", ["keras-audio-ssl", "pretrain", "cola"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "x", "pretrain"])
    return calls


def test_starts_again_once(executed):
    memory.tune_memory()
    assert executed == [(sys.executable, ["python", "-m", "x", "pretrain"])]
    assert "hugetlb=1" in memory.os.environ["GLIBC_TUNABLES"]
    memory.tune_memory()
    assert len(executed) == 1


def test_memory_is_kept_on_pytorch(executed, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    memory.tune_memory()
    assert "mmap_max=0" in memory.os.environ["GLIBC_TUNABLES"]
    assert "mmap_max" not in memory.tunables("jax")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.setattr(sys, "argv", ["keras-audio-ssl", "list"]),
        lambda m: m.setattr(sys, "argv", ["keras-audio-ssl"]),
        lambda m: m.setenv("GLIBC_TUNABLES", ""),
        lambda m: m.setattr(memory.sys, "platform", "darwin"),
        lambda m: m.setattr(memory.platform, "libc_ver", lambda: ("", "")),
    ],
)
def test_leaves_other_processes_alone(executed, monkeypatch, change):
    change(monkeypatch)
    memory.tune_memory()
    assert not executed
