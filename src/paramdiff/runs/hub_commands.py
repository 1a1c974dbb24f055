"""``paramdiff push PATH ID`` and ``paramdiff pull ID PATH``: generators and zoos to the Hugging Face Hub and back."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramdiff.artefacts import ArtefactFolder
from paramdiff.errors import CheckpointError, ConfigError, HubError, HubMissingError, ParamdiffError
from paramdiff.generators import saving
from paramdiff.generators.generator import Generator
from paramdiff.hub.access import DATASETS, Repository, require_id, require_token
from paramdiff.hub.cards import placed
from paramdiff.hub.transfer import download
from paramdiff.reports.schema import read_manifest, read_typed_results
from paramdiff.zoo import sharing
from paramdiff.zoo.storage import FOLDER as ZOO
from paramdiff.zoo.zoo import Zoo

GENERATOR = saving.FOLDER
CARD = "README.md"


@dataclass(frozen=True)
class Options:
    """Of ``paramdiff push``.

    Attributes:
        private: whether a new repository is; None leaves it to the user's settings on the Hub.
        license: for the card, as the Hub writes it.
        revision: branch to write to.
    """

    private: bool | None = None
    license: str | None = None
    revision: str | None = None


def push_command(path: str, id: str, options: Options = Options()) -> int:
    """Upload a run's generator, a saved generator or a zoo; returns the exit code.

    Raises:
        ParamdiffError: there is nothing to push, it is damaged, or the Hub does not take it.
    """
    require_id(id.removeprefix(DATASETS))
    require_token(None)
    folder = Path(path).expanduser()
    if ZOO.marks(folder):
        print(_push_zoo(folder, id.removeprefix(DATASETS), options))
    elif id.startswith(DATASETS):
        raise HubError(f"{path} is no zoo", expected=f"a saved zoo for the data set {id}",
                       remedy=f"leave out {DATASETS!r} to push a generator")  # fmt: skip
    else:
        print(_push_generator(folder, id, options))
    return 0


def _push_zoo(folder: Path, id: str, options: Options) -> str:
    Zoo.verify(folder)
    zoo = Zoo.load(folder)
    address = zoo.push_to_hub(
        id,
        license=options.license,
        card=_own_card(folder, id),
        private=options.private,
        revision=options.revision,
    )
    return f"{_described_zoo(zoo)} is at {address}"


def _push_generator(folder: Path, id: str, options: Options) -> str:
    generator, about = _generator(folder, id)
    address = generator.push_to_hub(
        id, license=options.license, private=options.private, revision=options.revision, **about
    )
    return f"{_described(generator)} is at {address}"


def _generator(folder: Path, id: str) -> tuple[Generator, dict[str, Any]]:
    """The generator of a run folder, or of a saved one, with what its card is made from.

    Raises:
        ParamdiffError: there is none, or it lacks its network.
    """
    if GENERATOR.marks(folder):
        run = next((one for one in folder.absolute().parents[:3] if ZOO.marks(one / "zoo")), None)
        if run is None:
            return Generator.load(folder), {"card": _own_card(folder, id)}
        return _of_run(folder, run, id)
    if GENERATOR.marks(folder / "generator") and ZOO.marks(folder / "zoo"):
        return _of_run(folder / "generator", folder, id)
    with suppress(CheckpointError):
        read_manifest(folder / "manifest.json")
        raise ParamdiffError(f"the run {folder} has no generator yet",
                             remedy=f"finish it: paramdiff run run_dir={folder}")  # fmt: skip
    raise ParamdiffError(f"{folder} is nothing that can be pushed",
                         expected="a run folder, a saved generator or a saved zoo")  # fmt: skip


def _of_run(folder: Path, run: Path, id: str) -> tuple[Generator, dict[str, Any]]:
    """A generator in a run folder, with the network of the run's zoo and the results, if there are some."""
    generator = Generator.load(folder, Zoo.load(run / "zoo"))
    row = folder.absolute().parent.name if folder.absolute().parent.parent.name == "baselines" else None
    return generator, {"results": _results(run), "row": row, "card": _own_card(folder, id)}


def _results(run: Path) -> Mapping[str, Any] | None:
    path = run / "results.json"
    return read_typed_results(path, "run `paramdiff compare` again") if path.exists() else None


def _own_card(folder: Path, id: str) -> str | None:
    """The card that lies there already, as it may have been edited; its example loads from the Hub."""
    with suppress(OSError, UnicodeDecodeError):
        return placed((folder / CARD).read_text(encoding="utf-8"), id)
    return None


def pull_command(id: str, path: str, revision: str | None = None) -> int:
    """Fetch a generator or a zoo into a folder, checked; returns the exit code.

    Args:
        id: ``user/name``, or ``datasets/user/name`` where a model has the same name as a zoo.
        path: a new or empty folder, or one of the same kind, which is replaced.
        revision: branch, tag or commit.

    Raises:
        ParamdiffError: there is no such thing, it is damaged or not ours, or something else is in the way.
    """
    require_id(id.removeprefix(DATASETS))
    folder = Path(path).expanduser()
    if id.startswith(DATASETS):
        print(_pull_zoo(Repository(id.removeprefix(DATASETS), "dataset", revision), folder))
        return 0
    try:
        print(_pull_generator(Repository(id, "model", revision), folder))
    except HubMissingError as error:
        try:
            print(_pull_zoo(Repository(id, "dataset", revision), folder))
        except HubMissingError:
            raise HubMissingError(f"the Hugging Face Hub has no generator and no zoo {id}, or it is private",
                                  expected="what `paramdiff push` wrote", remedy=error.remedy) from None  # fmt: skip
    return 0


def _pull_generator(repository: Repository, folder: Path) -> str:
    return _pulled(repository, folder, GENERATOR, saving.NEEDED)


def _pull_zoo(repository: Repository, folder: Path) -> str:
    return _pulled(repository, folder, ZOO, sharing.NEEDED)


def _pulled(repository: Repository, folder: Path, kind: ArtefactFolder, names: Any) -> str:
    """Fetch and check in a temporary folder that takes its name only when all is well; says what it is."""
    with kind.writing(folder) as partial:
        download(repository, names, optional=(CARD,), into=partial)
        try:
            told = _checked_zoo(partial) if kind is ZOO else _described(Generator.load(partial))
        except ParamdiffError as error:
            raise _about(error, repository, partial) from None
    return f"{told}, in {folder}"


def _about(error: ParamdiffError, repository: Repository, partial: Path) -> HubError:
    """What is wrong with an artefact, named as where it came from and not as the temporary folder."""
    came = f"{error.key}: {error.came}" if isinstance(error, ConfigError) else error.came
    came, expected = (text.replace(str(partial), str(repository)) for text in (came, error.expected))
    return HubError(f"the {repository} is not usable: {came}", expected=expected,
                    remedy="ask its author to push it again; nothing was kept")  # fmt: skip


def _checked_zoo(folder: Path) -> str:
    Zoo.verify(folder)
    return _described_zoo(Zoo.load(folder))


def _described_zoo(zoo: Zoo) -> str:
    return f"a zoo of K = {zoo.k:,} checkpoints with D = {zoo.dim:,} parameters ({zoo.spec.select})"


def _described(generator: Generator) -> str:
    assert generator.normaliser is not None
    network = generator.network
    around = f" of a network of {len(network.names):,} tensors" if network else ", without its network"
    return f"a generator ({generator.label}) of D = {len(generator.normaliser.mean):,} parameters{around}"
