from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from yaml import YAMLError

from paramdiff.cli import main
from paramdiff.collectors import TrajectoryCollector
from paramdiff.errors import ConfigError
from paramdiff.generators.pdiff import ParameterDiffusion
from paramdiff.registry import registered_in
from paramdiff.runs import launch
from paramdiff.runs.config import RunConfig, build, explain, plain, register
from paramdiff.runs.configured import plan_of, planned_generators
from paramdiff.runs.launch import arranged, composed, default_run_dir
from paramdiff.runs.pipeline import Pipeline
from paramdiff.runs.recipe_names import option_name
from paramdiff.runs.rows import GeneratorRow, generator_rows

NAMED = ["name=test"]


def config(*overrides: str):
    return build(composed([*NAMED, *overrides]))


def rows(config: RunConfig) -> list[GeneratorRow]:
    return generator_rows(planned_generators(config))


def test_a_configuration_becomes_the_objects_it_configures():
    made = config("zoo.k=7", "generator.autoencoder.latent_noise=0.5")
    assert isinstance(made.zoo, TrajectoryCollector) and made.zoo.k == 7
    assert isinstance(made.generator, ParameterDiffusion) and made.generator.autoencoder.latent_noise == 0.5


def test_one_seed_for_everything_unless_it_is_set():
    made = config("seed=3", "generator.seed=5")
    assert (made.zoo.seed, made.generator.seed) == (3, 5)
    assert made.compare["pdiff_linear"].seed == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("zoo.kk=3", "zoo.kk: no such key; did you mean k"),
        ("zoo.k=abc", "zoo.k: Value 'abc' of type 'str' could not be converted to Integer"),
        ("zoo.k=0", "zoo.k: 0 is out of range; expected at least 2"),
        ("zoo.pretrain.lr=-1", "zoo.pretrain.lr: -1.0 is out of range; expected more than 0"),
        ("zoo.optimizer=adm", "zoo.optimizer: 'adm' is not known; expected one of .*did you mean adam"),
        (
            "generator.autoencoder.latent_noise=-1",
            "generator.autoencoder.latent_noise: -1.0 is out of range; expected at least 0",
        ),
        ("compare.gaussian.scale=-1", "compare.gaussian.scale: -1.0 is out of range"),
        ("n=0", "n: 0 is out of range; expected at least 1"),
        ("device=tpu", "device: 'tpu' is not known; expected one of auto, cpu"),
        ("generator=pdif", "generator: there is no 'pdif'; did you mean pdiff"),
        ("experiment=digit", "experiment: there is no 'digit'; did you mean digits"),
        (
            "generator.latent_noise=1",
            "generator.latent_noise: no such key; write generator.autoencoder.latent_noise$",
        ),
        ("+generator.steps=1", "generator.steps: no such key; write generator.diffusion.steps$"),
        (
            "++compare.pdiff_linear.components=1",
            "compare.pdiff_linear.components: no such key; write compare.pdiff_l",
        ),
        (
            "generator.early_stop=false",
            "generator.early_stop: .*autoencoder.early_stop and generator.diffusion.early_",
        ),
        ("bogus", "bogus: not understood; expected KEY=VALUE"),
        ("zoo.select=all,!fc", "zoo.select=all,!fc: not understood; expected KEY=VALUE; put quotes"),
        ("n=1,2", "n: 1,2 is several values; add -m for a run each, or put quotes"),
        ("+zoo.k=3", "zoo.k: this key exists; leave out the +"),
        ("++zoo.kk=3", "zoo.kk: no such key; did you mean k"),
        ("+zoo.pretrain.kk=3", "zoo.pretrain.kk: no such key; choose from optimizer"),
        ("++nn=3", "nn: no such key; did you mean n"),
    ],
)
def test_every_mistake_is_one_line_that_names_the_key(override: str, message: str):
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        config(override)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_quotes_let_a_selection_leave_something_out():
    assert config('zoo.select="all,!head"').zoo.select == "all,!head"


def test_words_may_come_in_any_order():
    """DESIGN.md's own example has ``-m`` between overrides, which Hydra's parser alone refuses."""
    assert arranged(["zoo.k=50", "-m", "seed=0,1", "--config-dir=here", "experiment=x"]) == [
        "-m", "--config-dir=here", "zoo.k=50", "seed=0,1", "experiment=x",
    ]  # fmt: skip
    assert arranged(["zoo.k=5"]) == ["experiment=digits", "zoo.k=5"]
    assert arranged(["task=own"]) == ["task=own"], "another task does not get the digits' settings"


