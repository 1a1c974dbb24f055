"""The contract of every generator, as checks that name the rule which is broken."""

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from paramdiff.errors import ConfigError, GeneratorError, ParamdiffError, ZooError
from paramdiff.generators.context import FitContext
from paramdiff.generators.generator import GENERATORS, Generator
from paramdiff.settings import get
from paramdiff.testing.rules import Rules
from paramdiff.testing.toys import ToyFeedback, curve, toy_zoo
from paramdiff.zoo.zoo import Zoo

K, DIM, POSITIVE, CONSTANT = 14, 33, 3, 4
"""The zoo of most checks: members, coordinates, how many of the last are positive, and which one is constant."""


def check_generator(generator: Generator) -> None:
    """Fit copies of a generator to small zoos and check the contract of generators.

    Args:
        generator: unfitted, with settings that fit in a moment; it is left as it is.

    Raises:
        AssertionError: a rule is broken; the message names the generator, the rule and what was seen.
    """
    case = GeneratorCase(generator)
    for check in CHECKS:
        check(case)


@dataclass(frozen=True)
class GeneratorCase(Rules):
    """A generator under test, and what it is fitted to."""

    generator: Generator

    @property
    def subject(self) -> Generator:
        return self.generator

    @cached_property
    def zoo(self) -> Zoo:
        vectors = curve(K, DIM).abs() + 0.1
        vectors[:, CONSTANT] = 0.7
        return toy_zoo(vectors, POSITIVE)

    @cached_property
    def fitted(self) -> Generator:
        return self.fit(self.zoo)

    def fit(self, zoo: Zoo) -> Generator:
        """A fitted copy."""
        return self.fresh().fit(zoo, self._context(zoo))

    def fresh(self) -> Generator:
        return deepcopy(self.generator)

    def sample(self, fitted: Generator, n: int, seed: int = 0) -> Float[Tensor, "n D"]:
        return fitted.sample(n, seed, context=self._context(self.zoo))

    def _context(self, zoo: Zoo) -> FitContext:
        """Some generators need feedback, or samples to match; others ignore them."""
        return FitContext(ToyFeedback(zoo.vectors), reference=zoo.vectors.flip(0)[:5] * 1.001)

    def require_error(
        self, call: Callable[[], Any], error: type[ParamdiffError], rule: str, what: str
    ) -> None:
        """Raise AssertionError unless the call raises this error, in one line."""
        try:
            call()
        except error as raised:
            self.require("\n" not in str(raised), "messages are one line", f"{what} raises several lines")
        except Exception as other:
            self.fail(what, other, rule)
        else:
            self.require(False, rule, f"{what} raises nothing")


def check_is_registered(case: GeneratorCase) -> None:
    name = case.generator.name
    rule = 'a generator has a name: decorate its class with @register("name"), above @dataclass'
    case.require(
        bool(name) and GENERATORS.known.get(name) is type(case.generator), rule, f"its name is {name!r}"
    )


def check_settings(case: GeneratorCase) -> None:
    kind = type(case.generator)
    case.require(is_dataclass(kind), "a generator is a dataclass of its settings", "it is no dataclass")
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    hidden = names & {key for key in vars(Generator) if not key.startswith("_")}
    case.require(
        not hidden, "no setting is called like something every generator has", f"settings {sorted(hidden)}"
    )
    rule = "every setting has a type that YAML can write, and a default"
    try:
        made = OmegaConf.to_object(OmegaConf.structured(kind))
    except (OmegaConfBaseException, ValueError) as error:
        raise AssertionError(f"{kind.__name__}: {error}. Rule: {rule}") from error
    case.require(made == kind(), rule, "a configuration of its defaults is not equal to them")


def check_settings_of_sampling(case: GeneratorCase) -> None:
    rule = "`sampling` and `knob` name settings, by dotted key"
    for key in (*case.generator.sampling, *filter(None, [case.generator.knob])):
        try:
            get(case.generator, key)
        except AttributeError:
            case.require(False, rule, f"there is no setting {key!r}")


def check_unfitted(case: GeneratorCase) -> None:
    rule = "what needs a fit says so, by GeneratorError"
    case.require_error(lambda: case.sample(case.fresh(), 1), GeneratorError, rule, "sample before fit")
    case.require_error(lambda: case.fresh().save("unfitted"), GeneratorError, rule, "save before fit")


def check_impossible_zoos(case: GeneratorCase) -> None:
    rule = "a zoo that tells nothing is refused by ZooError, and leaves the generator unfitted"
    identical, broken = torch.ones(3, DIM), curve(3, DIM)
    broken[1, 1] = torch.nan
    for what, vectors in (("one member", curve(1, DIM)), ("identical members", identical), ("NaN", broken)):
        generator = case.fresh()
        case.require_error(partial(generator.fit, toy_zoo(vectors)), ZooError, rule, f"a zoo of {what}")
        case.require(generator.normaliser is None, rule, f"it is fitted after a zoo of {what}")


