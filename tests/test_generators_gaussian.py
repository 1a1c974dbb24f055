import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from paramdiff.errors import ConfigError
from paramdiff.generators import make, principal_components
from paramdiff.generators.principal_components import PrincipalComponents
from toy_zoos import curve, scattered, toy_zoo


def test_diagonal_gaussian_has_the_zoos_mean_and_deviation():
    vectors = curve(30, 12)
    samples = make("gaussian", scale=0.5).fit(toy_zoo(vectors)).sample(4000)
    deviation = vectors.std(0, correction=0)
    assert torch.allclose(samples.mean(0), vectors.mean(0), atol=0.005)
    assert torch.allclose(samples.std(0), 0.5 * deviation, rtol=0.06)
    correlation = torch.corrcoef(samples.T) - torch.eye(12)
    assert float(correlation.abs().max()) < 0.08


def test_low_rank_gaussian_has_the_zoos_covariance():
    vectors = curve(30, 12)
    samples = make("low-rank-gaussian").fit(toy_zoo(vectors)).sample(6000)
    wanted = torch.cov(vectors.T, correction=0)
    assert float((torch.cov(samples.T) - wanted).norm() / wanted.norm()) < 0.06


def test_low_rank_samples_lie_in_the_span_of_the_zoo():
    vectors = scattered(5, 40)
    samples = make("low-rank-gaussian").fit(toy_zoo(vectors)).sample(10)
    span = torch.linalg.qr((vectors - vectors.mean(0)).T)[0][:, :4]
    offset = samples - vectors.mean(0)
    assert float((offset - offset @ span @ span.T).norm() / offset.norm()) < 1e-4


@pytest.mark.parametrize(("rank", "used"), [(5, 5), (20, 9)])
def test_swag_has_the_covariance_of_its_equation(rank: int, used: int):
    vectors = curve(9, 12) * torch.linspace(0.2, 3, 12)
    samples = make("swag", rank=rank, scale=0.7).fit(toy_zoo(vectors)).sample(20_000)
    offsets = (vectors - vectors.mean(0)).double()
    diagonal, low_rank = offsets.square().mean(0).diag(), offsets[-used:].T @ offsets[-used:] / (used - 1)
    wanted = 0.49 * (diagonal + low_rank) / 2
    assert torch.allclose(samples.mean(0), vectors.mean(0), atol=0.005)
    assert float((torch.cov(samples.T) - wanted).norm() / wanted.norm()) < 0.03


def test_scale_is_read_when_sampling():
    zoo = toy_zoo(curve(9, 12))
    for name in ("gaussian", "low-rank-gaussian", "swag"):
        generator = make(name).fit(zoo)
        assert generator.sampling == ("scale",)
        generator.scale = 0.3  # type: ignore[attr-defined]
        assert torch.equal(generator.sample(4), make(name, scale=0.3).fit(zoo).sample(4))


def test_labels_carry_the_scale():
    assert [make("gaussian").label, make("gaussian", scale=0.7).label] == ["gaussian", "gaussian-0.7"]
    assert make("low-rank-gaussian", scale=0.4).label == "low-rank-gaussian-0.4"
    assert [make("swag").label, make("swag", scale=0.7).label] == ["swag", "swag-0.7"]
    with pytest.raises(ConfigError, match="rank: 1 is out of range; expected at least 2"):
        make("swag", rank=1)
    with pytest.raises(ConfigError, match="rank: 0 is out of range"):
        make("low-rank-gaussian", rank=0)
    with pytest.raises(ConfigError, match="scale: -0.1 is out of range"):
        make("gaussian", scale=-0.1)


def test_principal_components_agree_with_sklearn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        principal_components, "COLUMNS_AT_ONCE", 7
    )  # 30 columns in blocks that do not divide them
    x = scattered(12, 30) @ torch.diag(torch.linspace(3, 0.1, 30))
    ours, oracle = PrincipalComponents.fit(x, 4), PCA(4).fit(x.numpy())
    theirs = torch.from_numpy(oracle.components_).float()
    assert torch.allclose((ours.basis @ theirs.T).abs(), torch.eye(4), atol=1e-4)
    variance = torch.from_numpy(oracle.explained_variance_).float() * 11 / 12
    assert torch.allclose(ours.deviations.square(), variance, rtol=1e-4)
    again = torch.from_numpy(oracle.inverse_transform(oracle.transform(x.numpy()))).float()
    assert torch.allclose(ours.expand(ours.project(x)), again, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(k=st.integers(2, 12), dim=st.integers(2, 40), scale=st.sampled_from([1e-4, 1.0, 1e4]))
def test_all_components_reconstruct_every_member(k: int, dim: int, scale: float):
    x = scale * scattered(k, dim)
    components = PrincipalComponents.fit(x)
    assert len(components.basis) == min(k - 1, dim)
    gram = components.basis @ components.basis.T
    assert torch.allclose(gram, torch.eye(len(gram)), atol=1e-4)
    assert torch.allclose(components.expand(components.project(x)), x, atol=1e-3 * scale)


def test_members_that_span_less_give_fewer_components():
    x = scattered(3, 20)[torch.tensor([0, 1, 2, 0, 1, 2])]
    assert len(PrincipalComponents.fit(x, 5).basis) == 2
