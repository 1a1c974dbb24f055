from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from sklearn.neighbors import KernelDensity
from torch import Tensor

import toy_zoos
from paramdiff.errors import ConfigError, GeneratorError
from paramdiff.files import read_json, write_json
from paramdiff.generators import Generator, make
from paramdiff.generators.autoencoder_kde import AutoencoderKde, Kernels, scott
from toy_zoos import curve, toy_zoo


def quick(**settings: Any) -> AutoencoderKde:
    made = toy_zoos.quick("autoencoder-kde", **settings)
    assert isinstance(made, AutoencoderKde)
    return made


def on_a_line(k: int) -> Tensor:
    """Two latents that are equal up to a sign, each with deviation 1: far from independent."""
    z = torch.linspace(-1, 1, k)
    z = z / z.std(correction=0)
    return torch.stack([z, -z], 1)


def drawn(z: Tensor, n: int, bandwidth: float, joint: bool) -> Tensor:
    prior = Kernels(lambda k: bandwidth, joint)
    prior.fit(z, z[:0], None)
    return prior.sample(range(n), 0)


def test_the_default_bandwidth_is_scotts():
    z = np.random.default_rng(0).normal(size=(50, 1))
    assert scott(50) == pytest.approx(KernelDensity(bandwidth="scott").fit(z).bandwidth_)
    for bandwidth, used in ((None, scott(40)), (0.3, 0.3)):
        prior = quick(bandwidth=bandwidth)._prior()
        assert isinstance(prior, Kernels) and prior.bandwidth(40) == used


def test_a_joint_density_is_that_of_scikit_learn():
    z = on_a_line(30)
    theirs = KernelDensity(bandwidth=0.3).fit(z.numpy())
    ours = drawn(z, 3000, 0.3, joint=True).numpy()
    reference = theirs.sample(3000, random_state=0)
    scores = [theirs.score_samples(points) for points in (ours, reference)]
    assert ks_2samp(*scores).pvalue > 0.01
    assert abs(ours.mean(0)).max() < 0.1


def test_dimensions_are_independent_by_default_and_each_has_its_own_density():
    z = on_a_line(30)
    ours = drawn(z, 3000, 0.3, joint=False)
    assert abs(float(torch.corrcoef(ours.T)[0, 1])) < 0.06
    assert float(torch.corrcoef(drawn(z, 3000, 0.3, joint=True).T)[0, 1]) < -0.8
    for column in range(2):
        theirs = KernelDensity(bandwidth=0.3).fit(z[:, [column]].numpy()).sample(3000, random_state=0)
        assert ks_2samp(ours[:, column].numpy(), theirs[:, 0]).pvalue > 0.01
    assert torch.allclose(ours.var(0), torch.full((2,), 1 + 0.3**2), atol=0.08)


def test_without_bandwidth_draws_are_members_and_a_constant_latent_stays_so():
    z = torch.cat([on_a_line(7), torch.zeros(7, 1)], 1)
    assert float(torch.cdist(drawn(z, 20, 0.0, joint=True), z).min(1).values.max()) < 1e-4
    assert float(torch.cdist(drawn(z, 20, 0.0, joint=False), z).min(1).values.max()) > 0.1
    assert bool((drawn(z, 20, 0.5, joint=False)[:, 2] == 0).all())


def test_the_bandwidth_changes_without_fitting_again():
    zoo = toy_zoo(curve(14, 33))
    generator, fresh = quick().fit(zoo), quick(bandwidth=0.01).fit(zoo)
    default = generator.sample(5)
    generator.change({"bandwidth": 0.01})
    assert torch.equal(generator.sample(5), fresh.sample(5)) and not torch.equal(generator.sample(5), default)


@pytest.mark.parametrize("joint", [False, True])
def test_a_joint_density_of_an_earlier_version_is_refused(joint: bool, tmp_path: Path):
    quick().fit(toy_zoo(curve(14, 33))).save(tmp_path / "g")
    about = read_json(tmp_path / "g" / "config.json")
    write_json(tmp_path / "g" / "config.json", about | {"settings": about["settings"] | {"joint": joint}})
    if joint:
        with pytest.raises(GeneratorError, match="a joint kernel density, .*; fit latent-noise in its place"):
            Generator.load(tmp_path / "g")
    else:
        assert Generator.load(tmp_path / "g").sample(1).isfinite().all()


def test_latents_are_p_diffs_and_contraction_scales_draws():
    zoo = toy_zoo(curve(14, 33))
    generator = quick().fit(zoo)
    other = toy_zoos.quick("p-diff").fit(zoo)
    assert torch.equal(generator.encode(curve(14, 33)), other.encode(curve(14, 33)))  # type: ignore[attr-defined]
    assert generator.contraction == 1 and "denoiser" not in generator.losses
    generator.contraction = 0.0
    assert torch.equal(generator.sample(2)[0], generator.sample(2)[1])


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="bandwidth: -0.1 is out of range; expected at least 0"):
        make("autoencoder-kde", bandwidth=-0.1)
