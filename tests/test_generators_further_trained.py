"""Networks trained further from members, the average, untrained networks or samples, each on batches of its own."""

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
    same = drawn("average", 11, steps=3)
    assert not torch.equal(same[0], same[10]) and not torch.equal(
        same[:1], drawn("average", 1, seed=1, steps=3)
    )


def test_no_step_is_where_they_start():
    reference = ZOO.vectors[:2]
    torch.testing.assert_close(drawn("samples", reference=reference, steps=0), ZOO.vectors[[0, 1, 0]])
    torch.testing.assert_close(drawn("average", 1, steps=0)[0], ZOO.vectors.mean(0))


def test_the_rate_falls_to_nothing():
    """The last of many steps moves next to nothing, whatever its gradient."""
    batches: list[Tensor] = []

    class Watched(OwnBatches):
        def training_loss(self, vectors: Tensor, *rest: int) -> tuple[Tensor, Tensor]:
            batches.append(vectors.clone())
            return super().training_loss(vectors, *rest)

    made = make("further-trained", steps=30).fit(ZOO)
    last = made.sample(20, context=FitContext(Watched(ZOO.vectors)))
    assert len(batches) == 30
    assert float((last - batches[-1]).norm()) < 0.05 * float((batches[1] - batches[0]).norm())


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
