"""Source `kaggle`: slices from a Kaggle data set, by Kaggle's own client, with handle and version pinned.

The client checks the archive against the server's MD5 and resumes a broken download from where it stopped. The unpacked set stays in
`~/.cache/kagglehub` (or `$KAGGLEHUB_CACHE`) with its digest beside it, and is used from there without asking the network again while it
still has that digest. Public sets need no credentials; where they exist (`$KAGGLE_API_TOKEN`, `$KAGGLE_USERNAME` with `$KAGGLE_KEY`,
`~/.kaggle/`), the client uses them. Nothing that the client prints is shown but its progress bar: in test mode it prints whole requests,
credentials included.
"""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock
import requests
from kagglehub.cache import get_cached_archive_path, get_cached_path
from kagglehub.clients import build_kaggle_client, download_file
from kagglehub.config import get_kaggle_credentials
from kagglehub.exceptions import DataCorruptionError
from kagglehub.handle import DatasetHandle, parse_dataset_handle
from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest, ApiGetDatasetRequest
from kagglesdk.kaggle_client import KaggleClient

from pipeline import atomic
from pipeline.errors import UserError
from pipeline.params import Data
from pipeline.sources import archive, folder, provenance
from pipeline.sources.provenance import Fetched, News, Provenance

ATTEMPTS = 5  # a connection that breaks midway is taken up again this often


def fetch(data: Data, target: Path) -> Fetched:
    """Download (or take from the cache) `data.kaggle` and copy its images into `target`, sorted by modality and split.

    Raises UserError when the set cannot be had or does not hold the expected folders.
    """
    handle, version = data.kaggle.handle, data.kaggle.version
    title = f"Kaggle data set {handle} version {version}"
    facts = folder.copy_tree(_bring(handle, version, title), target, title, data.patient)
    return Fetched(title, version, pinned=True, facts={"handle": handle, **facts})


def look(data: Data, used: Provenance | None) -> News:
    """Whether Kaggle has a later version than the one in use."""
    handle = data.kaggle.handle
    current = max(data.kaggle.version, current_version(handle))
    in_use = used.version if used and used.facts.get("handle") == handle else None
    state = f"version {in_use} is in use" if in_use else "none of it is in use yet"
    return News(in_use != current, f"{handle} has version {current}, {state}", {"data.kaggle.version": current})


def current_version(handle: str) -> int:
    """The version of the data set `handle` that Kaggle has now. Raises UserError when it cannot be asked."""
    title, request = f"Kaggle data set {handle}", ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = handle.split("/")
    try:
        with _client(title) as client:
            return int(client.datasets.dataset_api_client.get_dataset(request).current_version_number)
    except requests.HTTPError as error:
        raise _refused(title, error) from None
    except requests.RequestException as error:
        raise _unreachable(title, error, 0) from None


def _bring(handle: str, version: int, title: str) -> Path:
    """The folder with the unpacked data set: the copy in the cache when it is whole, else a new one."""
    pinned = parse_dataset_handle(f"{handle}/versions/{version}")
    packed, unpacked = Path(get_cached_archive_path(pinned)), Path(get_cached_path(pinned))
    seal = packed.with_suffix(".sha256")
    packed.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(packed.with_name(f"{packed.name}.lock")):  # pipelines of one machine share the cache
        if unpacked.is_dir() and seal.is_file() and seal.read_text(encoding="utf-8").strip() == provenance.digest(unpacked):
            return unpacked
        try:
            _download(pinned, packed, unpacked, title)
        except UserError as error:
            if unpacked.is_dir():
                error.args = (f"{error}; the copy in {unpacked} is not whole, or was not checked when it was made, and is not used",)
            raise
        with atomic.new_file(seal) as file:
            file.write_text(provenance.digest(unpacked) + "\n", encoding="utf-8")
    return unpacked


def _download(pinned: DatasetHandle, packed: Path, unpacked: Path, title: str) -> None:
    """Download the archive to `packed`, going on from what is there already, and replace `unpacked` with its content."""
    for attempt in range(1, ATTEMPTS + 1):
        before = _size(packed)
        last = attempt == ATTEMPTS
        try:
            _request(pinned, packed, title)
            _unpack(packed, unpacked)
            return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            midway = isinstance(error, requests.exceptions.ChunkedEncodingError) or _size(packed) > before
            if last or not midway:
                raise _unreachable(title, error, _size(packed)) from None
        except DataCorruptionError:
            # The client removed the file. What it resumed may have been a leftover of something else: once more from the start.
            if before == 0 or last:
                raise UserError(f"{title}: the download does not match Kaggle's checksum; run again", retryable=True) from None
        except _Unsound as error:
            if before == 0 or last:
                raise UserError(f"{title}: {error}") from None
        except requests.HTTPError as error:
            raise _refused(title, error) from None
        except requests.RequestException as error:
            why = type(error).__name__
            raise UserError(f"{title}: the download failed ({why}); check proxy and network settings, then run again") from None


def _request(pinned: DatasetHandle, packed: Path, title: str) -> None:
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")  # seconds between lines of the progress bar in a log file
    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug, request.dataset_version_number = pinned.owner, pinned.dataset, pinned.version
    with _client(title) as client:
        answer = client.datasets.dataset_api_client.download_dataset(request)
        download_file(answer, str(packed), pinned)  # type: ignore[arg-type]  # the client's own way: it says HttpRedirect, and is a response


class _Unsound(Exception):
    """The archive arrived, and cannot be unpacked."""


def _unpack(packed: Path, unpacked: Path) -> None:
    """Unpack with our limits, and keep no archive that cannot be unpacked: it would be resumed for ever."""
    try:
        with atomic.new_folder(unpacked) as folder:
            archive.extract(packed, folder)
    except UserError as error:
        raise _Unsound(str(error).removeprefix(f"{packed}: ")) from None
    finally:
        packed.unlink()


@contextlib.contextmanager
def _client(title: str) -> Iterator[KaggleClient]:
    """Kaggle's client, which keeps quiet. Raises UserError for a credentials file that is none."""
    try:
        get_kaggle_credentials()
    except ValueError as error:
        raise UserError(f"{title}: {error}; mend or remove the file (public sets need none)") from None
    logging.getLogger("kagglehub").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), build_kaggle_client() as client:
        yield client


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _unreachable(title: str, error: Exception, kept: int) -> UserError:
    why = type(error).__name__
    if kept:
        line = f"{title}: the connection broke ({why}); {kept / 2**20:.1f} MiB are kept, run again to go on from there"
    else:
        line = f"{title}: Kaggle cannot be reached ({why}); connect this machine to the network, or use data.source: folder"
    return UserError(line, retryable=True)


_REFUSALS = {
    401: "Kaggle refuses the credentials (401); renew or remove those in ~/.kaggle or $KAGGLE_* (public sets need none)",
    403: "Kaggle denies access (403); open its page once, accept its terms, and give credentials in ~/.kaggle/kaggle.json",
    404: "Kaggle knows no such data set or version (404); check data.kaggle.handle and data.kaggle.version",
    429: "Kaggle asks to slow down (429); wait some minutes, then run again",
}


def _refused(title: str, error: requests.HTTPError) -> UserError:
    """The error for an answer of Kaggle's: busy (429) and broken (5xx) servers may answer later, a refusal stands."""
    status = error.response.status_code if error.response is not None else 0
    line = _REFUSALS.get(status, f"Kaggle answered with status {status}; run again later")
    return UserError(f"{title}: {line}", retryable=status not in (401, 403, 404))
