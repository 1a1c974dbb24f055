"""Inner loops do not wait for the device: the number of waits does not grow with steps, networks or batches."""

import pytest
import torch
from torch import nn

from paramdiff.error_iou import error_iou
from paramdiff.errors import NumericalError
from paramdiff.generators import diffusion
from paramdiff.generators.denoising import reverse
from paramdiff.generators.diffusion import Diffusion, LatentDiffusion
from paramdiff.generators.flow import follow
from paramdiff.scoring.batches import random_subset
from paramdiff.scoring.output_groups import distinct
from paramdiff.scoring.scorer import Scorer
from paramdiff.seeds import sample_generators
from paramdiff.tasks.augment import Augment
from paramdiff.tasks.images import ImageData
from paramdiff.training import Training, require_finite
from pretend_device import DEVICE, There, Watched
from test_scoring import Digits, Items, make


def noise(n: int = 4, size: int = 3):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(0))


def waits(act, *args):
    with Watched() as watched:
        act(*args)
    return watched.waits


def test_what_a_wait_is():
    def each_step(steps: int) -> None:
        z = noise().to(DEVICE, non_blocking=True)
        for step in range(steps):
            require_finite(z + step, "loop")

    assert waits(each_step, 7) == ["_local_scalar_dense"] * 7
    with Watched() as watched:
        z = noise().to(DEVICE)
        assert isinstance(z, There) and z.device == DEVICE
        assert len(z[z[:, 0] > 0]) == int((noise()[:, 0] > 0).sum())
        assert torch.equal((z + 1).cpu(), noise() + 1)
        with pytest.raises(RuntimeError, match="tensors on the CPU and on the device"):
            z + noise()
    assert watched.waits == ["copy to the device", "index", "copy from the device"]


def denoised(scheduler: str, steps: int, bad: int = 1000) -> None:
    z = noise().to(DEVICE, non_blocking=True)
    reverse(
        lambda z, t: torch.where(t[:, None] >= bad, torch.nan, z / 2), z, sample_generators(range(4), "r"),
        scheduler=scheduler, prediction="x0", timesteps=100, sample_steps=steps,
    )  # fmt: skip


@pytest.mark.parametrize("scheduler", ["dpm-solver++", "ddim"])
def test_reverse_diffusion_is_read_once(scheduler: str):
    """Diffusers draws the noise of ``ddpm`` on the CPU and waits for its copy in every step."""
    assert waits(denoised, scheduler, 5) == waits(denoised, scheduler, 20) == ["copy from the device"]
    with Watched(), pytest.raises(NumericalError, match=r"reverse diffusion, step 1 \(t = 99\)"):
        denoised(scheduler, 5, bad=50)


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_a_flow_is_read_once(solver: str):
    def followed(steps: int) -> None:
        z = noise().to(DEVICE, non_blocking=True)
        follow(lambda z, t: z * t[:, None], z, solver=solver, timesteps=100, sample_steps=steps)

    assert waits(followed, 5) == waits(followed, 20) == ["copy from the device"]


@pytest.mark.parametrize(("process", "prediction"), [("ddpm", "x0"), ("ddpm", "eps"), ("flow", "velocity")])
def test_a_training_step_of_the_diffusion_never_waits(
    process: str, prediction: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(diffusion, "choose_device", lambda name: DEVICE)
    with Watched() as watched:
        prior = LatentDiffusion(Diffusion(process=process, prediction=prediction, width=8, timesteps=10))
        prior.latent = 3
        net = prior._build()
        before = len(watched.waits)
        prior.loss(net, *prior._draw(noise(20), 8, 0)).backward()
    assert watched.waits[before:] == []
    assert isinstance(next(net.parameters()).grad, There)


def test_losses_are_read_in_blocks():
    def train(steps: int) -> None:
        training = Training("net", steps, {"net": nn.Linear(1, 1)}, show=False)
        for step in training:
            training.log(step, torch.ones((), device=DEVICE))

    assert len(waits(train, 50)) == 1
    assert len(waits(train, 200)) == 4


@pytest.mark.parametrize("ensembles", [[], [[0, 1], [1, 2]]])
def test_scoring_does_not_wait_for_each_network(ensembles: list[list[int]]):
    found = []
    for networks in (3, 9):
        task = Together(size=64)  # one batch
        zoo, vectors = make(task, n=networks)
        with Watched() as watched:
            scorer = Scorer(task, zoo, DEVICE)
            scorer.score(vectors, "test")  # compares its graph with the network, reading values
            before = len(watched.waits)
            scores = scorer.score(vectors, "test", ensembles)
        found.append(watched.waits[before:])
        assert torch.equal(scores.metric, Scorer(task, zoo).score(vectors, "test").metric)
    assert found[0] == found[1]
    assert len(found[0]) <= 5  # the vectors, and each outcome of networks and of ensembles


def test_gradients_are_read_together():
    task = Digits(size=64)
    zoo, vectors = make(task, "8.*", n=6)
    with Watched() as watched:
        scorer = Scorer(task, zoo, DEVICE)
        scorer.gradients(vectors[:1], 0)
        before = len(watched.waits)
        scorer.gradients(vectors, 0)
    assert watched.waits[before:] == ["copy from the device"]


class Together(Digits):
    def ensemble(self, outputs):
        return torch.stack(list(outputs)).mean(0)


def test_a_random_subset_is_taken_without_reading_the_device():
    with Watched() as watched:
        data = Items(noise(40).to(DEVICE), torch.arange(40).to(DEVICE), size=8)
        before = len(watched.waits)
        found = list(random_subset(data, 10))
        assert watched.waits[before:] == []
        here = torch.cat([x.cpu() for x, _ in found])
    expected = list(random_subset(Items(noise(40), torch.arange(40), size=8), 10))
    assert torch.equal(here, torch.cat([x for x, _ in expected])) and len(here) == 10


def test_images_of_an_epoch_are_shuffled_without_waiting():
    images = torch.arange(12 * 16, dtype=torch.uint8).reshape(12, 1, 4, 4)
    data = ImageData(images, torch.arange(12), batch_size=3, augment=Augment(crop=1, flip=True))
    with Watched() as watched:
        there = data.to(DEVICE)
        there._normalise(there.images[:1])  # scale and shift move once
        before = len(watched.waits)
        batches = list(there.shuffled(0))
        assert watched.waits[before:] == ["copy to the device"]  # the draws of the whole epoch
        assert torch.equal(batches[1][0].cpu(), list(data.shuffled(0))[1][0])


def test_equal_vectors_are_found_with_one_copy():
    with Watched() as watched:
        vectors = noise(6).to(DEVICE)
        before = len(watched.waits)
        distinct(vectors)
    assert watched.waits[before:] == ["copy from the device"]


def test_overlap_of_mistakes_on_the_device():
    wrong = noise(5, 30) > 0.5
    with Watched() as watched:
        there = wrong.to(DEVICE)
        before = len(watched.waits)
        iou = error_iou(there, there)
        assert watched.waits[before:] == []
        assert torch.equal(iou.cpu(), error_iou(wrong, wrong))
