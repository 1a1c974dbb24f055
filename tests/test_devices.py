import pytest
import torch

from paramdiff.devices import choose_device
from paramdiff.errors import ConfigError


def test_a_word_becomes_a_device():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps", "xpu")


def test_what_is_no_device_names_the_key():
    with pytest.raises(ConfigError, match="^device: 'cuda:x' is not a device; expected auto, cpu"):
        choose_device("cuda:x")


def test_an_accelerator_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(
        ConfigError, match=r"^device: 'cuda' is not on this machine; expected .*cpu only here"
    ):
        choose_device("cuda")
