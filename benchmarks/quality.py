"""What samples are worth: mean accuracy on the test images, and mean error-IoU among them."""

from torch import Tensor

from paramdiff.error_iou import error_iou
from paramdiff.evaluation.similarity import within
from paramdiff.scoring.scorer import Scorer


def accuracy_and_similarity(scorer: Scorer, vectors: Tensor) -> tuple[float, float | None]:
    """Of these networks; the similarity of a single one is None."""
    scores = scorer.score(vectors, "test")
    wrong = ~scores.outcomes["correct"]
    return float(scores.metric.mean()), within(error_iou(wrong, wrong))
