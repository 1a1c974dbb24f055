r"""What a network that knows nothing scores, and whether a score is any better.

For a classification that is the share of the most frequent class. Over ``n`` items such a score scatters with a
standard error of :math:`\sqrt{c(1-c)/n}`, so what is no more than two of them above chance cannot be told from it;
and a network that avoids less than a tenth of chance's mistakes, and is right less than 1.5 times as often, has not
learnt much either.
"""

from dataclasses import dataclass

STANDARD_ERRORS = 2.0
OF_MISTAKES = 0.1
"""Share of the mistakes of chance that must be avoided; 0.55 where chance is 0.5."""

OF_CHANCE = 0.5
"""Share of chance itself that must be gained, which counts where there are many classes: 0.015 where it is 0.01."""

OF_LOSS = 0.05
"""Share of the loss of chance that must be gained, where the score is no fraction."""


@dataclass(frozen=True)
class Chance:
    """Chance on some data.

    Attributes:
        level: score of a network that knows nothing.
        items: of which the score is the share that is right; 0 if it is no share or they are not known.
        higher_is_better: direction of the score.
    """

    level: float
    items: int = 0
    higher_is_better: bool = True

    def near(self, score: float) -> bool:
        """Whether a score, say the mean of the originals, is hardly better than chance; not if it is NaN."""
        lead = score - self.level if self.higher_is_better else self.level - score
        return lead <= self.tolerance + 1e-12

    @property
    def tolerance(self) -> float:
        c = self.level
        if not (self.higher_is_better and 0 <= c <= 1):
            return OF_LOSS * abs(c)
        scatter = STANDARD_ERRORS * (c * (1 - c) / self.items) ** 0.5 if self.items else 0.0
        return max(scatter, min(OF_MISTAKES * (1 - c), OF_CHANCE * c))


def near_chance(score: float, chance: Chance | None, where: str, metric: str, training: str = "") -> str:
    """A sentence saying that originals are near chance; empty if they are not, or if chance is not defined.

    Args:
        score: their mean.
        where: on which data, e.g. ``the test data``.
        training: how long they were trained, if known, e.g. ``16 updates``.
    """
    if chance is None or not chance.near(score):
        return ""
    trained = f" after {training}" if training else ""
    return (
        f"the originals themselves are near chance on {where}{trained} (mean {metric} {score:.4g}, chance "
        f"{chance.level:.4g}), so nothing can be learnt from them: train them longer"
    )
