r"""The reconstruction check: does the codec rebuild checkpoints it has not seen?

If it does not, diffusion on its latents can only produce noise, and the reason is worth a sentence. Held-out
members are encoded, decoded and, where there is feedback, scored beside the members themselves; without one,
their explained variance ``1 - sum ||x - x'||^2 / sum ||x - mean||^2`` decides.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paramdiff.devices import READ_AT_ONCE, blocks, evenly_spaced, pieces_within
from paramdiff.errors import check_choice
from paramdiff.generators.context import Matrix, Score
from paramdiff.seeds import generator
from paramdiff.settings import FACTOR, Range, Ranges, check_ranges

if TYPE_CHECKING:
    from paramdiff.chance import Chance
    from paramdiff.generators.imitation import Imitation

MOST_HELD = 32
"""More held-out members would cost scoring time and tell little more."""

MOST_SEEN = 512
"""Fitted members whose explained variance is looked at."""

HALF = 0.5
"""Explained variance below which a reconstruction counts as failed where nothing can be scored."""

AVERAGING = 0.1
"""Explained variance below which a reconstruction is practically the mean of the zoo."""


def split(k: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of members to fit and members to hold out: at least 2 of these, none if K < 10."""
    held = min(MOST_HELD, max(2, round(fraction * k))) if k >= 10 and fraction > 0 else 0
    order = torch.randperm(k, generator=generator("held out", seed))
    return order[held:].sort().values, order[:held].sort().values


@dataclass
class ReconstructionCheck:
    """Settings of the reconstruction check.

    Attributes:
        action: what a failed check does: ``warn``, ``stop`` (before the prior is fitted), or ``off`` for no check.
        tolerance: the drop of the score that reconstructions may have.
        held_out: fraction of members that are not fitted, for the check and to see when the prior has learnt
            enough; at least 2 members, none if K < 10.
        imitation: steps by which latents of held-out members are moved to where the decoded network does what the
            member does (:mod:`paramdiff.generators.imitation`); 0 takes the encoder's latents.
    """

    action: str = "warn"
    tolerance: float = 0.02
    held_out: float = 0.1
    imitation: int = 0

    FORMERLY: ClassVar[Mapping[str, str]] = {"action": "gate"}
    RANGES: ClassVar[Ranges] = {
        "tolerance": FACTOR, "held_out": Range(least=0, most=0.5), "imitation": Range(least=0, most=1_000_000),
    }  # fmt: skip

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("action", self.action, ("warn", "stop", "off"))


