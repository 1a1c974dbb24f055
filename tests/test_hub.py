"""Pushing to and pulling from a Hub on this machine: the same bits, one line for what goes wrong, nothing executed."""

import json
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import hub_server
from finished_runs import results, write_run
from hub_server import TOKEN, Hub
from no_network import NoNetworkError
from paramdiff.cli import main
from paramdiff.errors import GeneratorError, HubError, HubUnreachableError, ParamdiffError
from paramdiff.files import load_tensors, read_json, write_json
from paramdiff.generators import Generator, make
from paramdiff.runs.finished import Run
from paramdiff.zoo.records import Record
from paramdiff.zoo.zoo import Zoo
from test_generators_saving import same, tied_zoo

GENERATOR = {"README.md", "config.json", "model.safetensors"}
ZOO = {"README.md", "manifest.json", "vectors.safetensors", "base.safetensors"}


@pytest.fixture(name="saved", scope="module")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator with its network and a card; nobody changes it."""
    folder = tmp_path_factory.mktemp("saved") / "g"
    make("gaussian").fit(tied_zoo()).save_pretrained(folder)
    return folder


@pytest.fixture(name="hub")
def made_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server.serving() as state:
        hub_server.settle_on(state, tmp_path / "home", monkeypatch)
        yield state


def zoo_with_scores() -> Zoo:
    zoo = tied_zoo()
    zoo.records = [
        Record(seed=i, source=f"{i}.pt", path=f"/home/me/{i}.pt", scores={"test": i / 10}) for i in range(6)
    ]
    zoo.about = {
        "collector": "import",
        "source": "/home/me/checkpoints",
        "task": {"kind": "Images", "data": "/home/me/images"},
    }
    return zoo


def a_run(folder: Path, **changes: Any) -> Path:
    """A finished run folder of the main stages."""
    zoo = zoo_with_scores()
    write_run(folder, results(**changes), scores=False, curves=False)
    zoo.save(folder / "zoo")
    make("gaussian").fit(zoo).save(folder / "generator")
    make("average").fit(zoo).save(folder / "baselines" / "average" / "generator")
    write_json(folder / "manifest.json", {"stages": {}})
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def metadata(card: bytes | str) -> dict[str, Any]:
    text = card if isinstance(card, str) else card.decode()
    found = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def states(generator: Generator) -> list[dict[str, Tensor]]:
    return list(generator.sample_state_dicts(3, seed=2))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "loading ..." not in line]
    assert len(lines) == 1 and lines[0].startswith("paramdiff: error: ") and TOKEN not in lines[0], lines
    return lines[0].removeprefix("paramdiff: error: ")


# --- there and back -----------------------------------------------------------------------------------------


def test_no_test_can_reach_another_machine():
    with pytest.raises(NoNetworkError):
        socket.create_connection(("huggingface.co", 443), timeout=1)
    with pytest.raises(NoNetworkError):
        socket.socket().connect(("192.0.2.1", 443))


def test_a_generator_there_and_back(hub: Hub):
    fitted = make("gaussian").fit(tied_zoo())
    address = fitted.push_to_hub("me/mine", license="mit", tags=["small"])
    assert address == f"{hub.url}/me/mine" and set(hub.repos["model", "me/mine"].files) == GENERATOR
    again = Generator.from_pretrained("me/mine")
    assert all(map(same, states(again), states(fitted)))
    card = metadata(hub.repos["model", "me/mine"].files["README.md"])
    assert (
        card["license"] == "mit" and {"paramdiff", "small"} <= set(card["tags"]) and "model-index" not in card
    )


def test_what_was_downloaded_serves_when_the_hub_does_not(hub: Hub):
    make("gaussian").fit(tied_zoo()).push_to_hub("me/mine")
    first = states(Generator.from_pretrained("me/mine"))
    hub.fails["info"] = 503
    assert all(map(same, states(Generator.from_pretrained("me/mine")), first))
    with pytest.raises(HubUnreachableError, match="answers 503"):
        Generator.from_pretrained("me/other")


def test_a_zoo_there_and_back(hub: Hub, tmp_path: Path):
    zoo = zoo_with_scores()
    address = zoo.push_to_hub("me/zoo")
    assert address == f"{hub.url}/datasets/me/zoo" and set(hub.repos["dataset", "me/zoo"].files) == ZOO
    again = Zoo.from_pretrained("me/zoo")
    assert torch.equal(again.vectors, zoo.vectors)
    assert all(torch.equal(again.base[name], tensor) for name, tensor in zoo.base.items())
    assert [record.scores for record in again.records] == [record.scores for record in zoo.records]
    assert not any(
        "/home" in data.decode("utf-8", "replace") for data in hub.repos["dataset", "me/zoo"].files.values()
    )
    card = hub.repos["dataset", "me/zoo"].files["README.md"].decode()
    assert "K = 6" in card and "| test | 6 | 0.5 | 0.25 | 0 |" in card and "* source: checkpoints" in card
    assert metadata(card)["size_categories"] == "n<1K"


def test_a_run_is_pushed_with_its_results_and_pulled(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = a_run(tmp_path / "run", generator="gaussian", timings_s={"total": 1.0})
    assert main(["push", str(run), "me/mine", "--private", "--license", "mit"]) == 0
    assert f"is at {hub.url}/me/mine" in capsys.readouterr().out and hub.repos["model", "me/mine"].private
    assert main(["pull", "me/mine", str(tmp_path / "got")]) == 0
    assert "a generator (gaussian) of D = 39 parameters of a network of 9 tensors" in capsys.readouterr().out
    assert names(tmp_path / "got") == GENERATOR
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "got" / name).read_bytes() == hub.repos["model", "me/mine"].files[name]
    fitted = Run.load(run).generator  # with the network of the run's zoo
    assert all(map(same, states(Generator.from_pretrained(tmp_path / "got")), states(fitted)))
    assert main(["pull", "me/mine", str(tmp_path / "got")]) == 0  # it replaces its own kind


def test_a_card_has_the_results_and_the_verdict(tmp_path: Path):
    found = results(
        generator="p-diff", command="paramdiff run run_dir=/home/me/run task.data=/home/me/images zoo.k=200"
    )
    fitted = make("gaussian").fit(tied_zoo())
    fitted.save_pretrained(tmp_path / "g", results=found, row="p-diff")
    text = (tmp_path / "g" / "README.md").read_text()
    assert "**Verdict: interpolation.** the samples gather at the centre of the zoo." in text
    assert "| average of all | 1 | 0.991 | 0.981 | 0.981 | 0.971 | 0.985 | 0.898 | 0.7 |" in text
    assert "Made with `paramdiff run task.data=images zoo.k=200`." in text
    (model,) = metadata(text)["model-index"]
    metrics = {metric["name"]: metric["value"] for metric in model["results"][0]["metrics"]}
    assert metrics["test accuracy, mean of 100 samples"] == 0.979 and metrics["verdict"] == "interpolation"
    assert metrics["test accuracy, mean of 200 members"] == 0.976
    fitted.save_pretrained(
        tmp_path / "g", results=found
    )  # the row of its own name, which the verdict is not about
    text = (tmp_path / "g" / "README.md").read_text()
    assert "about p-diff, not about this generator, the row gaussian" in text and "Verdict:" not in text
    assert "verdict" not in {m["type"] for m in metadata(text)["model-index"][0]["results"][0]["metrics"]}
    fitted.save_pretrained(tmp_path / "g")
    assert "how well its samples work is not known" in (tmp_path / "g" / "README.md").read_text()


def test_a_saved_generator_keeps_its_card(hub: Hub, tmp_path: Path):
    make("gaussian").fit(tied_zoo()).save_pretrained(tmp_path / "g", results=results())
    with (tmp_path / "g" / "README.md").open("a") as card:
        card.write("\nMy own words.\n")
    assert main(["push", str(tmp_path / "g"), "me/mine"]) == 0
    card = hub.repos["model", "me/mine"].files["README.md"].decode()
    assert card.endswith("My own words.\n") and 'Generator.from_pretrained("me/mine")' in card
    assert str(tmp_path) not in card


def test_baselines_and_zoos_of_a_run(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = a_run(tmp_path / "run")
    assert main(["push", str(run / "baselines/average/generator"), "me/average"]) == 0
    card = metadata(hub.repos["model", "me/average"].files["README.md"])
    assert card["model-index"][0]["results"][0]["metrics"][0]["name"] == "test accuracy, best of 1 samples"
    assert main(["push", str(run / "zoo"), "datasets/me/mine"]) == 0
    make("gaussian").fit(tied_zoo()).push_to_hub("me/mine")
    capsys.readouterr()
    assert (
        main(["pull", "datasets/me/mine", str(tmp_path / "zoo")]) == 0
    )  # though there is a model of that name
    assert "a zoo of K = 6 checkpoints with D = 39 parameters" in capsys.readouterr().out
    assert main(["pull", "me/average", str(tmp_path / "average")]) == 0


# --- what goes wrong ----------------------------------------------------------------------------------------

GO_WRONG: dict[str, tuple[list[str], int, str]] = {
    "no such thing": (["pull", "me/none", "GOT"], 2, "has no generator and no zoo me/none, or it is private"),
    "a wrong id": (["pull", "me", "GOT"], 2, "'me' is no id on the Hugging Face Hub; expected user/name"),
    "a way out": (["pull", "../../etc", "GOT"], 2, "is no id on the Hugging Face Hub"),
    "no such revision": (["pull", "me/mine", "GOT", "--revision", "v9"], 2, "has no revision 'v9'"),
    "a run without a generator": (["push", "HALF", "me/new"], 2, "has no generator yet; finish it"),
    "nothing of ours": (["push", "EMPTY", "me/new"], 2, "is nothing that can be pushed; expected a run folder"),
    "nothing at all": (["push", "NOWHERE", "me/new"], 2, "is nothing that can be pushed"),
    "a zoo's id": (["push", "SAVED", "datasets/me/new"], 2, "is no zoo; expected a saved zoo"),
}  # fmt: skip


@pytest.mark.parametrize("what", GO_WRONG)
def test_mistakes_are_one_line(
    what: str, hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    hub.add_folder("me/mine", saved)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "HALF").mkdir()
    write_json(tmp_path / "HALF" / "manifest.json", {"stages": {}})
    words, code, text = GO_WRONG[what]
    capsys.readouterr()
    places = {"SAVED": saved} | {name: tmp_path / name for name in ("GOT", "HALF", "EMPTY", "NOWHERE")}
    assert main([str(places.get(word, word)) for word in words]) == code
    assert text in said(capsys) and not (tmp_path / "GOT").exists()


def test_private_and_gated_repositories(
    hub: Hub, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    repo, got = hub.add_folder("me/mine", saved), str(tmp_path / "got")
    repo.private = True
    monkeypatch.delenv("HF_TOKEN")
    assert main(["pull", "me/mine", got]) == 2
    assert "or it is private" in said(capsys)
    repo.private, repo.gated = False, True
    assert main(["pull", "me/mine", got]) == 2
    assert "given to some only; ask for access" in said(capsys)
    assert main(["push", str(saved), "me/mine"]) == 2
    assert (
        said(capsys)
        == "there is no token for the Hugging Face Hub; log in with `hf auth login`, or set HF_TOKEN"
    )
    assert not (tmp_path / "got").exists()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["pull", "me/mine", got]) == 0


@pytest.mark.parametrize("token", ["hf_wrong", "hf_wrong\tbroken", "\N{SNOWMAN}hf_wrong"])
def test_no_message_holds_a_token(
    token: str,
    hub: Hub,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(["push", str(saved), "me/mine"]) in (1, 2)
    assert "wrong" not in said(capsys)


def test_a_server_that_is_down_or_breaks_off(
    hub: Hub, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    hub.add_folder("me/mine", saved)
    got, again = tmp_path / "got", ["push", str(saved), "me/mine"]
    hub.breaks_after = 100
    assert main(["pull", "me/mine", str(got)]) == 1
    assert "cannot be reached, or broke off" in said(capsys)
    hub.breaks_after = None
    for name, words in (("info", ["pull", "me/mine", str(got)]), ("put", again), ("commit", again)):
        hub.fails = {name: 500}
        assert main(words) == 1
        assert "answers 500 (the server has a problem); try again later" in said(capsys)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    for words in (["pull", "me/mine", str(got)], again):
        assert main(words) == 1
        assert "cannot be reached" in said(capsys)
    assert names(tmp_path) <= {"home"}


def test_nothing_else_is_replaced(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make("gaussian").fit(tied_zoo()).push_to_hub("me/mine")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years")
    before = len(hub.asked)
    assert main(["pull", "me/mine", str(tmp_path / "thesis")]) == 2
    assert "holds thesis.tex, and saving would remove it" in said(capsys) and len(hub.asked) == before
    tied_zoo().save(tmp_path / "zoo")
    assert main(["pull", "me/mine", str(tmp_path / "zoo")]) == 2
    assert Zoo.load(tmp_path / "zoo").k == 6


def test_from_pretrained_says_what_is_not_there(hub: Hub, tmp_path: Path):
    make("gaussian").fit(tied_zoo()).save_pretrained(tmp_path / "g")
    with pytest.raises(HubError, match="there is no folder .*none; expected a folder, or an id"):
        Generator.from_pretrained(tmp_path / "none")
    with pytest.raises(HubError, match="has no model me/none, or it is private"):
        Generator.from_pretrained("me/none")
    with pytest.raises(GeneratorError, match="holds a generator 'gaussian'; expected 'average'"):
        type(make("average")).from_pretrained(tmp_path / "g")
    alone = make("gaussian").fit(tied_zoo())
    alone._network = None
    with pytest.raises(GeneratorError, match="without its network"):
        alone.push_to_hub("me/mine")


# --- hostile repositories -----------------------------------------------------------------------------------


class Bomb:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def hostile_config(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes], Path], None]:
    def put(files: dict[str, bytes], traces: Path) -> None:
        config = json.loads(files["config.json"])
        change(config)
        files["config.json"] = json.dumps(config).encode()

    return put


def pickled(files: dict[str, bytes], traces: Path) -> None:
    files["model.safetensors"] = pickle.dumps(Bomb(traces))


HOSTILE: dict[str, tuple[Callable[[dict[str, bytes], Path], None], str]] = {
    "a pickle": (pickled, "model.safetensors is not a complete safetensors file"),
    "code by name": (hostile_config(lambda c: c.update(generator="os:system")), "a generator 'os:system'"),
    "a module": (hostile_config(lambda c: c.update(generator="paramdiff.cli.main")), "'paramdiff.cli.main'"),
    "a secret": (hostile_config(lambda c: c["settings"].update(scale="${oc.env:SECRET}")), "scale"),
    "a target": (hostile_config(lambda c: c["settings"].update(_target_="os.system")), "_target_"),
    "wrong types": (hostile_config(lambda c: c.update(settings=[1])), "damaged generator"),
    "depth": (lambda files, _: files.update({"config.json": b"[" * 10**5}), "nested too deeply"),
    "a link": (lambda files, _: files.update({"config.json": b"/etc/passwd"}), "not valid JSON"),
    "half a file": (
        lambda files, _: files.update({"model.safetensors": files["model.safetensors"][:-10]}), "not a complete",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_generators_leave_nothing(
    what: str,
    hub: Hub,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("SECRET", "swordfish")
    repo, (put, text) = hub.add_folder("me/mine", saved), HOSTILE[what]
    put(repo.files, tmp_path / "traces")
    assert main(["pull", "me/mine", str(tmp_path / "got")]) == 2
    line = said(capsys)
    assert text in line and "model me/mine" in line and "swordfish" not in line and str(tmp_path) not in line
    assert names(tmp_path) <= {"home"}
    with pytest.raises(ParamdiffError):
        Generator.from_pretrained("me/mine")
    assert not (tmp_path / "traces").exists()


def test_only_our_files_are_fetched(hub: Hub, saved: Path, tmp_path: Path):
    repo = hub.add_folder("me/mine", saved)
    bomb = pickle.dumps(Bomb(tmp_path / "traces"))
    repo.files |= {"setup.py": b"raise SystemExit", "../../.bashrc": b"echo", "state.safetensors": bomb,
                   "pytorch_model.bin": bomb, "a/config.json": b"{}", "generator.json": b"{}"}  # fmt: skip
    assert main(["pull", "me/mine", str(tmp_path / "got")]) == 0
    assert names(tmp_path / "got") == GENERATOR and not (tmp_path / "traces").exists()
    Generator.from_pretrained("me/mine")
    assert hub.downloads() <= GENERATOR


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [("config.json", 10**9, "config.json of the model me/mine has 1 GB; expected at most 67.1 MB"),
     ("README.md", 10**7, "README.md of the model me/mine has 10 MB; expected at most"),
     ("model.safetensors", 10**18, "model.safetensors of the model me/mine has 1,000,000 TB; expected at most")],
)  # fmt: skip
def test_giant_files_are_not_fetched(
    name: str, size: int, text: str, hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    hub.add_folder("me/mine", saved).sizes[name] = size
    assert main(["pull", "me/mine", str(tmp_path / "got")]) == 2
    assert text in said(capsys) and hub.downloads() == set()


def test_hostile_zoos_leave_nothing(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tied_zoo().save(tmp_path / "zoo")
    repo = hub.add_folder("me/zoo", tmp_path / "zoo", "dataset")
    sound, got = dict(repo.files), str(tmp_path / "got")
    for name, data, text in (
        (
            "base.safetensors",
            pickle.dumps(Bomb(tmp_path / "traces")),
            "base.safetensors is not the file that was saved",
        ),
        (
            "vectors.safetensors",
            sound["base.safetensors"],
            "vectors.safetensors is not the file that was saved",
        ),
        ("manifest.json", b"[]", "zoo"),
    ):
        repo.files = sound | {name: data}
        assert main(["pull", "me/zoo", got]) == 2
        assert text in said(capsys) and names(tmp_path) <= {"zoo", "home"}
    repo.files = {"README.md": b"no zoo at all"}
    assert main(["pull", "me/zoo", got]) == 2
    assert "has no generator and no zoo me/zoo" in said(capsys)


def test_old_generators_are_pushed_in_the_new_format(hub: Hub, tmp_path: Path):
    """And one that was saved by the version before in a run folder."""
    run = a_run(tmp_path / "run")
    config = read_json(run / "generator" / "config.json")
    (run / "generator" / "config.json").unlink()
    write_json(
        run / "generator" / "generator.json", {key: config[key] for key in ("generator", "settings", "notes")}
    )
    (run / "generator" / "model.safetensors").rename(run / "generator" / "state.safetensors")
    assert main(["push", str(run), "me/mine"]) == 0
    assert set(hub.repos["model", "me/mine"].files) == GENERATOR
    assert main(["pull", "me/mine", str(tmp_path / "got")]) == 0
    assert "/network/frozen/norm.num_batches_tracked" in load_tensors(tmp_path / "got" / "model.safetensors")
