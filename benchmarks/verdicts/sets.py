"""Kinds of samples: true draws, and everything that must not be called novel."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.verdicts.zoos import Case
from paramdiff.networks.symmetry import find_symmetries, permute

Drawn = Callable[[Case, int], Tensor | None]
"""None where a zoo cannot have such samples."""


def true(c: Case, n: int) -> Tensor:
    return c.draw(n)


def copies(noise: float) -> Drawn:
    def make(c: Case, n: int) -> Tensor:
        v = c.zoo.vectors
        return v[c.rows(n)] + noise * v.std(0) * c.randn(n, v.shape[1])

    return make


def averages(m: int, weighted: bool = False) -> Drawn:
    def make(c: Case, n: int) -> Tensor | None:
        v = c.zoo.vectors
        if m > len(v) // 2:
            return None
        weights = torch.rand(n, m, generator=c.random) + 0.1 if weighted else torch.ones(n, m)
        weights = weights / weights.sum(1, keepdim=True)
        rows = torch.stack([torch.randperm(len(v), generator=c.random)[:m] for _ in range(n)])
        return torch.einsum("nm,nmd->nd", weights, v[rows])

    return make


def mean(c: Case, n: int) -> Tensor:
    v = c.zoo.vectors
    return v.mean(0) + 1e-3 * v.std(0) * c.randn(n, v.shape[1])


def among(share: float, of: Drawn) -> Drawn:
    """True draws with a share of others."""

    def make(c: Case, n: int) -> Tensor | None:
        others = of(c, round(share * n))
        return None if others is None else torch.cat([others, c.draw(n - len(others))])

    return make


def shrunken(factor: float) -> Drawn:
    def make(c: Case, n: int) -> Tensor:
        v = c.zoo.vectors
        return v.mean(0) + factor * (v[c.rows(n)] - v.mean(0))

    return make


def combined(c: Case, n: int) -> Tensor:
    """A Gaussian with the covariance of the members: the low-rank baseline."""
    v = c.zoo.vectors
    return v.mean(0) + c.randn(n, len(v)) / len(v) ** 0.5 @ (v - v.mean(0))


def diagonal(scale: float) -> Drawn:
    def make(c: Case, n: int) -> Tensor:
        v = c.zoo.vectors
        return v.mean(0) + scale * v.std(0) * c.randn(n, v.shape[1])

    return make


def disguised(noise: float, scaled: bool = False) -> Drawn:
    """Copies with hidden units in another order, or (ReLU) of another scale."""

    def make(c: Case, n: int) -> Tensor | None:
        if c.model is None or len(c.zoo.spec.tensors) < 4:
            return None
        drawn = copies(noise)(c, n)
        assert drawn is not None
        return torch.stack([_rescaled(c, v) if scaled else _permuted(c, v) for v in drawn])

    return make


def _permuted(c: Case, v: Tensor) -> Tensor:
    assert c.model is not None
    groups = find_symmetries(c.model)
    assert not isinstance(groups, str)
    orders = [torch.randperm(group.size, generator=c.random) for group in groups.groups]
    return c.zoo.spec.flatten(permute(c.zoo.spec.unflatten(v), groups, orders))


def _rescaled(c: Case, v: Tensor) -> Tensor | None:
    """A ReLU unit by a factor, a tanh unit by a sign."""
    state = {name: tensor.clone() for name, tensor in c.zoo.spec.unflatten(v).items()}
    size = len(state["0.bias"])
    factor = (0.7 * c.randn(size)).exp()
    if "Tanh" in repr(c.model):
        factor = c.randn(size).sign()
    state["0.weight"] *= factor[:, None]
    state["0.bias"] *= factor
    state["2.weight"] /= factor
    return c.zoo.spec.flatten(state)


def one_again(c: Case, n: int) -> Tensor:
    return c.draw(1).expand(n, -1).clone()


def untrained(c: Case, n: int) -> Tensor | None:
    from benchmarks.verdicts.networks import initial

    if c.model is None:
        return None
    found = initial(c.model, n, int(torch.randint(2**31, (1,), generator=c.random)))
    return torch.cat([found[name].flatten(1) for name in c.zoo.spec.names], 1)


TUNED: dict[str, Drawn] = {
    "true draws": true, "copies": copies(0.0), "copies + 0.02": copies(0.02), "copies + 0.1": copies(0.1),
    "copies + 0.3": copies(0.3), "members + 1.0": copies(1.0), "averages of 2": averages(2),
    "averages of 3, random weights": averages(3, True), "averages of 16": averages(16), "mean": mean,
    "half copies": among(0.5, copies(0.1)), "20% copies": among(0.2, copies(0.02)),
    "12% copies": among(0.12, copies(0.0)),
    "40% averages of 2": among(0.4, averages(2)), "shrunken members": shrunken(0.7),
    "low-rank Gaussian": combined, "diagonal Gaussian": diagonal(1.0), "permuted copies": disguised(0.0),
    "permuted copies + 0.1": disguised(0.1), "rescaled copies": disguised(0.0, True), "one network again": one_again,
    "mean + 10 sigma": diagonal(10.0), "untrained": untrained,
}  # fmt: skip


def _mixed(share: float) -> Drawn:
    def make(c: Case, n: int) -> Tensor:
        v = c.zoo.vectors
        return share * v[c.rows(n)] + (1 - share) * v[c.rows(n)]

    return make


def _nearest_pairs(c: Case, n: int) -> Tensor:
    """Midpoints of members and their nearest neighbours."""
    v = c.zoo.vectors
    apart = torch.cdist(v, v)
    apart[apart < 1e-3 * apart.max()] = torch.inf
    rows = c.rows(n)
    return (v[rows] + v[apart[rows].argmin(1)]) / 2


def _true_shrunken(c: Case, n: int) -> Tensor:
    v = c.zoo.vectors
    return v.mean(0) + 0.7 * (c.draw(n) - v.mean(0))


def _few_again(c: Case, n: int) -> Tensor:
    """Five true networks, with noise of a tenth."""
    v = c.zoo.vectors
    return c.draw(5).repeat(n // 5, 1) + 0.1 * v.std(0) * c.randn(n // 5 * 5, v.shape[1])


HELD_OUT: dict[str, Drawn] = {
    "members + 0.6": copies(0.6), "0.3 and 0.7 of two": _mixed(0.3), "midpoints of neighbours": _nearest_pairs,
    "averages of 4": averages(4), "shrunken true draws": _true_shrunken, "five networks again": _few_again,
    "15% copies + 0.2": among(0.15, copies(0.2)), "mean + 5 sigma": diagonal(5.0), "30% mean": among(0.3, mean),
    "permuted copies + 0.3": disguised(0.3), "half low-rank": among(0.5, combined),
    "one copy again": lambda c, n: c.zoo.vectors[:1].expand(n, -1).clone(),
}  # fmt: skip
