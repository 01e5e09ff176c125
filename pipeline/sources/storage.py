"""What object storage or a web server holds at an address (s3://, gs://, https://, ... by fsspec), and its errors as one line."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from pipeline.errors import UserError, mask_credentials

_EXTRAS = "pip install 'ctmr[storage]'"


@dataclass(frozen=True)
class Object:
    """One object: its key in the storage, its name below the address, its size in bytes, and a mark that changes with its content."""

    key: str
    name: str
    size: int
    mark: str


def title_of(address: str) -> str:
    """What the data at `address` is called."""
    return f"Objects at {mask_credentials(address)}"


def listing_digest(address: str) -> str:
    """Digest of names, sizes and marks of all objects at `address`. Raises UserError as `opened` and `list_objects`."""
    with opened(address) as (storage, root):
        return digest(list_objects(storage, root, title_of(address)))


@contextmanager
def opened(address: str) -> Iterator[tuple[AbstractFileSystem, str]]:
    """The storage and the place in it. Within the block, what the storage raises becomes a UserError, retryable where it may come back."""
    with _errors(title_of(address)):
        yield _open(address)


def _open(address: str) -> tuple[AbstractFileSystem, str]:
    try:
        storage, root = url_to_fs(address)
    except ImportError as error:
        raise UserError(f"{title_of(address)}: this needs a library that is not installed ({error.name}); {_EXTRAS}") from None
    except ValueError as error:
        raise UserError(f"{title_of(address)}: {error}") from None
    storage.invalidate_cache()
    return storage, root


def list_objects(storage: AbstractFileSystem, root: str, title: str) -> list[Object]:
    """Every object at `root`, by name; `root` itself where it is one. Raises UserError where there is none."""
    info = storage.info(root)
    found = {root: info} if info["type"] == "file" else storage.find(root, detail=True)
    objects = []
    for key, facts in sorted(found.items()):
        name = key.removeprefix(root).strip("/") or PurePosixPath(key.split("?")[0]).name
        if facts["type"] != "file" or name.endswith("/") or any(part.startswith(".") for part in PurePosixPath(name).parts):
            continue
        mark = next((str(facts[mark]) for mark in ("ETag", "etag", "md5Hash", "LastModified", "mtime") if facts.get(mark)), "")
        objects.append(Object(key, name, int(facts.get("size") or 0), mark))
    if not objects:
        raise UserError(f"{title}: nothing there; check data.url")
    return objects


def digest(objects: list[Object]) -> str:
    """Other where an object is new, gone or changed."""
    return hashlib.sha256("\n".join(f"{item.name}\0{item.size}\0{item.mark}" for item in objects).encode()).hexdigest()


@contextmanager
def _errors(title: str) -> Iterator[None]:
    """What storages raise as one line; no text of theirs, which may hold signed addresses."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec says so as well of a web server that does not answer, or answers that it cannot
        if isinstance(cause, OSError) or getattr(cause, "status", 404) >= 500:
            raise _unreachable(title, cause) from None
        raise UserError(f"{title}: no such bucket, folder or file; check data.url") from None
    except PermissionError:
        raise UserError(f"{title}: access denied (403); give credentials in the usual place of this storage, such as ~/.aws") from None
    except Exception as error:
        if not _is_of_network(error):
            raise
        raise _unreachable(title, error) from None


def _unreachable(title: str, error: BaseException | None) -> UserError:
    return UserError(f"{title}: cannot be reached ({type(error).__name__}); check the network, then run again", retryable=True)


def _is_of_network(error: BaseException) -> bool:
    """Whether an error comes from the storage's client: OSError without a local file, or one of the client's own."""
    modules = ("aiohttp", "botocore", "aiobotocore", "s3fs", "gcsfs", "fsspec", "requests", "asyncio")
    if isinstance(error, OSError) and error.filename is None and not isinstance(error, BlockingIOError):
        return error.errno not in (28, 122)  # a full disk is no fault of the network
    return type(error).__module__.split(".")[0] in modules or isinstance(error, TimeoutError)