def test_a_group_without_an_option_is_named():
    with pytest.raises(
        ConfigError,
        match="^compare: null is no option; choose from bill, few, front, full, none, novel, standard",
    ):
        arranged(["compare=null"])
    assert "name=null" in arranged(["name=null"])


def test_p_diff_is_always_among_the_rows():
    assert [e.name for e in rows(config("generator=gaussian", "compare=none"))] == [
        "gaussian",
        "p-diff",
    ]


def test_a_repeated_generator_is_left_out_and_namesakes_are_numbered():
    names = [e.name for e in rows(config("generator=average"))]
    assert names.count("average") == 1
    names = [e.name for e in rows(config("generator.seed=1", "+generator@compare.p=pdiff"))]
    assert "p-diff" in names and "p-diff-2" in names


def test_the_full_comparison_holds_every_generator_once():
    """A new generator is forgotten in no comparison; those of ``compare=bill`` and ``novel`` train networks."""
    entries = rows(config("compare=full"))
    assert len({entry.name for entry in entries}) == len(entries)
    assert {entry.generator.name for entry in entries} == set(registered_in("generators")) - {
        "further-trained", "gaussian-latents",
    }  # fmt: skip
    scales = {entry.name: entry.generator.scale for entry in entries if entry.generator.name == "gaussian"}
    assert scales == {"gaussian": 1.0, "gaussian-0.7": 0.7}


def test_a_generator_that_matches_cannot_be_the_main_one():
    message = "generator: matched-noise matches the samples of the main generator; expected another main"
    with pytest.raises(ConfigError, match=message + r".*\+generator@compare.matched=matched_noise"):
        rows(config("generator=matched_noise"))


def test_samples_that_ask_a_task_are_drawn_again_for_another_one(tmp_path: Path):
    """Its settings are in the zoo's manifest, even where they changed none of its vectors."""
    tuned = "+generator@compare.tuned=fine_tuned"
    run = Pipeline(plan_of(config(f"run_dir={tmp_path / 'r'}", "compare=none", tuned)))
    asking = [stage.needs for stage in run.stages("compare") if stage.name.endswith("tuned-20:sample")]
    assert ["zoo" in needs for needs in (*asking, run.stages("sample")[0].needs)] == [True, False]


def test_settings_are_plain_and_name_their_class():
    assert (
        plain(TrajectoryCollector(k=5))["kind"] == "TrajectoryCollector"
        and plain(TrajectoryCollector(k=5))["k"] == 5
    )
    assert option_name("p-diff-linear") == "pdiff_linear"


def test_a_recipe_that_is_not_yaml(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("zoo:\n  {select: ???}\n")
    with pytest.raises(YAMLError) as caught:
        OmegaConf.load(path)
    text = str(explain(caught.value))  # the words in between are those of the YAML library
    assert text.startswith(f"{path}, line 2: ") and text.endswith("; correct it") and "\n" not in text


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["task=own", "task.name=diabetes:Diabetes"], "Diabetes"),
        (["task=own", "task.name=my_entry"], "my_entry"),
        (["task=images", "task.data=data/trees/"], "trees"),
        (["zoo.k=5"], "digits"),
        (["name=mine"], "mine"),
    ],
)
def test_a_run_is_called_what_its_task_is_called(words: list[str], name: str):
    found: list[str | None] = []
    register()
    launch._with_hydra(lambda config: found.append(launch.compose(config)[0].name), arranged(words))
    assert found == [name]


def test_a_recipe_with_a_key_of_the_flat_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "experiment" / "mine.yaml"
    path.parent.mkdir()
    path.write_text("# @package _global_\ndefaults: [override /task: digits]\ngenerator: {latent_noise: 1}\n")
    assert main(["run", "--config-dir", str(tmp_path), "experiment=mine"]) == 2
    told = "experiment/mine: generator.latent_noise: no such key; write generator.autoencoder.latent_noise"
    assert told in capsys.readouterr().err


def test_a_run_folder_has_a_name_for_its_settings():
    def named(*overrides: str) -> str:
        choices = {"experiment": "digits", "task": "digits"}
        hydra = SimpleNamespace(choices=choices), SimpleNamespace(task=list(overrides))
        return default_run_dir(SimpleNamespace(runtime=hydra[0], overrides=hydra[1])).as_posix()

    assert named("zoo.k=8", "n=4", "device=cpu") == "runs/digits,n=4,zoo.k=8"
    long = [f"generator.diffusion.steps={10**i}" for i in range(12)]
    assert named(*long).startswith("runs/digits,generator.diffusion.steps=1,")
    assert len(named(*long)) == len("runs/") + 200 and named(*long) != named(*long[:-1], "n=4")
