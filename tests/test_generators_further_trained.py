"""Networks trained further from members, the average, untrained networks or samples, each on batches of its own."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from paramdiff.errors import ConfigError, GeneratorError
from paramdiff.evaluation.cost import further
from paramdiff.generators import make
from paramdiff.generators.context import FitContext
from toy_zoos import ToyFeedback, curve, toy_zoo


class OwnBatches(ToyFeedback):
    """Training losses of networks that each see another batch, as a task has them."""

    def training_loss(
        self, vectors: Tensor, step: int, items: int, group: int = 1, repulsion: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        self.asked.append(step)
        each = [
            super(OwnBatches, self).training_loss(v[None], 1000 * step + i, items)
            for i, v in enumerate(vectors)
        ]
        return torch.cat([loss for loss, _ in each]), torch.cat([gradient for _, gradient in each])


ZOO = toy_zoo(curve(10, 20))


def drawn(start: str, n: int = 3, seed: int = 0, reference: Tensor | None = None, **settings: int) -> Tensor:
    feedback = OwnBatches(ZOO.vectors)
    made = make("further-trained", start=start, **settings).fit(ZOO, FitContext(reference=reference))
    return made.sample(n, seed, context=FitContext(feedback))


@pytest.mark.parametrize("start", ["member", "average", "random", "samples"])
def test_training_helps_from_every_start(start: str):
    feedback, reference = OwnBatches(ZOO.vectors), ZOO.vectors + 0.1
    few, many = (drawn(start, 4, reference=reference, steps=steps) for steps in (1, 40))
    assert float(feedback(many).mean()) > float(feedback(few).mean()) or start == "average"
    assert torch.equal(drawn(start, 4, reference=reference, steps=40), many)
    assert torch.equal(drawn(start, 2, reference=reference, steps=40), many[:2])
    assert len(many.unique(dim=0)) == 4, "those that start alike have batches of their own"


def test_batches_differ_from_chunk_to_chunk_and_by_seed():
    same = drawn("average", 21, steps=3)
    assert not torch.equal(same[0], same[20]) and not torch.equal(
        same[:1], drawn("average", 1, seed=1, steps=3)
    )


def test_several_counts_of_steps_are_one_training():
    feedback = OwnBatches(ZOO.vectors)
    made = make("further-trained", start="samples", steps=5).fit(ZOO, FitContext(reference=ZOO.vectors[:2]))
    found = made.after([0, 5, 9], 3, 0, context=FitContext(feedback))
    torch.testing.assert_close(found[0], ZOO.vectors[[0, 1, 0]])
    assert len(feedback.asked) == 9, "one step each, not 14"
    assert torch.equal(found[1], made.sample(3, 0, context=FitContext(feedback)))
    assert all(before < after for before, after in pairwise(feedback(v).mean().item() for v in found))


def test_what_it_owes():
    assert make("further-trained", start="random", steps=7).members_needed == 0
    assert make("further-trained", start="average").members_needed is None
    tuned = make("further-trained", start="samples", steps=7)
    assert tuned.continues and tuned.matches and tuned.gradient_steps_sampling == 7
    assert not make("further-trained").continues and not make("fine-tuned").continues
    assert further({"gradient_steps": 3.5, "with_zoo": None}, 7) == {"gradient_steps": 10.5, "with_zoo": None}
    assert tuned.label == "further-trained-from-samples-7"


def test_what_it_needs_is_named():
    with pytest.raises(ConfigError, match="start: 'zoo'"):
        make("further-trained", start="zoo")
    with pytest.raises(GeneratorError, match="further-trained has no samples to start from"):
        make("further-trained", start="samples").fit(ZOO)
    for start in ("member", "random"):
        with pytest.raises(GeneratorError, match="further-trained has no training data to look at"):
            make("further-trained", start=start).fit(ZOO).sample(1)
