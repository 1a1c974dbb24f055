"""Zoos of a few members: every baseline, every number of a row, every point of a figure."""

import json

import pytest
import torch

from paramdiff.evaluation.comparison import Originals
from paramdiff.evaluation.evidence import Evidence
from paramdiff.evaluation.latent_projection import Paths, latent_map, noised
from paramdiff.evaluation.summary import arrays, summarise
from paramdiff.evaluation.verdict import verdict
from paramdiff.generators import make
from paramdiff.parameters.normaliser import Normaliser
from test_evaluation_summary import scored_of
from toy_zoos import curve, drawn_from, fitted_to, scattered, toy_zoo

PLAIN = (
    "average",
    "average-of-k",
    "noised",
    "matched-noise",
    "gaussian",
    "low-rank-gaussian",
    "swag",
    "fine-tuned",
)
"""Those that learn by steps are tried on the smallest zoos in ``test_generators_base``."""

FEW = (2, 3, 5, 8, 15)


@pytest.mark.parametrize("k", FEW)
def test_every_plain_baseline_draws_from_a_small_zoo(k: int):
    zoo = toy_zoo(scattered(k, 12))
    for name in PLAIN:
        assert drawn_from(fitted_to(make(name).adapted(k), zoo), 3).isfinite().all(), name


@pytest.mark.parametrize("trajectory", [False, True])
@pytest.mark.parametrize("k", FEW)
def test_rows_and_verdicts_of_small_zoos(k: int, trajectory: bool):
    zoo = toy_zoo(curve(k, 12))
    zoo.about["trajectory"] = trajectory
    originals = Originals(zoo, scored_of(k))
    for n in (1, 3):
        comparison = originals.compare(scattered(n, 12), scored_of(n, 1))
        for name, one in (("p-diff", comparison), ("original", originals.own)):
            json.dumps(summarise(name, one, originals), allow_nan=False)
            assert arrays(one)
        averages = {"the average of all members": comparison}
        assert verdict(Evidence.of(comparison, originals, averages, chance=0.1)).why


@pytest.mark.parametrize("k", [2, 3])
def test_maps_and_paths_of_small_zoos(k: int):
    zoo, z = toy_zoo(curve(k, 12)), scattered(k, 4)
    for points in latent_map({"originals": z, "samples": z[:1], "noised": noised(z)}).values():
        assert points.isfinite().all()
    paths = Paths.of(torch.rand(2, 1, 12), zoo.vectors, Normaliser.fit(zoo.vectors, zoo.spec.positive))
    assert paths.plane.isfinite().all() and paths.nearest.isfinite().all()
