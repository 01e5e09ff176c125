"""Slices from a Kaggle data set, by Kaggle's own client, with handle and version pinned.

The client checks the archive against the server's MD5, resumes a broken download from where it stopped, and keeps the unpacked set in
`~/.cache/kagglehub` (or `$KAGGLEHUB_CACHE`), from where it is used without asking the network again. Public sets need no credentials;
where they exist (`$KAGGLE_API_TOKEN`, `$KAGGLE_USERNAME` with `$KAGGLE_KEY`, `~/.kaggle/`), the client uses them. Nothing that the client
prints is shown but its progress bar: in test mode it prints whole requests, credentials included.
"""

import contextlib
import io
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from pipeline import params
from pipeline.errors import UserError
from pipeline.sources import archive, folder

if TYPE_CHECKING:
    import requests

ATTEMPTS = 5  # a connection that breaks midway is taken up again this often


def fetch(data: params.Data, target: Path) -> dict[str, object]:
    """Download (or take from the cache) `data.kaggle` and copy its images into `target`, sorted by modality and split.

    Gives handle and version. Raises UserError when the set cannot be had or does not hold the expected folders.
    """
    handle, version = data.kaggle.handle, data.kaggle.version
    root = _download(handle, version)
    pairs = folder.take(root, target, f"Kaggle data set {handle} version {version}")
    return {"handle": handle, "version": version, "pairs": pairs}


def current_version(handle: str) -> int:
    """The version of the data set `handle` that Kaggle has now. Raises UserError when it cannot be asked."""
    import kagglehub.clients
    import kagglehub.handle
    import requests
    from kagglehub.http_resolver import _get_current_version

    what = f"Kaggle data set {handle}"
    try:
        with _quiet(), kagglehub.clients.build_kaggle_client() as client:
            return int(_get_current_version(client, kagglehub.handle.parse_dataset_handle(handle)))
    except requests.HTTPError as error:
        raise _refused(what, error) from None
    except requests.RequestException as error:
        raise _unreachable(what, error, 0) from None


def _download(handle: str, version: int) -> Path:
    """The folder with the unpacked data set."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")  # seconds between lines of the progress bar in a log file
    import kagglehub.cache
    import kagglehub.handle
    import requests

    what = f"Kaggle data set {handle} version {version}"
    pinned = kagglehub.handle.parse_dataset_handle(f"{handle}/versions/{version}")
    kept = Path(kagglehub.cache.get_cached_archive_path(pinned))
    with _one_at_a_time(kept), _quiet(), _own_unpacking():
        for attempt in range(1, ATTEMPTS + 1):
            before = _size(kept)
            try:
                return Path(kagglehub.dataset_download(str(pinned)))
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                midway = isinstance(error, requests.exceptions.ChunkedEncodingError) or _size(kept) > before
                if attempt == ATTEMPTS or not midway:
                    raise _unreachable(what, error, _size(kept)) from None
            except kagglehub.exceptions.DataCorruptionError:
                # The client removed the file. What it resumed may have been a leftover of something else: once more from the start.
                if before == 0 or attempt == ATTEMPTS:
                    raise UserError(f"{what}: the download does not match Kaggle's checksum; run again", retryable=True) from None
            except _Unsound as error:
                if before == 0 or attempt == ATTEMPTS:
                    raise UserError(f"{what}: {error}") from None
            except requests.HTTPError as error:
                raise _refused(what, error) from None
            except requests.RequestException as error:
                raise UserError(
                    f"{what}: the download failed ({type(error).__name__}); check proxy and network settings, then run again"
                ) from None
            except ValueError as error:
                if "credentials" not in str(error):
                    raise
                raise UserError(f"{what}: {error}; mend or remove the file (public sets need none)") from None
        raise AssertionError("unreachable")


class _Unsound(Exception):
    """The archive arrived, and cannot be unpacked."""


@contextlib.contextmanager
def _own_unpacking() -> Iterator[None]:
    """Have the client unpack with our limits, and not keep an archive that cannot be unpacked (it would resume it for ever)."""

    def unpack(archive_path: str, out_path: str) -> None:
        shutil.rmtree(out_path, ignore_errors=True)  # leftovers of an unpacking that was killed
        Path(out_path).mkdir(parents=True)
        try:
            archive.extract(Path(archive_path), Path(out_path))
        except UserError as error:
            Path(archive_path).unlink()
            shutil.rmtree(out_path)
            raise _Unsound(str(error).removeprefix(f"{archive_path}: ")) from None

    with mock.patch("kagglehub.http_resolver._extract_archive", unpack):
        yield


@contextlib.contextmanager
def _one_at_a_time(kept: Path) -> Iterator[None]:
    """Two pipelines on one machine share the client's cache, and would write into each other's archive."""
    import filelock

    kept.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(kept.with_name(f"{kept.name}.lock")):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.getLogger("kagglehub").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _unreachable(what: str, error: Exception, kept: int) -> UserError:
    why = type(error).__name__
    if kept:
        line = f"{what}: the connection broke ({why}); {kept / 2**20:.1f} MiB are kept, run again to go on from there"
    else:
        line = f"{what}: Kaggle cannot be reached ({why}); connect this machine to the network, or use data.source: folder"
    return UserError(line, retryable=True)


_REFUSALS = {
    401: "Kaggle refuses the credentials (401); renew or remove those in ~/.kaggle or $KAGGLE_* (public sets need none)",
    403: "Kaggle denies access (403); open its page once, accept its terms, and give credentials in ~/.kaggle/kaggle.json",
    404: "Kaggle knows no such data set or version (404); check data.kaggle.handle and data.kaggle.version",
    429: "Kaggle asks to slow down (429); wait some minutes, then run again",
}


def _refused(what: str, error: "requests.HTTPError") -> UserError:
    """The error for an answer of Kaggle's: busy (429) and broken (5xx) servers may answer later, a refusal stands."""
    status = error.response.status_code if error.response is not None else 0
    line = _REFUSALS.get(status, f"Kaggle answered with status {status}; run again later")
    return UserError(f"{what}: {line}", retryable=status not in (401, 403, 404))
