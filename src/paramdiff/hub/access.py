"""The Hugging Face Hub as this library uses it: ids, one client, and clear errors.

No message holds a token, whatever the libraries below write into theirs.
"""

import errno
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from paramdiff import __version__
from paramdiff.atomic import disk_error
from paramdiff.errors import HubError, HubMissingError, HubUnreachableError, ParamdiffError
from paramdiff.progress import quiet

Kind = Literal["model", "dataset"]

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""What an id looks like; the Hub's own rules are a little stricter."""

DATASETS = "datasets/"
"""Prefix of the id of a data set, as in addresses of the Hub."""

SECRET = re.compile(r"hf_\w+|(?:[Bb]earer|[Bb]asic)\s+\S+")

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM)

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Repository:
    """A model (of ours: a generator) or a data set (a zoo) on the Hub.

    Attributes:
        id: ``user/name``.
        revision: branch, tag or commit; the newest by default.
    """

    id: str
    kind: Kind = "model"
    revision: str | None = None

    def __str__(self) -> str:
        return f"{'model' if self.kind == 'model' else 'data set'} {self.id}"


def require_id(text: str) -> str:
    """``text`` if it can be the id of a repository.

    Raises:
        HubError: it cannot.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(text)
        fits = HUB_ID.fullmatch(text) is not None
    except HFValidationError:
        fits = False
    if not fits:
        raise HubError(f"{text[:80]!r} is no id on the Hugging Face Hub",
                       expected="user/name of letters, digits, '-', '_' and '.'")  # fmt: skip
    return text


def require_token(token: str | None) -> None:
    """Raise :class:`HubError` if there is no token to write with."""
    from huggingface_hub import get_token

    if not (token or get_token()):
        raise HubError("there is no token for the Hugging Face Hub", remedy=LOG_IN)


def client(token: str | None = None) -> Any:
    """A ``huggingface_hub.HfApi``, at ``HF_ENDPOINT`` if that is set."""
    from huggingface_hub import HfApi

    endpoint = os.environ.get("HF_ENDPOINT") or None
    return HfApi(endpoint=endpoint, token=token, library_name="paramdiff", library_version=__version__)


@contextmanager
def asking(repository: Repository, *, to_write: bool = False) -> Iterator[None]:
    """Inside, the library is quiet, and what it raises becomes one line.

    Raises:
        HubError: the Hub refuses, or has no such thing.
        HubUnreachableError: it cannot be reached, or broke off.
        DiskError: the disk is full or not writable.
    """
    try:
        with _quietly():
            yield
    except ParamdiffError:
        raise
    except Exception as error:  # of httpx, requests, huggingface_hub or the system, depending on versions
        raise _in_words(error, repository, to_write) from None


@contextmanager
def _quietly() -> Iterator[None]:
    """No log lines or warnings, as errors are reported here, and progress bars only on a terminal."""
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    level, hidden = logging.get_verbosity(), (quiet() or not sys.stderr.isatty())
    hidden = hidden and not are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    if hidden:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if hidden:
            enable_progress_bars()


def _in_words(error: Exception, repository: Repository, to_write: bool) -> ParamdiffError:
    causes = list(_causes(error))
    for cause in causes:
        told = _known(cause, repository, to_write)
        if told is not None:
            return told
    return HubUnreachableError(
        f"the Hugging Face Hub cannot be reached, or broke off ({_reason(causes[-1])})",
        remedy="check the connection and HF_ENDPOINT, then try again",
    )


def _known(cause: BaseException, repository: Repository, to_write: bool) -> ParamdiffError | None:
    from huggingface_hub import errors

    if isinstance(cause, errors.OfflineModeIsEnabled):
        return HubError("HF_HUB_OFFLINE is set and this is not on this machine", remedy="unset it")
    if isinstance(cause, errors.HfHubHTTPError):
        return _answered(cause, repository, to_write)
    if isinstance(cause, OSError) and cause.errno in DISK:
        return disk_error(cause, cause.filename or "a download")
    return None


def _answered(error: Any, repository: Repository, to_write: bool) -> ParamdiffError:
    """What the Hub answered instead of doing what was asked."""
    from huggingface_hub import errors

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"the {repository} is given to some only", remedy=f"ask for access on its page, then {LOG_IN}"
        )
    if status in (401, 403) and to_write:
        return HubError(f"the Hugging Face Hub does not let you write the {repository}",
                        remedy=f"check the id, and use a token with the right to write: {LOG_IN}")  # fmt: skip
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return HubMissingError(f"the Hugging Face Hub has no {repository}, or it is private",
                               remedy=f"check the id; for a private one {LOG_IN}")  # fmt: skip
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(
            f"the {repository} has no revision {repository.revision!r}", expected="a branch, tag or commit"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return HubError(f"the {repository} lacks a file ({_reason(error)})")
    kind = HubUnreachableError if status >= 500 or status == 429 else HubError
    return kind(f"the Hugging Face Hub answers {status} ({_reason(error)})",
                remedy="try again later" if kind is HubUnreachableError else "")  # fmt: skip


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised from, to the first cause."""
    seen: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in seen:
        seen.append(step)
        yield step
        step = step.__cause__ or step.__context__


def _reason(error: BaseException) -> str:
    """The first line of a message, short and without tokens."""
    from huggingface_hub import get_token

    lines = str(getattr(error, "server_message", None) or error).strip().splitlines()
    text = SECRET.sub("<token>", lines[0]) if lines else type(error).__name__
    known = (get_token() or "").strip()
    return (text.replace(known, "<token>") if known else text)[:200]
