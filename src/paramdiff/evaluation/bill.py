"""Is a generator worth its bill? Networks from several starts, each trained for k more steps, at an equal bill.

A sample that took ``b`` gradient steps, its share of the fit included, has to be better than what ``b`` steps make of
an untrained network, of the average, of a member, and of the samples of a generator that was fitted without them.
The zoo has to earn its place in the same way: the generator has to be better than the same one fitted without a zoo,
and, once the zoo's training is paid for, than networks trained from scratch for as long as both took together.

*Better* is a matter of the task's metric, as a mean over networks, and of the NLL of the largest ensembles: at least
one is clearly better and none clearly worse, by intervals that are paired over the same test items.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from paramdiff.evaluation.comparison import per_item
from paramdiff.evaluation.cost import further
from paramdiff.evaluation.ensembles import Ensembles, ensembles_of, from_tensors, to_tensors
from paramdiff.evaluation.results_schema import Bill, BilledCurve, BilledPoint, BillVersus, Cost, Versus
from paramdiff.evaluation.statistics import paired_difference_ci
from paramdiff.evaluation.summary import bounds, finite
from paramdiff.scoring.scores import Scores

SCRATCH, AVERAGE, MEMBER, MAIN, TWIN, OTHER = "scratch", "average", "member", "main", "twin", "other"
"""Kinds of starts: an untrained network, the average, a random member; samples of the run's generator, of the same
generator without a zoo, of another one."""

RIVALS = {
    SCRATCH: "networks from scratch", AVERAGE: "the average trained further", MEMBER: "originals trained further",
}  # fmt: skip
"""Plain rivals in a sentence."""

OUTCOMES = {
    "better": "better than", "worse": "worse than", "mixed": "in one measure better and in one worse than",
    "no clear difference": "without a clear difference to",
}  # fmt: skip

NEAR = 1.0
"""Steps by which two bills may differ that count as equal: numbers of steps are whole, shares of a fit are not."""


@dataclass(frozen=True)
class Budget:
    """What a network of the generator costs where it is compared.

    Attributes:
        extra: steps that its samples are trained further: none if they took any before.
        own: gradient steps, those included.
        total: the same with the zoo; None if it is not known how the members were trained.
    """

    extra: int
    own: float
    total: float | None

    @classmethod
    def of(cls, main: Cost, steps: Sequence[int]) -> "Budget":
        own = main["gradient_steps"] or 0.0
        extra = 0 if own >= NEAR else max(steps)
        total = main["with_zoo"]
        return cls(extra, own + extra, None if total is None else total + extra)

    def counts(self, steps: Iterable[int], start: Cost) -> list[int]:
        """Steps after which networks from a start are scored: those asked for, and those that make its bill equal."""
        ends = ((start["gradient_steps"], self.own), (start["with_zoo"], self.total))
        left = [round(end - begin) for begin, end in ends if begin is not None and end is not None]
        return sorted({0, self.extra, *steps, *(count for count in left if count >= 0)})


@dataclass(frozen=True)
class Point:
    """Networks of one start after some steps.

    Attributes:
        steps: more steps.
        cost: per network, the start's included.
        test: [n], the task's first metric.
        items: [items], their mean for every test item; None if the metric is no mean over items.
        together: the largest ensembles of them, if the task has any.
    """

    steps: int
    cost: Cost
    test: Tensor
    items: Tensor | None
    together: Ensembles | None

    @classmethod
    def read(cls, steps: int, start: Cost, tensors: Mapping[str, Tensor]) -> "Point":
        """From what :func:`kept` made of its scores."""
        ensembles = [one for one in from_tensors(tensors) if one.m > 1]
        largest = ensembles[-1] if ensembles else None
        return cls(steps, further(start, steps), tensors["test"], tensors.get("items"), largest)

    @property
    def nll(self) -> float | None:
        known = None if self.together is None else self.together.measures.get("nll")
        return None if known is None else finite(known.mean())

    def to_json(self, higher_is_better: bool) -> BilledPoint:
        worst = self.test.min() if higher_is_better else self.test.max()
        return {
            "steps": self.steps, "gradient_steps": self.cost["gradient_steps"], "with_zoo": self.cost["with_zoo"],
            "mean": finite(self.test.mean()), "worst": finite(worst), "nll": self.nll,
        }  # fmt: skip


def kept(scores: Scores) -> dict[str, Tensor]:
    """What is kept of test scores, to store as safetensors."""
    values = per_item(scores)
    items = {} if values is None else {"items": values.double().mean(0)}
    return {"test": scores.metric} | items | to_tensors(ensembles_of(scores))


@dataclass(frozen=True)
class Curve:
    """Networks of one start after growing numbers of steps.

    Attributes:
        name: in words.
        kind: of the start.
        points: by growing steps.
    """

    name: str
    kind: str
    points: Sequence[Point]

    def at(self, bill: float | None, zoo: bool) -> Point | None:
        """The point with this bill, with the zoo's training or without; None if there is none."""
        found = [(point.cost["with_zoo" if zoo else "gradient_steps"], point) for point in self.points]
        near = [
            (abs(cost - bill), point.steps, point)
            for cost, point in found
            if cost is not None and bill is not None and abs(cost - bill) <= NEAR
        ]
        return min(near, key=lambda one: one[:2])[2] if near else None


