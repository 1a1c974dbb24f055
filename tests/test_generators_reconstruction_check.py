import json
from typing import Any

import pytest
import torch
from torch import Tensor

from paramdiff.chance import Chance
from paramdiff.errors import ConfigError, ZooError
from paramdiff.generators import Generator
from paramdiff.generators.context import FitContext
from paramdiff.generators.diffusion import LatentDiffusion
from paramdiff.generators.reconstruction_check import (
    MOST_HELD,
    ReconstructionResult,
    explained_variance,
    split,
)
from toy_zoos import curve, quick, scattered, toy_zoo

KEYS = {"passed", "void", "held_out", "members", "reconstructed", "loss", "tolerance", "explained_variance",
        "explained_variance_train", "why"}  # fmt: skip


def linear(**settings: Any) -> Generator:
    return quick("p-diff-linear", **settings)


def measure(reconstruct: Any, feedback: Any = None, held: int = 4) -> ReconstructionResult:
    x = torch.cat([scattered(50, 30), -scattered(50, 30)])  # their mean is zero
    x = x[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    return ReconstructionResult.measure(reconstruct, x[held:], x[:held], feedback, 0.02, "raise components")


@pytest.mark.parametrize(("k", "held"), [(2, 0), (9, 0), (10, 2), (30, 3), (200, 20), (5000, MOST_HELD)])
def test_a_tenth_is_held_out(k: int, held: int):
    rows, out = split(k, 0.1, seed=0)
    assert len(out) == held
    assert sorted([*rows.tolist(), *out.tolist()]) == list(range(k))
    assert torch.equal(out, split(k, 0.1, seed=0)[1])
    assert len(split(k, 0.0, seed=0)[1]) == 0
    if held > 2:
        assert not torch.equal(out, split(k, 0.1, seed=1)[1])


def test_explained_variance():
    x, mean = scattered(5, 9), torch.zeros(9)
    assert explained_variance(x, x, mean) == 1
    assert explained_variance(x, torch.zeros(5, 9), mean) == 0
    assert explained_variance(x, x / 2, mean) == pytest.approx(0.75)
    assert explained_variance(x[:1], x[:1] + 1, x[0]) == 0  # no spread: nothing to explain


def test_scores_decide_where_there_is_feedback():
    def feedback(x: Tensor) -> Tensor:
        return x.square().mean(1)

    good = measure(lambda x: x * 0.999, feedback)
    assert good.passed and 0 < good.loss < 0.02
    bad = measure(lambda x: x * 0.9, feedback)
    assert not bad.passed and bad.loss == pytest.approx(0.19 * bad.members)
    assert "and score" in bad.why and "the network is sensitive to what is lost; raise components" in bad.why


def test_passing_says_nothing_where_members_are_near_chance():
    class Known:
        chance = Chance(0.5, 245)

        def __call__(self, x: Tensor) -> Tensor:
            return torch.full((len(x),), self.score)

    feedback = Known()
    for feedback.score, void, word in ((0.51, True, "says nothing"), (0.9, False, "passed")):
        check = measure(lambda x: x, feedback)
        assert check.passed and (check.void, check.outcome, check.to_json()["void"]) == (void, word, void)
        assert ("which is near chance (0.5): nothing was learnt" in check.why) == void
    assert not measure(lambda x: x, lambda x: torch.full((len(x),), 0.5)).void, "nobody knows chance"


def test_a_score_that_is_not_finite_fails_and_is_json():
    check = measure(lambda x: x * 0.5, lambda x: torch.full((len(x),), float("nan")))
    assert not check.passed
    assert json.loads(json.dumps(check.to_json(), allow_nan=False))["members"] is None


def test_an_average_that_scores_well_passes_and_is_called_an_average():
    check = measure(lambda x: x * 0, lambda x: torch.ones(len(x)))
    assert check.passed and check.explained == pytest.approx(0, abs=0.1)
    assert "nearly the mean of the zoo, so samples will be averages" in check.why


def test_members_in_directions_of_their_own_are_named():
    check = (
        linear(autoencoder={"components": 64}).fit(toy_zoo(scattered(20, 200))).notes["reconstruction_check"]
    )
    assert check.keys() == KEYS and not check["passed"] and check["held_out"] == 2
    assert check["explained_variance"] < 0.3 and check["explained_variance_train"] == pytest.approx(
        1, abs=1e-4
    )
    assert "as independent seeds do" in check["why"] and "K is too small" in check["why"]


def test_a_codec_that_is_too_small_is_named():
    check = measure(lambda x: x * 0.1).to_json()
    assert not check["passed"] and check["explained_variance"] == pytest.approx(0.19, abs=0.03)
    assert (
        "even fitted members keep only" in check["why"] and "too few steps; raise components" in check["why"]
    )


def test_a_trajectory_passes():
    check = linear().fit(toy_zoo(curve(40, 60))).notes["reconstruction_check"]
    assert check["passed"] and check["explained_variance"] > 0.99
    assert check["members"] is None and check["loss"] is None and check["tolerance"] == 0.02


def test_small_zoos_are_judged_by_the_members_themselves():
    check = linear().fit(toy_zoo(curve(5, 60)), FitContext(lambda v: v.mean(1))).notes["reconstruction_check"]
    assert check["held_out"] == 0 and check["explained_variance"] is None and check["passed"]
    assert check["members"] == pytest.approx(check["reconstructed"], abs=1e-4)


def test_feedback_sees_raw_vectors():
    vectors, seen = curve(20, 30), []
    linear().fit(toy_zoo(vectors), FitContext(lambda v: (seen.append(v), v.mean(1))[1]))
    assert float(torch.cdist(seen[0], vectors).min(1).values.max()) < 1e-4


@pytest.mark.parametrize(("vectors", "watched"), [(curve(20, 200), 2), (scattered(20, 200), 0)])
def test_the_prior_watches_held_out_members_only_if_the_codec_rebuilds_them(
    vectors: Tensor, watched: int, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    fit = LatentDiffusion.fit
    monkeypatch.setattr(
        LatentDiffusion,
        "fit",
        lambda self, z, held, folder: (seen.append(len(held)), fit(self, z, held, folder)),
    )
    linear().fit(toy_zoo(vectors))
    assert seen == [watched]


def test_stop_raises_before_the_prior_is_fitted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "paramdiff.generators.diffusion.LatentDiffusion.fit", lambda *_: pytest.fail("fitted")
    )
    generator = linear(autoencoder={"components": 64}, reconstruction_check={"action": "stop"})
    with pytest.raises(
        ZooError,
        match=r"the reconstruction check failed: reconstructions of 2 held-out.*set reconstruction_check.action=warn",
    ):
        generator.fit(toy_zoo(scattered(20, 200)))


def test_warn_says_it_and_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.delenv("PARAMDIFF_QUIET")
    generator = linear(autoencoder={"components": 64}).fit(toy_zoo(scattered(20, 200)))
    assert "reconstruction check FAILED: reconstructions of 2 held-out members" in capsys.readouterr().err
    assert generator.sample(1).isfinite().all()


def test_off_says_nothing():
    assert (
        "reconstruction_check"
        not in linear(reconstruction_check={"action": "off"}).fit(toy_zoo(curve(20, 30))).notes
    )
    for wrong, text in [
        (
            {"action": "maybe"},
            "reconstruction_check.action: 'maybe' is not known; expected one of warn, stop, off",
        ),
        (
            {"held_out": 0.9},
            "reconstruction_check.held_out: 0.9 is out of range; expected at least 0 and at most 0.5",
        ),
        ({"tolerance": -1.0}, "reconstruction_check.tolerance: -1.0 is out of range"),
    ]:
        with pytest.raises(ConfigError, match=text):
            linear(reconstruction_check=wrong)
