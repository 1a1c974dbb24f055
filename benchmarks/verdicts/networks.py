"""Zoos of trained networks: small ones on the digits, all members at once by ``torch.func``."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from paramdiff.evaluation.comparison import Scored
from paramdiff.files import load_tensors, save_tensors
from paramdiff.parameters.spec import ParameterSpec

CLASSES = 10


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """8 x 8 images of sklearn, in one shuffled order: half of them to train on, half to test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order] - x.mean(0), y[order]
    return x[:900], y[:900], x[900:], y[900:]


def network(hidden: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    if hidden == 0:
        return nn.Sequential(nn.Linear(64, CLASSES))
    return nn.Sequential(nn.Linear(64, hidden), activation(), nn.Linear(hidden, CLASSES))


@dataclass(frozen=True)
class Population:
    """Networks of one kind, trained from independent seeds.

    Attributes:
        model: the network.
        spec: its tensors.
        vectors: [n, D], in no order.
    """

    model: nn.Module
    spec: ParameterSpec
    vectors: Tensor

    def scored(self, vectors: Tensor) -> Scored:
        """On the test half."""
        _, _, x, y = digits()
        wrong = torch.stack([self._outputs(v, x).argmax(1) != y for v in vectors])
        accuracy = 1 - wrong.double().mean(1)
        return Scored(accuracy, accuracy, None, wrong)

    def _outputs(self, v: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            return functional_call(self.model, self.spec.unflatten(v), (x,))


def initial(model: nn.Module, n: int, seed: int) -> dict[str, Tensor]:
    """n initialisations of a network, stacked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        states = []
        for _ in range(n):
            for module in model.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            states.append({name: p.detach().clone() for name, p in model.named_parameters()})
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def trained(
    hidden: int, activation: type[nn.Module], n: int, seed: int, steps: int = 300, same_start: bool = False,
    every: int = 0,
) -> Tensor:  # fmt: skip
    """[n, D]: networks trained by Adam on batches of 64, each from its own start (or all from one), on its own batches.

    ``every``: keep each of them after every so many of the last steps instead, run by run.
    """
    model = network(hidden, activation)
    spec = ParameterSpec.from_model(model, "all")
    params = initial(model, 1 if same_start else n, seed)
    params = {name: p.expand(n, *p.shape[1:]).clone().requires_grad_() for name, p in params.items()}
    optimiser = torch.optim.Adam(params.values(), lr=0.01)
    x, y, _, _ = digits()
    random = torch.Generator().manual_seed(seed)

    def loss(own: dict[str, Tensor], rows: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(model, own, (x[rows],)), y[rows])

    saved: list[Tensor] = []
    for step in range(steps):
        rows = torch.randint(len(x), (n, 64), generator=random)
        optimiser.zero_grad()
        vmap(loss)(params, rows).sum().backward()
        optimiser.step()
        if every and step >= steps // 2 and (steps - 1 - step) % every == 0:
            saved.append(_flat(params, spec))
    return torch.stack(saved, 1).flatten(0, 1) if every else _flat(params, spec)


def kept(
    train: Callable[..., Tensor], hidden: int, activation: type[nn.Module], *args: int, **settings: int
) -> Population:
    """A population that is trained once and then kept among the temporary files."""
    words = [str(word) for word in (hidden, activation.__name__, *args, *settings.items())]
    file = Path(tempfile.gettempdir()) / "paramdiff-verdicts" / f"{'-'.join(words)}.safetensors"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        save_tensors(file, {"vectors": train(hidden, activation, *args, **settings)})
    model = network(hidden, activation)
    return Population(model, ParameterSpec.from_model(model, "all"), load_tensors(file)["vectors"])


def _flat(params: dict[str, Tensor], spec: ParameterSpec) -> Tensor:
    """[n, D] in the order of the spec."""
    return torch.cat([params[name].detach().flatten(1) for name in spec.names], 1).clone()
