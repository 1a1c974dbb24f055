"""Every recipe composes, its network exists, and D is what the paper prints."""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from torch import nn

from paramdiff.cli import main
from paramdiff.collectors import SeedCollector, TrajectoryCollector
from paramdiff.collectors.checkpoints import CheckpointCollector
from paramdiff.errors import ConfigError
from paramdiff.parameters.spec import ParameterSpec
from paramdiff.runs.config import RunConfig, build, register
from paramdiff.runs.launch import composed
from paramdiff.runs.recipe_names import RECIPES, describe_options, in_families, list_options
from paramdiff.tasks.models import make_network

EXPERIMENTS = [path.stem for path in sorted((RECIPES / "experiment").glob("*.yaml"))]
FILES = sorted(RECIPES.rglob("*.yaml"))

SETS = ("mnist", "cifar10", "cifar100", "stl10", "flowers102", "pets", "food101", "imagenet1k")
NETWORKS = ("resnet18", "resnet50", "vit_tiny", "vit_base", "convnext_tiny", "convnext_base")
LAST_NORMS = {
    "resnet18": 2_048, "resnet50": 5_120, "vit_tiny": 768, "vit_base": 3_072,
    "convnext_tiny": 3_072, "convnext_base": 4_096,
}  # fmt: skip
DIMENSIONS = {
    **{f"{data}_{network}": LAST_NORMS[network] for data, network in product(SETS, NETWORKS)},  # Table 1
    "cifar10_convnet3": 24_714, "cifar100_convnet3": 70_884,  # Tables 2 and 10
    "mnist_mlp3": 39_760, "cifar10_mlp3": 155_135,
    "cifar100_resnet18_norms10to14": 2_048, "cifar100_resnet18_norms14to16": 2_048,  # Table 3b
    "cifar100_resnet18_adam": 2_048, "cifar100_resnet18_adamw": 2_048,  # Table 4
    "mnist_hyper_cnn": 2_464, "svhn_hyper_cnn": 2_864,  # Table 8
    "cifar10_hyper_cnn": 2_864, "stl10_hyper_cnn": 2_864,
    "cifar100_resnet18_linear": 51_200, "cifar100_resnet18_conv": 1_728,  # Tables 17c and 10
    "cifar100_resnet18_shortcut": 8_192,
    "digits": 256, "digits_full": 4_785, "digits_seeds": 4_785, "reference": 2_048,
    "reference_zoo": 2_048, "reference_whole": 11_229_732, "reference_from_scratch": 2_048,
    "mnist_convnet3": 128, "fashion_mnist_convnet3": 128, "fashion_mnist_mlp3": 39_760,
    "cifar10_resnet20": 256, "cifar10_resnet56": 256,
    "digits_novel": 4_785, "mnist_novel": 39_760, "fashion_mnist_novel": 39_760, "cifar10_convnet3_novel": 24_714,
}  # fmt: skip


LEAST = ("name=test", "compare=none", "generator=average")  # composes fastest


@cache
def config(experiment: str, *overrides: str) -> RunConfig:
    return build(composed([*LEAST, f"experiment={experiment}", *overrides]))


def network(made: RunConfig) -> nn.Module:
    """A pretrained one is built without its weights, and once for all data sets: the head is not selected."""
    settings, source = made.task, made.task.make().source
    options = dict(settings.model_options)
    classes = 1000 if options.pop("pretrained", False) else source.classes
    return _on_meta(settings.model or source.model, str(options), source.shape, classes)


