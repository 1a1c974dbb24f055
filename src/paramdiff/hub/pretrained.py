"""What is kept in a folder of its own and on the Hugging Face Hub: one way for generators and for zoos.

Both are data: nothing in them names code, and nothing of them is executed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from paramdiff.errors import GeneratorError

if TYPE_CHECKING:
    from paramdiff.hub.cards import CardOptions


class Pretrained(ABC):
    """From the Hub, and on to it.

    Class attributes:
        repository_kind: of its repositories, as the Hub calls it.
    """

    repository_kind: ClassVar[Literal["model", "dataset"]]

    @classmethod
    @abstractmethod
    def _repository_files(cls) -> tuple[Sequence[str], Sequence[str]]:
        """Names of the files that a repository has to hold, and of those that it may."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path | str) -> Any: ...

    @classmethod
    def from_pretrained(
        cls, source: Path | str, *, revision: str | None = None, token: str | None = None
    ) -> Self:
        """What ``save_pretrained`` wrote, out of a folder or from the Hugging Face Hub.

        It is data: nothing in it names code, and nothing of it is executed. Where the Hub cannot be reached, what was
        downloaded before is taken from the Hub's cache. The matrix of a zoo stays on disk until it is used.

        Args:
            source: a folder, or ``user/name``.
            revision: branch, tag or commit on the Hub.
            token: for a private repository; by default ``HF_TOKEN``, or that of ``hf auth login``.

        Raises:
            CheckpointError, GeneratorError, ZooError: it is damaged.
            GeneratorError: it is of another class than the one asked for.
            HubError: there is no such folder or repository.
            HubUnreachableError: the Hub cannot be reached.
        """
        from paramdiff.hub.transfer import located

        needed, _ = cls._repository_files()
        found = cls.load(located(source, cls.repository_kind, needed, revision=revision, token=token))
        if not isinstance(found, cls):
            raise GeneratorError(f"{source} holds a generator {found.name!r}", expected=f"{cls.name!r}",  # type: ignore[attr-defined]
                                 remedy="use Generator.from_pretrained")  # fmt: skip
        return found

    def _push(
        self, id: str, write: Callable[[Path], None], *, private: bool | None, revision: str | None, token: str | None
    ) -> str:  # fmt: skip
        """Upload what ``write`` writes into a folder; returns its address."""
        from paramdiff.hub.transfer import Repository, push

        needed, optional = self._repository_files()
        repository = Repository(id, self.repository_kind, revision)
        return push(repository, write, (*needed, *optional), private=private, token=token)


def _options(
    folder: Path | str, place: str | None, license: str | None, tags: Sequence[str]
) -> "CardOptions":
    from paramdiff.hub.cards import CardOptions

    return CardOptions(place or Path(folder).name, license, tags)


class PretrainedZoo(Pretrained):
    """A data set of the Hub."""

    repository_kind = "dataset"

    @abstractmethod
    def _write(self, folder: Path | str, options: "CardOptions", card: str | None) -> None:
        """Write it with a card."""

    def save_pretrained(
        self, folder: Path | str, *, license: str | None = None, tags: Sequence[str] = (), place: str | None = None,
        card: str | None = None,
    ) -> None:  # fmt: skip
        """Write what :meth:`save` writes, without paths of this machine, and a data-set card, ``README.md``.

        Args:
            folder: new, empty, or of a saved zoo.
            license: for the card, as the Hub writes it; none by default.
            tags: for the card, beside those of this library.
            place: what the card's example loads; by default the folder.
            card: one to take as it is.

        Raises:
            ZooError: there is anything but a saved zoo.
            DiskError: the disk is full or not writable.
        """
        self._write(folder, _options(folder, place, license, tags), card)

    def push_to_hub(
        self, id: str, *, license: str | None = None, tags: Sequence[str] = (), card: str | None = None,
        private: bool | None = None, revision: str | None = None, token: str | None = None,
    ) -> str:  # fmt: skip
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub, as a data set; returns its address.

        Args:
            id: ``user/name``; the repository is made if there is none.
            license, tags, card: as for :meth:`save_pretrained`.
            private: whether a new repository is.
            revision: branch to write to.
            token: by default ``HF_TOKEN``, or that of ``hf auth login``.

        Raises:
            HubError: a wrong id, no token, or no right to write.
            HubUnreachableError: the Hub cannot be reached.
        """

        def write(folder: Path) -> None:
            self._write(folder, _options(folder, id, license, tags), card)

        return self._push(id, write, private=private, revision=revision, token=token)


class PretrainedGenerator(Pretrained):
    """A model of the Hub, whose card may have results."""

    repository_kind = "model"

    @abstractmethod
    def _write(
        self, folder: Path | str, options: "CardOptions", card: str | None, results: Mapping[str, Any] | None,
        row: str | None,
    ) -> None:  # fmt: skip
        """Write it with its network and a card."""

    def save_pretrained(
        self, folder: Path | str, *, results: Mapping[str, Any] | None = None, row: str | None = None,
        license: str | None = None, tags: Sequence[str] = (), place: str | None = None, card: str | None = None,
    ) -> None:  # fmt: skip
        """Write it with its network and a model card: loaded, it needs no originals.

        Args:
            folder: gets ``config.json``, ``model.safetensors`` and ``README.md``, atomically.
            results: of an evaluation (the dictionary of ``results.json``), for the card.
            row: its row in the results; by default that of its name, else the one that the verdict is about.
            license: for the card, as the Hub writes it, e.g. ``apache-2.0``; none by default.
            tags: for the card, beside those of this library.
            place: what the card's example loads; by default the folder's name.
            card: one to take as it is.

        Raises:
            GeneratorError: not fitted, or without its network, or there is anything but a saved generator.
            DiskError: the disk is full or not writable.
        """
        self._write(folder, _options(folder, place, license, tags), card, results, row)

    def push_to_hub(
        self, id: str, *, results: Mapping[str, Any] | None = None, row: str | None = None,
        license: str | None = None, tags: Sequence[str] = (), card: str | None = None, private: bool | None = None,
        revision: str | None = None, token: str | None = None,
    ) -> str:  # fmt: skip
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub; returns its address there.

        Args:
            id: ``user/name``; the repository is made if there is none.
            results, row, license, tags, card: as for :meth:`save_pretrained`.
            private: whether a new repository is.
            revision: branch to write to.
            token: by default ``HF_TOKEN``, or that of ``hf auth login``.

        Raises:
            GeneratorError: not fitted, or without its network.
            HubError: a wrong id, no token, or no right to write.
            HubUnreachableError: the Hub cannot be reached.
        """

        def write(folder: Path) -> None:
            self._write(folder, _options(folder, id, license, tags), card, results, row)

        return self._push(id, write, private=private, revision=revision, token=token)
