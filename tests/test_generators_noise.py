"""Noise of a given amplitude, and of the amplitude that matches somebody else's samples."""

import pytest
import torch
from torch import Tensor

from paramdiff.errors import ConfigError, GeneratorError, TaskError
from paramdiff.generators import make
from paramdiff.generators.context import FitContext
from paramdiff.generators.noise import MEMBERS, SAMPLES, TOLERANCE, bisect
from toy_zoos import ToyFeedback, curve, scattered, toy_zoo


def test_noised_members_lie_at_the_amplitude_from_a_member():
    vectors = scattered(4, 4000) * torch.logspace(-3, 1, 4000)  # scales differ, the unit follows them
    zoo = toy_zoo(vectors)
    generator = make("noised", amplitude=0.2).fit(zoo)
    assert generator.label == "noised-0.2"
    deviation = vectors.std(0, correction=0)
    offsets = (generator.sample(20)[:, None] - vectors) / deviation
    size, nearest = offsets.square().mean(2).sqrt().min(1)
    assert size.tolist() == pytest.approx([0.2] * 20, rel=0.05)
    assert len(nearest.unique()) == 4


def test_noise_of_amplitude_zero_gives_members():
    vectors = curve(4, 9)
    samples = make("noised", amplitude=0.0).fit(toy_zoo(vectors)).sample(8)
    assert float(torch.cdist(samples, vectors).min(1).values.max()) < 1e-5
    with pytest.raises(ConfigError, match="amplitude: -1 is out of range; expected at least 0"):
        make("noised", amplitude=-1)


@pytest.mark.parametrize("amplitude", [0.02, 0.1, 0.6])
def test_the_amplitude_of_a_noised_reference_is_found(amplitude: float):
    zoo = toy_zoo(curve(40, 200))
    reference = make("noised", amplitude=amplitude).fit(zoo).sample(200)
    generator = make("matched-noise").fit(zoo, FitContext(ToyFeedback(zoo.vectors), reference=reference))
    matched = generator.notes["matched"]
    assert matched["by"] == "similarity" and 0 < matched["reference"] < 1
    assert matched["amplitude"] == pytest.approx(amplitude, rel=0.2)
    assert matched["own"] == pytest.approx(matched["reference"], abs=TOLERANCE)


def test_its_samples_have_the_amplitude_that_was_found():
    zoo = toy_zoo(scattered(4, 4000))
    generator = make("matched-noise").fit(
        zoo, FitContext(ToyFeedback(zoo.vectors), reference=make("noised", amplitude=0.2).fit(zoo).sample(20))
    )
    assert generator.label == "matched-noise"
    offsets = (generator.sample(20)[:, None] - zoo.vectors) / zoo.vectors.std(0, correction=0)
    size = offsets.square().mean(2).sqrt().min(1).values
    assert size.tolist() == pytest.approx([generator.notes["matched"]["amplitude"]] * 20, rel=0.05)


def test_a_generator_that_replays_members_is_matched_by_members():
    zoo = toy_zoo(curve(12, 30))
    generator = make("matched-noise").fit(zoo, FitContext(ToyFeedback(zoo.vectors), reference=zoo.vectors))
    assert generator.notes["matched"] == {
        "by": "similarity", "amplitude": 0.0, "own": 1.0, "reference": 1.0,
    }  # fmt: skip
    assert float(torch.cdist(generator.sample(8), zoo.vectors).min(1).values.max()) < 1e-5


def test_a_reference_unlike_any_noise_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Inverted(ToyFeedback):
        """The reference is wrong where all members are right."""

        def mistakes(self, vectors: Tensor) -> Tensor:
            return super().mistakes(vectors) ^ (vectors[:, :1] > 50)

    monkeypatch.delenv("PARAMDIFF_QUIET")
    vectors = curve(12, 30)
    reference = vectors[:2].clone()
    reference[:, 0] = 100
    make("matched-noise").fit(toy_zoo(vectors), FitContext(Inverted(vectors), reference=reference))
    said = capsys.readouterr().err
    assert "matched-noise: no amplitude gives the reference's similarity; this one comes closest" in said
    assert "matched-noise: amplitude " in said and "to the nearest member where the reference has" in said


def test_without_mistakes_the_distance_is_matched():
    class Unjudged(ToyFeedback):
        def mistakes(self, vectors: Tensor) -> Tensor:
            raise TaskError("no such outcome")

    vectors = scattered(6, 3000)
    vectors[:, :1000] = 0.7  # constant coordinates do not count
    zoo = toy_zoo(vectors)
    reference = make("noised", amplitude=0.25).fit(zoo).sample(20)
    matched = (
        make("matched-noise").fit(zoo, FitContext(Unjudged(vectors), reference=reference)).notes["matched"]
    )
    assert matched["by"] == "distance" and matched["amplitude"] == pytest.approx(0.25, rel=0.02)


def test_few_networks_are_scored():
    vectors = curve(3 * MEMBERS, 20)
    feedback = ToyFeedback(vectors)
    make("matched-noise").fit(toy_zoo(vectors), FitContext(feedback, reference=curve(5 * SAMPLES, 20)))
    assert feedback.scored == 280


def test_bisection_closes_in_from_both_sides():
    tried = bisect(lambda amplitude: 1 / (1 + amplitude), 0.8)
    nearest = min(tried, key=lambda a: abs(a - 0.25))
    assert nearest == pytest.approx(0.25, rel=0.04)
    assert min(tried) == 0 and any(0 < a < nearest for a in tried) and any(a > nearest for a in tried)


def test_what_matching_needs_is_named():
    zoo = toy_zoo(curve(4, 9))
    with pytest.raises(
        GeneratorError, match="matched-noise has no samples to match; expected samples of another"
    ):
        make("matched-noise").fit(zoo, FitContext(ToyFeedback(zoo.vectors)))
    with pytest.raises(
        GeneratorError, match="matched-noise has no training data to look at; expected feedback"
    ):
        make("matched-noise").fit(zoo, FitContext(lambda v: v[:, 0], reference=zoo.vectors))
