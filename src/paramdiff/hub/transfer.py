"""Files of a saved artefact to the Hub and back: only those with the names that our folders have.

Names, sizes and the commit are requested first, and files that could not be read are not fetched. Nothing that comes
from
the Hub is executed or unpickled: JSON, text and safetensors are all there is.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from paramdiff.artefacts import sha256
from paramdiff.errors import HubError, HubMissingError, HubUnreachableError
from paramdiff.files import JSON_BYTES
from paramdiff.hub.access import HUB_ID, Kind, Repository, asking, client, require_id, require_token
from paramdiff.progress import free_disk, room

LARGEST: Mapping[str, int] = {".json": JSON_BYTES, ".md": 1 << 20}
"""Most bytes of a file, by its suffix; files with other suffixes only have to fit on the disk."""


def push(
    repository: Repository, write: Callable[[Path], None], names: Sequence[str], *, private: bool | None = None,
    token: str | None = None,
) -> str:  # fmt: skip
    """Upload what ``write`` writes into a folder, which is there only for that; returns the repository's address.

    Raises:
        HubError, HubUnreachableError, DiskError: as :func:`upload`; nothing is written without an id and a token.
    """
    require_id(repository.id)
    require_token(token)
    with TemporaryDirectory(prefix="paramdiff-") as place:
        folder = Path(place) / "artefact"
        write(folder)
        return upload(repository, folder, names, private=private, token=token)


def located(
    source: Path | str,
    kind: Kind,
    names: Sequence[str],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """A folder if there is one of that name, else what the Hub has under that id.

    Raises:
        HubError: there is neither.
        HubUnreachableError: the Hub cannot be reached.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not (isinstance(source, str) and HUB_ID.fullmatch(source)):
        raise HubError(
            f"there is no folder {source}", expected="a folder, or an id on the Hugging Face Hub: user/name"
        )
    return download(Repository(source, kind, revision), names, token=token)


def upload(
    repository: Repository, folder: Path, names: Sequence[str], *, private: bool | None = None,
    token: str | None = None,
) -> str:  # fmt: skip
    """Put these files of a folder into a repository, which is made if need be, in one commit; returns its address.

    Raises:
        HubError: no token, a wrong id, or no right to write.
        HubUnreachableError: the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd

    what = "generator" if repository.kind == "model" else "zoo"
    with asking(repository, to_write=True):
        api = client(token)
        url = api.create_repo(repository.id, repo_type=repository.kind, private=private, exist_ok=True)
        files = [CommitOperationAdd(name, folder / name) for name in names if (folder / name).is_file()]
        api.create_commit(
            repository.id, files, commit_message=f"A {what} saved by paramdiff", repo_type=repository.kind,
            revision=repository.revision,
        )  # fmt: skip
    return str(url)


def download(
    repository: Repository, names: Sequence[str], *, optional: Sequence[str] = (), into: Path | None = None,
    token: str | None = None,
) -> Path:  # fmt: skip
    """The folder with these files of a repository.

    Args:
        repository: a model or a data set.
        names: of files that have to be there.
        optional: names of files that are fetched if they are there.
        into: a folder to put them; by default the Hub's cache, which also serves when the Hub cannot be reached.

    Raises:
        HubError: there is no such repository, or it holds no artefact of ours, or files that are too large.
        HubUnreachableError: the Hub cannot be reached, or the download broke off.
        DiskError: the disk is full.
    """
    from huggingface_hub import constants

    require_id(repository.id)
    try:
        commit, present = _listed(repository, names, optional, into or Path(constants.HF_HUB_CACHE), token)
    except HubUnreachableError:
        cached = None if into else _cached(repository, names)
        if cached is None:
            raise
        return cached
    with asking(repository):
        api = client(token)
        # Into the cache by its own name, so that it is found under that name where the Hub cannot be asked.
        revision, where = (commit, {"local_dir": into}) if into else (repository.revision, {})
        found = [
            Path(
                api.hf_hub_download(
                    repository.id, name, repo_type=repository.kind, revision=revision, **where
                )
            )
            for name in present
        ]
    if len({file.parent for file in found}) > 1:
        raise HubUnreachableError(f"the {repository} was changed while it was read", remedy="try again")
    if into:
        shutil.rmtree(into / ".cache", ignore_errors=True)  # the library's notes on the download
        _require_same(repository, found, present)
    return found[0].parent


def _listed(
    repository: Repository, names: Sequence[str], optional: Sequence[str], folder: Path, token: str | None
) -> tuple[str, dict[str, str | None]]:
    """The commit, and the hashes of the files to fetch where the Hub knows them."""
    with asking(repository):
        info = client(token).repo_info(
            repository.id, repo_type=repository.kind, revision=repository.revision, files_metadata=True
        )
    files = {file.rfilename: file for file in info.siblings or []}
    missing = [name for name in names if name not in files]
    if missing:
        raise HubMissingError(f"the {repository} has no {missing[0]}", expected="what paramdiff saved and pushed",
                              remedy="check the id")  # fmt: skip
    present = [name for name in (*names, *optional) if name in files]
    _require_room(repository, {name: files[name].size or 0 for name in present}, folder)
    return info.sha, {name: file.lfs.sha256 if (file := files[name]).lfs else None for name in present}


def _require_room(repository: Repository, sizes: Mapping[str, int], folder: Path) -> None:
    """Raise :class:`HubError` for files that are larger than ours can be, or than the disk."""
    free = free_disk(folder)
    for name, size in sizes.items():
        most = LARGEST.get(Path(name).suffix, free)
        if size > most:
            raise HubError(f"{name} of the {repository} has {room(size)}", expected=f"at most {room(most)}")
    whole = sum(sizes.values())
    if whole > free:
        raise HubError(f"the {repository} has {room(whole)}", expected=f"at most the {room(free)} free here")


def _require_same(repository: Repository, files: Sequence[Path], hashes: Mapping[str, str | None]) -> None:
    """Raise :class:`HubUnreachableError` unless large files came as they were pushed."""
    for file in files:
        known = hashes[file.name]
        if known is not None and sha256(file) != known:
            raise HubUnreachableError(f"{file.name} of the {repository} came damaged", remedy="try again")


def _cached(repository: Repository, names: Sequence[str]) -> Path | None:
    """The folder in the Hub's cache that an earlier download filled, if there is one."""
    from huggingface_hub import try_to_load_from_cache

    found = [
        try_to_load_from_cache(repository.id, name, repo_type=repository.kind, revision=repository.revision)
        for name in names
    ]
    return Path(found[0]).parent if all(isinstance(path, str) for path in found) else None  # type: ignore[arg-type]