def bill_of(curves: Sequence[Curve], budget: Budget, metric: str, higher_is_better: bool) -> Bill:
    """The record of all curves, the comparisons with the run's generator, and what they say.

    Args:
        curves: exactly one of them of the kind ``main``.
        budget: where they are compared.
        metric: name of the task's first metric.
        higher_is_better: its direction.
    """
    main = next(curve for curve in curves if curve.kind == MAIN)
    mine = next(point for point in main.points if point.steps == budget.extra)
    rivals = [curve for curve in curves if curve is not main]
    found = [
        _versus(mine, point, curve, zoo, higher_is_better)
        for zoo, bill in ((False, budget.own), (True, budget.total))
        for curve in rivals
        if (curve.kind in (SCRATCH, TWIN) or not zoo) and (point := curve.at(bill, zoo)) is not None
    ]
    kinds = {curve.name: curve.kind for curve in rivals}
    worth = {
        "generator": _worth(found, kinds, (SCRATCH, AVERAGE, MEMBER), False),
        "zoo": _zoo_worth(found, kinds),
    }
    return {
        "n": len(mine.test), "m": None if mine.together is None else mine.together.m,
        "curves": [_to_json(curve, higher_is_better) for curve in curves],
        "comparisons": found, "worth": worth, "why": Sentence(main.name, mine, budget, metric, kinds).of(found, worth),
    }  # fmt: skip


def _to_json(curve: Curve, higher_is_better: bool) -> BilledCurve:
    points = [point.to_json(higher_is_better) for point in curve.points]
    return {"name": curve.name, "kind": curve.kind, "points": points}


def _versus(mine: Point, theirs: Point, curve: Curve, zoo: bool, higher_is_better: bool) -> BillVersus:
    score = _difference(mine.test, theirs.test, mine.items, theirs.items)
    nll = _nll_difference(mine.together, theirs.together)
    said = {_said(score, higher_is_better), _said(nll, higher_is_better=False)} - {""}
    outcome = said.pop() if len(said) == 1 else "mixed" if said else "no clear difference"
    return {
        "against": curve.name, "steps": theirs.steps, "with_zoo": zoo, "mean": finite(theirs.test.mean()),
        "nll": theirs.nll, "score_difference": score, "nll_difference": nll, "outcome": outcome,
    }  # fmt: skip


def _difference(mine: Tensor, theirs: Tensor, items: Tensor | None, others: Tensor | None) -> Versus:
    interval = None if items is None or others is None else bounds(paired_difference_ci(items, others))
    return {"difference": finite(mine.double().mean() - theirs.double().mean()), "ci95": interval}


def _nll_difference(mine: Ensembles | None, theirs: Ensembles | None) -> Versus | None:
    if mine is None or theirs is None or "nll" not in mine.items or "nll" not in theirs.items:
        return None
    return _difference(mine.measures["nll"], theirs.measures["nll"], mine.items["nll"], theirs.items["nll"])


