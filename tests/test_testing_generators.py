"""The contract tests see what they are for: a generator that breaks one rule is told which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from paramdiff.generators import GENERATORS, FitContext, Generator
from paramdiff.generators.gaussian import Gaussian
from paramdiff.testing.generators import CHECKS, GeneratorCase, check_generator


def global_noise(self: Gaussian, indices: Sequence[int], seed: int, context: FitContext) -> Tensor:
    return torch.randn(len(indices), len(self.mean))


def no_seed(self: Gaussian, indices: Sequence[int], seed: int, context: FitContext) -> Tensor:
    return Gaussian._sample(self, indices, 0, context)


def too_few(self: Gaussian, indices: Sequence[int], seed: int, context: FitContext) -> Tensor:
    return Gaussian._sample(self, indices, seed, context).double()[:, :-1]


def changes_zoo(self: Gaussian, zoo: Any, context: FitContext = FitContext()) -> Any:  # noqa: B008
    made = Gaussian.fit(self, zoo, context)
    zoo.vectors[0] += 1
    return made


def forgets(self: Gaussian, state: Mapping[str, Any]) -> None:
    self.mean, self.deviation = state["mean"], 2 * state["deviation"]


def broken(**methods: Any) -> Generator:
    return type("Broken", (Gaussian,), methods)()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("methods", "rule"),
    [
        ({"_sample": global_noise}, "two fits with equal settings are equal"),
        ({"_sample": no_seed}, "another seed gives other samples"),
        ({"fit": changes_zoo}, "fit does not change the zoo"),
        ({"_restore": forgets}, "load gives back what save was given"),
        ({"fit": lambda self, zoo, context=None: None}, "a zoo that tells nothing is refused by ZooError"),
        ({"sampling": ("scales",)}, "`sampling` and `knob` name settings, by dotted key"),
    ],
)
def test_a_broken_rule_is_named(methods: dict[str, Any], rule: str, monkeypatch: pytest.MonkeyPatch):
    generator = broken(**methods)
    monkeypatch.setitem(GENERATORS.known, "gaussian", type(generator))
    with pytest.raises(AssertionError, match=rf"^Broken: .*\. Rule: {rule}"):
        check_generator(generator)


def test_a_class_that_is_not_registered_is_told_how():
    with pytest.raises(
        AssertionError, match=r"its name is .gaussian.\. Rule: .*decorate its class with @register"
    ):
        check_generator(broken())


@dataclass
class NoDefault(Gaussian):
    inner: object = None


def test_settings_that_no_configuration_can_hold():
    with pytest.raises(
        AssertionError, match="Rule: every setting has a type that YAML can write, and a default"
    ):
        CHECKS[1](GeneratorCase(NoDefault(inner=3)))