@cache
def _on_meta(name: str, options: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    with torch.device("meta"):
        return make_network(name, OmegaConf.to_container(OmegaConf.create(options)), shape, classes)


@cache
def spec(model: nn.Module, select: str) -> ParameterSpec:
    return ParameterSpec.from_model(model, select)


def test_every_cell_of_the_papers_tables_has_a_recipe_and_every_recipe_a_dimension():
    assert sorted(DIMENSIONS) == EXPERIMENTS


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_recipe_composes_and_has_the_papers_dimension(experiment: str):
    made = config(experiment)
    assert spec(network(made), made.zoo.select).dim == DIMENSIONS[experiment]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_zoos_are_made_as_the_paper_says(experiment: str):
    made = config(experiment)
    entire = experiment.endswith(("mlp3", "hyper_cnn")) or (
        "convnet3" in experiment and "cifar" in experiment
    )
    pretrained = bool(made.task.model_options.get("pretrained"))
    if not experiment.startswith(("digits", "reference")):
        assert made.zoo.k == 200 and isinstance(made.zoo, SeedCollector if entire else TrajectoryCollector)
        assert pretrained == ("vit" in experiment or "convnext" in experiment)
    if pretrained:
        assert made.task.make().source.shape == (3, 224, 224)
        assert (made.zoo.pretrain.epochs == 0) == experiment.startswith("imagenet1k")


@pytest.mark.parametrize("data", SETS)
def test_small_images_get_a_small_stem(data: str):
    made = config(f"{data}_resnet50")
    side = made.task.make().source.shape[1]
    assert (network(made).conv1.stride == (1, 1)) == (side <= 32)


def test_selections_of_tables_3b_and_17c():
    def tensors(experiment: str) -> list[str]:
        made = config(f"cifar100_resnet18_{experiment}")
        return spec(network(made), made.zoo.select).names

    layers = ["layer3.0.bn1", "layer3.0.bn2", "layer3.1.bn1", "layer3.1.bn2"]
    assert tensors("norms10to14") == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert tensors("norms14to16")[::2] == ["layer4.0.bn1.weight", "layer4.0.bn2.weight"]
    assert tensors("conv") == ["conv1.weight"]
    assert tensors("linear") == ["fc.weight"]
    assert tensors("shortcut") == ["layer2.0.downsample.0.weight"]


def test_optimisers_of_table_4():
    for name in ("adam", "adamw"):
        zoo = config(f"cifar100_resnet18_{name}").zoo
        assert (zoo.optimizer, zoo.pretrain.optimizer) == (name, name)
    assert config("cifar100_resnet18").zoo.optimizer == "sgd"


def test_the_generator_of_the_paper():
    own = config("digits", "generator=paper").generator
    first, second = own.autoencoder, own.diffusion
    assert (first.steps, first.batch, first.lr, first.early_stop) == (30_000, 200, 1e-3, False)
    assert (first.parameter_noise, first.latent_noise, first.norm, len(first.channels)) == (
        1e-3,
        0.1,
        "instance",
        4,
    )
    assert (second.steps, second.batch, second.lr, second.weight_decay) == (30_000, 200, 1e-3, 2e-6)
    assert (second.denoiser, second.depth, second.prediction, second.ema) == ("conv", 4, "eps", 0.9999)
    assert (second.scheduler, second.timesteps, second.sample_steps) == ("ddpm", 1000, 1000)
    assert not second.early_stop and own.reconstruction_check.held_out == 0


# Ablations -----------------------------------------------------------------------------------------------


@cache
def body(path: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(path))


ABLATIONS = list_options("ablation")
COLLECTED = {"layers", "kind", "optimizer"}
"""Ablations of how the originals are made, of which an imported zoo knows nothing."""


def swept(ablation: str) -> dict[str, list[str]]:
    """The values of every key that an ablation sweeps, as Hydra's sweeper reads them."""
    params = body(RECIPES / "ablation" / f"{ablation}.yaml")["hydra"]["sweeper"]["params"]
    parsed = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in params.items()])
    return {one.get_key_element(): list(one.sweep_string_iterator()) for one in parsed}


COMBINATIONS = [
    pytest.param(ablation, experiment, words, id=f"{experiment}-{ablation}-{','.join(words)}")
    for ablation in ABLATIONS
    for experiment in ("digits", "reference" if ablation in COLLECTED else "reference_zoo")
    for words in product(*[[f"{key}={value}" for value in values] for key, values in swept(ablation).items()])
]


@cache
def ablated(experiment: str, ablation: str, *options: str) -> DictConfig:
    """What all values of its keys have in common."""
    return composed(["name=test", f"experiment={experiment}", f"ablation={ablation}", *options])


@pytest.mark.parametrize(("ablation", "experiment", "words"), COMBINATIONS)
def test_every_combination_of_an_ablation_composes(ablation: str, experiment: str, words: tuple[str, ...]):
    options = [word for word in words if "." not in word.partition("=")[0]]
    settings = deepcopy(ablated(experiment, ablation, *options))
    for one in OverridesParser.create().parse_overrides([word for word in words if word not in options]):
        OmegaConf.update(settings, one.get_key_element(), one.value())
    made = build(settings)
    assert made.compare == {}
    if ablation in ("layers", "kind"):
        assert spec(network(made), made.zoo.select).dim > 0


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_what_is_typed_goes_before_what_an_ablation_chooses(ablation: str):
    words = ["experiment=digits", f"ablation={ablation}", "compare=standard", "generator=average"]
    made = build(composed(["name=test", *words]))
    assert made.compare and made.generator.name == "average"


def test_ablations_sweep_something_and_name_their_table():
    for ablation in ABLATIONS:
        assert all(len(set(values)) > 1 for values in swept(ablation).values())
        comment = (RECIPES / "ablation" / f"{ablation}.yaml").read_text().splitlines()[1]
        assert comment.startswith("# Table") or ablation in ("prediction", "process", "latent"), ablation


