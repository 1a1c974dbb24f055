"""Members trained further: against Adam written out, and what each sample may depend on."""

import pytest
import torch

from paramdiff.errors import ConfigError, GeneratorError
from paramdiff.generators import make
from paramdiff.generators.context import FitContext
from paramdiff.seeds import mix
from toy_zoos import ToyFeedback, curve, toy_zoo


def test_it_is_adam_in_normalised_coordinates():
    """One sample from the second chunk, with the steps written out in float64."""
    zoo = toy_zoo(curve(8, 12) * torch.logspace(-3, 1, 12))
    feedback = ToyFeedback(zoo.vectors)
    sample = (
        make("fine-tuned", steps=7, lr=0.1)
        .fit(zoo)
        .sample(22, seed=3, context=FitContext(feedback))[21]
        .double()
    )
    center, scale = zoo.vectors.double().mean(0), zoo.vectors.double().std(0, correction=0)

    def trained(v: torch.Tensor) -> torch.Tensor:
        x, first, second = (v - center) / scale, 0.0, 0.0
        for step in range(7):
            raw = (center + scale * x).float()[None]
            gradient = feedback.gradients(raw, mix("fine-tuned", 3, step))[0].double() * scale
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            update = (first / (1 - 0.9 ** (step + 1))) / (second / (1 - 0.999 ** (step + 1))).sqrt()
            x = x - 0.1 * update
        return center + scale * x

    candidates = torch.stack([trained(v) for v in zoo.vectors.double()])
    distances = ((candidates - sample) / scale).norm(dim=1).sort().values
    assert distances[0] < 1e-3 and distances[1] > 0.1


def test_training_helps_and_starts_from_different_members():
    zoo = toy_zoo(curve(10, 20))
    feedback = ToyFeedback(zoo.vectors)
    generator = make("fine-tuned").fit(zoo)
    samples = generator.sample(20, context=FitContext(feedback))
    assert float(feedback(samples).mean()) > float(feedback(zoo.vectors).mean())
    untouched = make("fine-tuned", lr=1e-6).fit(zoo).sample(20, context=FitContext(feedback))
    nearest = torch.cdist(untouched, zoo.vectors).min(1)
    assert float(nearest.values.max()) < 1e-3 and len(nearest.indices.unique()) > 5


def test_batches_follow_from_the_seed_and_the_step_alone():
    zoo = toy_zoo(curve(5, 9))
    feedback = ToyFeedback(zoo.vectors)
    make("fine-tuned", steps=3).fit(zoo).sample(21, seed=4, context=FitContext(feedback))
    assert feedback.asked == 2 * [mix("fine-tuned", 4, step) for step in range(3)]


def test_coordinates_that_hardly_vary_are_trained_too():
    """Gradients by a coordinate of deviation 1e-6 are below Adam's usual eps."""
    vectors = curve(6, 10) * 1e-5
    samples = (
        make("fine-tuned", steps=1, lr=0.5)
        .fit(toy_zoo(vectors))
        .sample(4, context=FitContext(ToyFeedback(vectors)))
    )
    moved = torch.cdist(samples / vectors.std(0, correction=0), vectors / vectors.std(0, correction=0)).min(1)
    assert float(moved.values.min()) > 0.5


def test_settings_are_read_when_sampling():
    zoo = toy_zoo(curve(5, 9))
    feedback = ToyFeedback(zoo.vectors)
    generator = make("fine-tuned", steps=3, lr=0.2).fit(zoo)
    for key, value in {"steps": 5, "lr": 0.01}.items():
        assert key in generator.sampling
        setattr(generator, key, value)
    again = make("fine-tuned", steps=5, lr=0.01).fit(zoo)
    assert torch.equal(
        generator.sample(3, context=FitContext(feedback)), again.sample(3, context=FitContext(feedback))
    )
    assert generator.label == "fine-tuned-5"


def test_what_it_needs_is_named():
    generator = make("fine-tuned").fit(toy_zoo(curve(4, 9)))
    for feedback in (None, lambda v: v[:, 0]):
        with pytest.raises(
            GeneratorError, match="fine-tuned has no training data to look at; expected feedback"
        ):
            generator.sample(1, context=FitContext(feedback))
    with pytest.raises(ConfigError, match="steps: 0 is out of range; expected at least 1"):
        make("fine-tuned", steps=0)
    with pytest.raises(ConfigError, match="lr: 0 is out of range; expected more than 0"):
        make("fine-tuned", lr=0)
