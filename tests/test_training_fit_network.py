import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paramdiff import training
from paramdiff.generators import make
from paramdiff.seeds import seeded
from paramdiff.training import Plateau, Training, fit_network
from toy_zoos import curve, toy_zoo


def test_a_plateau_is_reached_after_so_many_checks_without_a_fall():
    plateau = Plateau(least=0.1, patience=2, every=1)
    assert [plateau.reached(v) for v in (1.0, 0.5, 0.45, 0.3, 0.25, 0.35)] == [False] * 5 + [True]


def test_a_plateau_goes_on_where_it_was():
    plateau, again = (Plateau(least=0.0, patience=2, every=1) for _ in range(2))
    plateau.reached(1.0)
    plateau.reached(1.0)
    again.load_state_dict(plateau.state_dict())
    assert again.reached(1.0)


class KilledError(Exception):
    """Stands for a kill: nothing after it runs."""


def train(
    steps: int, path: Path | None = None, patience: int = 1, kill_at: int | None = None
) -> tuple[nn.Linear, list[float]]:
    """A fit whose criterion stops falling at once."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)

    def loss(net: nn.Linear, step: int) -> list[Tensor]:
        if step == kill_at:
            raise KilledError
        return [net.weight.square().sum()]

    plateau = Plateau(least=0.0, patience=patience, every=5)
    return fit_network(
        "toy", net, loss, lambda net: 1.0, plateau, steps=steps, lr=0.1, weight_decay=0.0, ema=0.5, path=path
    )


def test_training_ends_at_the_plateau_and_is_then_finished(tmp_path: Path):
    net, losses = train(100, tmp_path / "t.safetensors")
    assert len(losses) == 10 and losses[-1] < losses[0]
    assert not net.training and not net.weight.requires_grad
    again, seen = train(100, tmp_path / "t.safetensors", kill_at=10)
    assert seen == losses and torch.equal(again.weight, net.weight)


def test_a_resumed_training_ends_at_the_same_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, losses = train(100, patience=3)
    monkeypatch.setattr(training, "Training", partial(Training, save_every_s=0))
    with pytest.raises(KilledError):
        train(100, tmp_path / "t.safetensors", patience=3, kill_at=12)
    resumed, seen = train(100, tmp_path / "t.safetensors", patience=3)
    assert len(losses) == 20 and seen == losses and torch.equal(resumed.weight, whole.weight)


def test_training_ends_after_all_steps():
    assert len(train(7)[1]) == 7


@pytest.mark.parametrize(("plateau", "steps"), [(Plateau(least=0.1, patience=2, every=5), 15), (None, 40)])
def test_a_training_ends_at_the_plateau_or_where_it_was_told(plateau: Plateau | None, steps: int):
    """Without a plateau all steps are done: the paper's recipe trains as long as the paper did."""
    rules = {"steps": 40, "lr": 1e-3, "weight_decay": 0.0, "ema": 0.9, "path": None}
    _, losses = fit_network(
        "test", nn.Linear(2, 1), lambda net, step: [net.weight.sum()], lambda net: 1.0, plateau, **rules
    )
    assert len(losses) == steps


def test_parts_of_a_loss_add_up():
    """Memory is that of one part: each is gone before the next is computed."""
    rules = {"steps": 20, "lr": 0.1, "weight_decay": 0.0, "ema": 0.9, "path": None}
    alive: list[tuple[int, int]] = []

    def parts(net: nn.Linear, step: int) -> Iterator[Tensor]:
        for i in range(4):
            part = (net.weight[0, i] - i).square()
            weakref.finalize(part, alive.remove, (step, i))
            alive.append((step, i))
            assert alive[-1:] == [(step, i)] and len(alive) <= 2
            yield part

    def whole(net: nn.Linear, step: int) -> list[Tensor]:
        return [sum((net.weight[0, i] - i).square() for i in range(4))]

    learnt = []
    for loss in (parts, whole):
        with seeded("parts"):
            net = nn.Linear(4, 1, bias=False)
        learnt.append(fit_network("test", net, loss, lambda net: 1.0, None, **rules))
    (one, losses), (other, others) = learnt
    assert torch.equal(one.weight, other.weight) and losses == pytest.approx(others)


def test_the_papers_recipe_never_stops_early():
    settings = make(
        "p-diff", autoencoder={"early_stop": False, "steps": 30, "latent": 2},
        diffusion={"early_stop": False, "steps": 30, "width": 8},
    )  # fmt: skip
    losses = settings.fit(toy_zoo(curve(12, 8))).losses
    assert (len(losses["autoencoder"]), len(losses["denoiser"])) == (30, 30)