def test_the_ablations_of_the_paper():
    assert swept("noise") == {
        "generator.autoencoder.parameter_noise": ["0", "0.001"],
        "generator.autoencoder.latent_noise": ["0", "0.1"],
    }
    assert swept("timesteps") == {"generator.diffusion.timesteps": ["10", "100", "1000", "2000"]}
    assert swept("norm") == {"generator.autoencoder.norm": ["none", "batch", "group", "instance"]}
    by_layer = [f"zoo.select={value}" for value in swept("layers")["zoo.select"]]
    names = [
        spec(network(made), made.zoo.select).names[::2]
        for made in (build(composed([*LEAST, "experiment=digits", word])) for word in by_layer)
    ]
    assert names == [["norm1.weight"], ["norm2.weight"], ["norm3.weight"]]


def test_one_original_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"^zoo.k: 1 is out of range; expected at least 2$"):
        config("digits", "ablation=k", "zoo.k=1")


@pytest.mark.parametrize("words", [["ablation=noise"], ["-m", "ablation=noise,norm"]])
def test_an_ablation_without_its_sweep_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["collect", *words]) == 2
    assert "ablation: 'noise' is a sweep; add -m, and name one ablation at a time" in capsys.readouterr().err
    assert not list(tmp_path.rglob("manifest.json"))


# Recipes as files ----------------------------------------------------------------------------------------


def chosen(path: Path) -> list[str]:
    """The overrides that stand for the defaults list of an experiment."""
    words = []
    for item in body(path).get("defaults", []):
        pairs = item.items() if isinstance(item, Mapping) else [("experiment", item)]
        words += [f"{key.removeprefix('override /')}={value}" for key, value in pairs]
    return words


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {path: value}
    return {k: v for key, item in value.items() for k, v in leaves(item, f"{path}.{key}".strip(".")).items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_recipes_are_short(path: Path):
    assert len(path.read_text().splitlines()) <= 30


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_experiment_repeats_what_it_is_composed_of(experiment: str):
    path = RECIPES / "experiment" / f"{experiment}.yaml"
    own = leaves({key: value for key, value in body(path).items() if key != "defaults"})
    if own:
        base = OmegaConf.to_container(composed([*LEAST, *chosen(path)]))
        before = leaves(base)
        assert [key for key, value in own.items() if before.get(key) == value] == []


def test_no_two_experiments_are_the_same():
    assert len({str(body(RECIPES / "experiment" / f"{name}.yaml")) for name in EXPERIMENTS}) == len(
        EXPERIMENTS
    )


# Names for the command line ------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["task", "model", "zoo", "generator", "compare", "experiment", "ablation"])
def test_help_knows_every_option(group: str):
    from hydra.core.config_store import ConfigStore

    register()
    stored = [name.removesuffix(".yaml") for name in ConfigStore.instance().repo.get(group, {})]
    in_code = [name for name in stored if not name.endswith("of_the_tests")]  # registered by other tests
    in_files = [path.stem for path in (RECIPES / group).glob("*.yaml")]
    assert sorted(list_options(group)) == sorted([*in_code, *in_files])


def test_families_of_names():
    names = ["a_x", "a_y", "b_x", "b_y", "c", "c_x", "d_z"]
    assert in_families(names) == ["c, c_x, d_z", "{a, b}_{x, y}"]


def test_help_is_readable():
    lines = describe_options().splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    "word", ["task.model_options.small_stem=true", "+task.model_options.small_stem=true",
             "task.model_options={small_stem: true}"],
)  # fmt: skip
def test_options_of_a_network_are_typed_like_any_other_key(word: str):
    made = config("digits", "task.model=timm/resnet18", word)
    assert made.task.model_options == {"small_stem": True}


def test_the_default_experiment_takes_any_zoo(tmp_path: Path):
    made = build(composed(["name=test", "zoo=import", f"zoo.path={tmp_path}"]))
    assert isinstance(made.zoo, CheckpointCollector)


def test_an_experiment_that_does_not_fit_the_options_beside_it():
    with pytest.raises(
        ConfigError, match=r"^experiment/reference: Key 'weights' not in 'SeedCollector'; leave "
    ):
        config("reference", "zoo=seeds")


def test_the_example_of_a_foreign_zoo(monkeypatch: pytest.MonkeyPatch):
    folder = Path(__file__).parents[1] / "examples" / "foreign_zoo"
    monkeypatch.syspath_prepend(str(folder))
    found = f"hydra.searchpath=[file://{folder}]"
    made = build(composed([*LEAST, found, "experiment=foreign_zoo", "zoo.path=somewhere"]))
    assert spec(network(made), made.zoo.select).dim == 62_006