def _said(versus: Versus | None, higher_is_better: bool) -> str:
    """``better``, ``worse``, or nothing where the interval has both signs or is not known."""
    interval = versus["ci95"] if versus else None
    if interval is None or interval[0] is None or interval[1] is None or interval[0] <= 0 <= interval[1]:
        return ""
    return "better" if (interval[0] > 0) == higher_is_better else "worse"


def _worth(
    found: Sequence[BillVersus], kinds: Mapping[str, str], among: Sequence[str], zoo: bool
) -> bool | None:
    """Whether it is better than all rivals of some kinds; None if there are none."""
    outcomes = [one["outcome"] for one in found if kinds[one["against"]] in among and one["with_zoo"] == zoo]
    return all(outcome == "better" for outcome in outcomes) if outcomes else None


def _zoo_worth(found: Sequence[BillVersus], kinds: Mapping[str, str]) -> bool | None:
    """Whether it is better than without a zoo, and than what can be had for the zoo's training."""
    parts = [_worth(found, kinds, (TWIN,), False), _worth(found, kinds, (SCRATCH, TWIN), True)]
    known = [part for part in parts if part is not None]
    return all(known) if known else None


@dataclass(frozen=True)
class Sentence:
    """What the comparisons say, in words; other generators are left to the figure.

    Attributes:
        name: of the generator.
        mine: its networks.
        budget: what they cost.
        metric: name of the task's first metric.
        kinds: of the rivals' starts, by name.
    """

    name: str
    mine: Point
    budget: Budget
    metric: str
    kinds: Mapping[str, str]

    def of(self, found: Sequence[BillVersus], worth: Mapping[str, bool | None]) -> str:
        """All of it: the numbers at an equal bill, first without the zoo, then with it, and what follows."""
        more = f" and {self.budget.extra:,} more steps" if self.budget.extra else ""
        own = f"{self.name}{more} reaches {self._numbers(finite(self.mine.test.mean()), self.mine.nll)}"
        text = f"at {_steps(self.budget.own)} per network {own}"
        text += self._against([one for one in found if not one["with_zoo"]])
        paid = [one for one in found if one["with_zoo"]]
        if paid and self.budget.total is not None:
            text += f". At {_steps(self.budget.total)}, its share of the zoo's training included, it is"
            text += self._against(paid).removeprefix(",")
        return f"{text}. {_follows(worth)}"

    def _against(self, found: Sequence[BillVersus]) -> str:
        """The rivals by outcome, other generators left out."""
        text = ""
        for outcome, words in OUTCOMES.items():
            some = [one for one in found if one["outcome"] == outcome and self.kinds[one["against"]] != OTHER]
            rivals = [f"{self._rival(one)} ({self._numbers(one['mean'], one['nll'])})" for one in some]
            text += f", {words} {' and '.join(rivals)}" if rivals else ""
        return text

    def _rival(self, one: BillVersus) -> str:
        kind = self.kinds[one["against"]]
        return RIVALS.get(kind) or f"{one['against']}{' trained further' if one['steps'] else ''}"

    def _numbers(self, mean: float | None, nll: float | None) -> str:
        percent = self.metric == "accuracy"
        score = "-" if mean is None else f"{100 * mean:.2f}%" if percent else f"{self.metric} {mean:.4g}"
        m = self.mine.together.m if self.mine.together is not None else 0
        return score if nll is None else f"{score}, NLL of {m} together {nll:.3g}"


def _follows(worth: Mapping[str, bool | None]) -> str:
    words = {True: "is worth its bill", False: "is not worth its bill", None: "cannot be priced here"}
    return f"The generator {words[worth['generator']]}; the zoo {words[worth['zoo']]}"


def _steps(count: float) -> str:
    return f"{count:,.0f} gradient steps"


def split(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Tensors ``<steps>.<name>`` of a file by steps."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        steps, _, name = key.partition(".")
        found.setdefault(int(steps), {})[name] = tensor
    return dict(sorted(found.items()))
