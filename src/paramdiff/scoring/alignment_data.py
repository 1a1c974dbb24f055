"""What the methods of alignment see of a task's training data."""

from paramdiff.networks.recalibration import statistics_keys
from paramdiff.scoring.recalibration import RecalibratedFeedback, Recalibration
from paramdiff.scoring.scorer import Scorer
from paramdiff.zoo.alignment import AlignmentData
from paramdiff.zoo.learnt_matching import STEPS, MidpointFeedback

ITEMS = 1000
"""Training items on which activations are compared."""

STATISTICS_OF = 256
"""Training items on which a midpoint's running statistics are measured, in every step."""


def alignment_data(scorer: Scorer, method: str) -> AlignmentData | None:
    """What a method needs; the data is read now for ``activations``, at the first use for ``loss``."""
    if method == "activations":
        batches = [scorer.inputs(batch) for batch in scorer.training_subset(ITEMS)]
        return AlignmentData(batches, call=scorer.call, device=scorer.device)
    return AlignmentData(feedback=midpoint_feedback(scorer), steps=STEPS) if method == "loss" else None


def midpoint_feedback(scorer: Scorer) -> MidpointFeedback:
    """Feedback on mixtures of members: statistics of BatchNorm that were averaged fit no mixture."""
    feedback, spec = scorer.feedback(), scorer.spec
    if statistics_keys(scorer.shared.model).isdisjoint(spec.keys):
        return feedback
    return RecalibratedFeedback(feedback, Recalibration(scorer, STATISTICS_OF))