@dataclass(frozen=True)
class ReconstructionResult:
    """What the check found.

    Attributes:
        held_out: number of held-out members; 0 if K is too small, then fitted members are looked at.
        members, reconstructed: mean scores before and after, ``None`` without feedback.
        tolerance: the drop of the score that is accepted.
        explained_variance: of held-out members; ``None`` if none were held out.
        explained_variance_train: of the members the codec was fitted on.
        remedy: how this codec is made larger, as an imperative.
        chance: what a network that knows nothing scores; ``None`` if that is not known.
        divergences: of outputs of reconstructions, and of other members, from the members', where latents were moved
            to imitate these; else ``None``.
        trained: whether the decoder was trained through what its networks do.
    """

    held_out: int
    members: float | None
    reconstructed: float | None
    tolerance: float
    explained_variance: float | None
    explained_variance_train: float
    remedy: str
    chance: "Chance | None" = None
    divergences: tuple[float, float] | None = None
    trained: bool = False

    @classmethod
    def measure(
        cls, reconstruct: Callable[[Tensor], Tensor], train: Matrix, held: Matrix, feedback: Score | None,
        tolerance: float, remedy: str, imitation: "Imitation | None" = None, trained: bool = False,
    ) -> "ReconstructionResult":  # fmt: skip
        """Reconstruct fitted and held-out members and compare, some at a time if they are long.

        Args:
            imitation: reconstructs the held-out ones in place of ``reconstruct``.
        """
        mean = _mean(train)
        seen = _Seen(reconstruct, mean, None).over(
            train[evenly_spaced(len(train), MOST_SEEN)] if len(held) else train[:0]
        )
        unseen = _Seen(imitation or reconstruct, mean, feedback, imitation)
        unseen.over(held if len(held) else train)
        return cls(
            held_out=len(held),
            members=unseen.members,
            reconstructed=unseen.reconstructed,
            tolerance=tolerance,
            explained_variance=unseen.explained if len(held) else None,
            explained_variance_train=(seen if len(held) else unseen).explained,
            remedy=remedy,
            chance=getattr(feedback, "chance", None),
            divergences=unseen.divergences,
            trained=trained,
        )

    @property
    def explained(self) -> float:
        """Of held-out members where there are some, else of the fitted ones."""
        unseen = self.explained_variance
        return self.explained_variance_train if unseen is None else unseen

    @property
    def loss(self) -> float | None:
        """The drop of the score; ``None`` without feedback, or if a score is not finite."""
        if self.members is None or self.reconstructed is None:
            return None
        loss = self.members - self.reconstructed
        return loss if math.isfinite(loss) else None

    @property
    def passed(self) -> bool:
        if self.members is None:
            return self.explained >= HALF
        return self.loss is not None and self.loss <= self.tolerance

    @property
    def void(self) -> bool:
        """Whether passing means nothing, because the members themselves hardly score above chance."""
        return self.chance is not None and self.members is not None and self.chance.near(self.members)

    @property
    def outcome(self) -> str:
        """In a word, for people."""
        if not self.passed:
            return "FAILED"
        return "says nothing" if self.void else "passed"

    @property
    def why(self) -> str:
        """One sentence: what was seen, and if it failed the likely cause."""
        return self._praise() if self.passed else f"{self._seen()}: {self._cause()}"

    def _praise(self) -> str:
        if self.void and self.chance is not None:
            level = abs(self.chance.level)
            return (
                f"{self._seen()}, which is near chance ({level:.4g}): nothing was learnt that could be lost"
            )
        if self.explained >= AVERAGING:
            return self._seen()
        if self.trained or self.divergences:
            return f"{self._seen()}: other networks that do as well, not the members themselves"
        return (
            f"{self._seen()}, although they keep next to none of the variance: the decoder returns nearly "
            "the mean of the zoo, so samples will be averages"
        )

    def _seen(self) -> str:
        which = f"{self.held_out} held-out members" if self.held_out else "the members it was fitted on"
        text = f"reconstructions of {which} keep {max(0.0, self.explained):.0%} of the variance"
        if self.members is None:
            return text
        text = f"{text} and score {self.reconstructed:.4g} where the members score {self.members:.4g}"
        if self.divergences is None:
            return text
        own, others = self.divergences
        return f"{text} (their outputs are {own:.3g} from the members', those of other members {others:.3g})"

    def _cause(self) -> str:
        if self.trained:
            return (
                "the decoder was trained through what its networks do, which led away from what these members do; "
                "raise behaviour.imitation, lower behaviour.lr, or keep fewer components"
            )
        train, held = self.explained_variance_train, self.explained_variance
        if held is not None and held < HALF * train:
            return (
                f"fitted members are reconstructed better ({train:.0%}), so each member varies in directions "
                "of its own, as independent seeds do, most of all before their neurons are aligned, or K is too small"
            )
        if train < HALF:
            return (
                f"even fitted members keep only {train:.0%}, so the autoencoder is too small or had too few "
                f"steps; {self.remedy}"
            )
        return f"the network is sensitive to what is lost; {self.remedy}"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; ``None`` where there is none."""
        names = ("members", "reconstructed", "loss", "explained_variance", "explained_variance_train")
        numbers = {name: _finite(getattr(self, name)) for name in names}
        fixed = {
            "passed": self.passed,
            "void": self.void,
            "held_out": self.held_out,
            "tolerance": self.tolerance,
            "why": self.why,
        }
        if self.divergences:
            own, others = map(_finite, self.divergences)
            numbers |= {"divergence": own, "divergence_of_others": others}
        return {**fixed, **numbers}


class _Seen:
    """Members beside their reconstructions: sums of squares, and scores if there is feedback."""

    def __init__(
        self, reconstruct: Callable[[Tensor], Tensor], mean: Tensor, feedback: Score | None,
        imitation: "Imitation | None" = None,
    ) -> None:  # fmt: skip
        self.reconstruct, self.mean, self.feedback, self.imitation = reconstruct, mean, feedback, imitation
        self.error = self.spread = 0.0
        self.scores: list[tuple[Tensor, Tensor]] = []
        self._divergences: list[Tensor] = []

    def over(self, rows: Matrix) -> "_Seen":
        """Look at all of them, in blocks that fit into memory."""
        for some in blocks(len(rows), pieces_within(READ_AT_ONCE, rows.shape[1])):
            x = rows[some][:, :]
            again = self.reconstruct(x)
            error, spread = _squares(x, again, self.mean)
            self.error, self.spread = self.error + error, self.spread + spread
            if self.feedback is not None:
                self.scores.append((self.feedback(x).double().cpu(), self.feedback(again).double().cpu()))
            if self.imitation is not None:
                self._divergences.append(self.imitation.divergences(again, x))
        return self

    @property
    def explained(self) -> float:
        return _explained(self.error, self.spread)

    @property
    def divergences(self) -> tuple[float, float] | None:
        """Of reconstructions and of other members, in the mean; None without imitation."""
        if not self._divergences:
            return None
        own, others = torch.cat(self._divergences, 1).mean(1).tolist()
        return own, others

    @property
    def members(self) -> float | None:
        return self._mean_score(0)

    @property
    def reconstructed(self) -> float | None:
        return self._mean_score(1)

    def _mean_score(self, which: int) -> float | None:
        return float(torch.cat([pair[which] for pair in self.scores]).mean()) if self.scores else None


def _mean(x: Matrix) -> Float[Tensor, "D"]:
    columns = blocks(x.shape[1], pieces_within(READ_AT_ONCE, len(x)))
    return torch.cat([x[:, block].mean(0) for block in columns])


def explained_variance(
    x: Float[Tensor, "n D"], again: Float[Tensor, "n D"], mean: Float[Tensor, "D"]
) -> float:
    """1 for a perfect reconstruction, 0 for one that is as good as the mean, negative if worse."""
    return _explained(*_squares(x, again, mean))


def _squares(x: Tensor, again: Tensor, mean: Tensor) -> tuple[float, float]:
    """Of the errors, and of the deviations from the mean."""
    error, spread = ((a - b).double().square().sum().item() for a, b in ((x, again), (x, mean)))
    return error, spread


def _explained(error: float, spread: float) -> float:
    return 1 - error / spread if spread > 0 else 0.0


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