def check_fit(case: GeneratorCase) -> None:
    before, generator = case.zoo.vectors.clone(), case.fresh()
    again = generator.fit(case.zoo, case._context(case.zoo))
    case.require(again is generator, "fit returns the generator itself", "it returns something else")
    case.require(torch.equal(before, case.zoo.vectors), "fit does not change the zoo", "vectors have changed")
    same = torch.equal(case.sample(again, 3), case.sample(case.fitted, 3))
    case.require(
        same, "two fits with equal settings are equal, bit for bit", "two fits draw different samples"
    )


def check_samples(case: GeneratorCase) -> None:
    x = case.sample(case.fitted, 50)
    case.require(x.shape == (50, DIM), "sample(n) is [n, D]", f"sample(50) is {list(x.shape)}, D = {DIM}")
    case.require(x.dtype == torch.float32, "samples are float32", f"they are {x.dtype}")
    case.require(bool(x.isfinite().all()), "samples are finite", "there is NaN or Inf")
    rule = "coordinates that are positive in the zoo are positive in samples"
    case.require(
        bool((x[:, -POSITIVE:] > 0).all()), rule, f"the smallest is {float(x[:, -POSITIVE:].min()):g}"
    )
    rule = "coordinates that are constant in the zoo keep their value"
    case.require(
        bool((x[:, CONSTANT] == case.zoo.vectors[0, CONSTANT]).all()), rule, "some sample has another one"
    )
    case.require_error(lambda: case.sample(case.fitted, 0), GeneratorError, "n is at least 1", "sample(0)")


def check_seeds(case: GeneratorCase) -> None:
    many = case.sample(case.fitted, 150, seed=3)
    for n in (1, 7, 101):
        rule = "sample i depends on i and the seed alone, not on n, nor on those it is drawn with"
        case.require(
            torch.equal(case.sample(case.fitted, n, seed=3), many[:n]),
            rule,
            f"sample({n}) is not the start of sample(150)",
        )
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = case.sample(case.fitted, 2, seed=3)
    rule = "randomness comes from paramdiff.seeds, not from torch's global state"
    case.require(torch.equal(before, torch.get_rng_state()), rule, "sampling changes the global state")
    case.require(torch.equal(again, many[:2]), rule, "samples follow the global state")
    if torch.equal(many[0], many[1]):
        return  # like the average, of which there is one
    rule = "another seed gives other samples"
    case.require(
        not torch.equal(case.sample(case.fitted, 2, seed=4), many[:2]), rule, "seeds 3 and 4 give the same"
    )


def check_guidance(case: GeneratorCase) -> None:
    """Of generators with this part; a copy of the fitted one is guided, as sampling needs no new fit."""
    if not hasattr(case.fitted, "guidance"):
        return
    generator, plain = deepcopy(case.fitted), case.sample(case.fitted, 21)
    for where in ("latents", "parameters"):
        generator.change({"guidance.steps": 2, "guidance.where": where, "guidance.lr": 0.01})
        what = f"with guidance in {where} "
        rule = (
            "a generator that takes steps down the training loss when it samples `asks`, and needs feedback"
        )
        case.require(generator.asks, rule, f"{what}it does not")
        case.require_error(
            partial(generator.sample, 1), GeneratorError, rule, f"{what}sample without feedback"
        )
        many = case.sample(generator, 21)
        rule = "guided sample i depends on i and the seed alone, not on n, nor on those it is drawn with"
        case.require(torch.equal(case.sample(generator, 2), many[:2]), rule, f"{what}two are not those of 21")
        rule = "guidance moves samples"
        case.require(not torch.equal(many, plain), rule, f"{what}they are as without")


def check_save_and_load(case: GeneratorCase) -> None:
    with TemporaryDirectory() as folder:
        case.fitted.save(Path(folder) / "g")
        again = Generator.load(Path(folder) / "g")
    rule = "load gives back what save was given"
    case.require(type(again) is type(case.fitted), rule, f"it loads as {type(again).__name__}")
    case.require(again == case.fitted, rule, f"settings differ: {again} and {case.fitted}")
    case.require(
        again.losses == case.fitted.losses and again.notes == case.fitted.notes,
        rule,
        "losses or notes differ",
    )
    case.require(
        torch.equal(case.sample(again, 12, 1), case.sample(case.fitted, 12, 1)), rule, "samples differ"
    )


def check_smallest_zoo(case: GeneratorCase) -> None:
    zoo, generator = toy_zoo(curve(2, 2)), case.fresh().adapted(2)
    rule = "two members of two parameters are fitted, unless `require` refuses them by ConfigError"
    with suppress(ConfigError):
        generator.require(2, 2)
        context = case._context(zoo)
        x = generator.fit(zoo, context).sample(3, context=context)
        case.require(
            x.shape == (3, 2) and bool(x.isfinite().all()), rule, "samples are not finite, or not [3, 2]"
        )


CHECKS: tuple[Callable[[GeneratorCase], None], ...] = (
    check_is_registered, check_settings, check_settings_of_sampling, check_unfitted, check_impossible_zoos, check_fit,
    check_samples, check_seeds, check_guidance, check_save_and_load, check_smallest_zoo,
)  # fmt: skip
"""In their order: the later ones rely on the earlier."""
