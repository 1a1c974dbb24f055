from pathlib import Path

import pytest
import torch
from torch import nn

from paramdiff.errors import NumericalError
from paramdiff.seeds import generator, seeded
from paramdiff.training import Ema, Training, require_finite


class InterruptedTrainingError(Exception):
    """Stands for a kill: nothing after it runs."""


def train(path: Path | None, steps: int = 12, stop_after: int | None = None) -> tuple[nn.Module, Training]:
    with seeded("test"):
        net = nn.Linear(4, 1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1)
    ema = Ema(net)
    training = Training("test", steps, {"net": net, "optimiser": optimiser, "ema": ema}, path, save_every_s=0)
    for step in training:
        if step == stop_after:
            raise InterruptedTrainingError
        x = torch.randn(8, 4, generator=generator("x", step))
        loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        ema.update()
        training.log(step, loss)
    return ema.module, training


def test_resuming_gives_the_same_numbers(tmp_path: Path):
    whole, whole_training = train(None)
    with pytest.raises(InterruptedTrainingError):
        train(tmp_path / "t.safetensors", stop_after=7)
    resumed, training = train(tmp_path / "t.safetensors")
    assert training.start == 7
    assert torch.equal(whole.weight, resumed.weight)
    assert training.losses == whole_training.losses and len(training.losses) == 12


def test_a_finished_training_is_not_repeated(tmp_path: Path):
    first, _ = train(tmp_path / "t.safetensors")
    again, training = train(tmp_path / "t.safetensors", stop_after=0)
    assert training.start == 12 and torch.equal(first.weight, again.weight)


def test_nan_stops_with_the_step_and_the_last_good_state(tmp_path: Path):
    net = nn.Linear(1, 1)
    training = Training("autoencoder", 10, {"net": net}, tmp_path / "t.safetensors", save_every_s=0)
    with pytest.raises(
        NumericalError, match=r"autoencoder: the loss is nan at step 3 \(last good state: .*t.safetensors\)"
    ):
        for step in training:
            training.log(step, torch.tensor(float("nan") if step == 3 else 1.0))
    again = Training("autoencoder", 10, {"net": net}, tmp_path / "t.safetensors")
    assert again.start == 3


def test_a_broken_state_never_replaces_a_good_one(tmp_path: Path):
    net = nn.Linear(1, 1)
    training = Training("denoiser", 10, {"net": net}, tmp_path / "t.safetensors")
    training.save(1)
    with torch.no_grad():
        net.weight.fill_(float("inf"))
    with pytest.raises(NumericalError, match="denoiser, step 2: NaN or Inf in net/weight"):
        training.save(2)
    assert Training("denoiser", 10, {"net": nn.Linear(1, 1)}, tmp_path / "t.safetensors").start == 1


def test_require_finite_names_the_tensor():
    with pytest.raises(NumericalError, match="sampling: NaN or Inf in a/1"):
        require_finite({"a": [torch.zeros(2), torch.tensor([float("nan")])]}, "sampling")


def test_ema_warm_up_forgets_the_start():
    """Rule 5: after 2,000 updates a fixed 0.9999 still holds 82% of the initial weights."""
    net = nn.Linear(1, 1)
    nn.init.ones_(net.weight)
    ema = Ema(net, decay=0.9999)
    nn.init.zeros_(net.weight)
    for _ in range(2000):
        ema.update()
    assert ema.module.weight.item() < 1e-3


def test_ema_follows_buffers():
    net = nn.BatchNorm1d(2)
    ema = Ema(net)
    net(torch.randn(50, 2) + 5)
    ema.update()
    assert torch.equal(ema.module.running_mean, net.running_mean)
    assert not ema.module.training
