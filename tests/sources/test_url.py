"""Slices from an S3 server: what is new is fetched, what is gone goes, and what can go wrong is one line."""

import functools
import http.server
import io
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import paths
from pipeline.errors import UserError
from pipeline.params import Data, load
from pipeline.sources import url as url_source
from pipeline.sources.table import download, look

DATA = load(Path(__file__).parents[2] / paths.PARAMS).data
boto3 = pytest.importorskip("boto3")
server = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3 server on this machine."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket called heads with a CT and an MR picture below ward/."""
    secrets = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "topsecret", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**secrets, "AWS_ENDPOINT_URL": endpoint, "CTMR_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="heads")
    for name in ("ct/1.png", "mr/1.png"):
        client.put_object(Bucket="heads", Key=f"ward/{name}", Body=name.encode())
    yield client
    for item in client.list_objects_v2(Bucket="heads").get("Contents", []):
        client.delete_object(Bucket="heads", Key=item["Key"])
    client.delete_bucket(Bucket="heads")


def settings(address: str = "s3://heads/ward") -> Data:
    return DATA.model_copy(update={"source": "url", "url": address})


def images(raw: Path) -> list[str]:
    return sorted(file.relative_to(raw).as_posix() for file in raw.rglob("*") if file.is_file() and file.suffix == ".png")


def test_objects_become_slices_and_only_what_is_new_is_fetched(bucket: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = download(settings(), tmp_path / "raw")
    assert images(tmp_path / "raw") == ["ct/1.png", "mr/1.png"]
    assert (tmp_path / "raw/ct/1.png").read_text() == "ct/1.png"
    assert download(settings(), tmp_path / "raw") == first

    bucket.put_object(Bucket="heads", Key="ward/ct/2.png", Body=b"new")
    bucket.put_object(Bucket="heads", Key="ward/mr/1.png", Body=b"changed!")
    bucket.put_object(Bucket="heads", Key="ward/mr/3.png", Body=b"3")
    bucket.delete_object(Bucket="heads", Key="ward/ct/1.png")
    with caplog.at_level("INFO", logger="werkzeug"):
        caplog.clear()
        download(settings(), tmp_path / "raw")
    assert images(tmp_path / "raw") == ["ct/2.png", "mr/1.png", "mr/3.png"]
    assert (tmp_path / "raw/mr/1.png").read_text() == "changed!"
    assert sorted(re.findall(r"GET /heads/ward/(\S+)", caplog.text)) == ["ct/2.png", "mr/1.png", "mr/3.png"]


def test_news_come_from_the_listing_alone(bucket: Any, tmp_path: Path) -> None:
    used = download(settings(), tmp_path / "raw")
    assert not look(settings(), used).new
    bucket.put_object(Bucket="heads", Key="ward/ct/2.png", Body=b"new")
    news = look(settings(), used)
    assert (news.new, news.sentence) == (True, "Objects at s3://heads/ward has changed")


def test_an_archive_in_a_bucket(bucket: Any, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("set/trainA/1.png", "a")
        opened.writestr("set/trainB/1.png", "b")
    bucket.put_object(Bucket="heads", Key="set.zip", Body=packed.getvalue())
    download(settings("s3://heads/set.zip"), tmp_path / "raw")
    assert images(tmp_path / "raw") == ["ct/train/1.png", "mr/train/1.png"]


def test_a_large_object_goes_on_where_it_broke(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_source, "LARGE", 1000)
    monkeypatch.setattr(url_source, "PIECE", 700)
    content = os.urandom(5000)
    bucket.put_object(Bucket="heads", Key="ward/ct/big.png", Body=content)
    from s3fs.core import S3File

    read, pieces = S3File.read, []

    def breaking(self: Any, length: int = -1) -> bytes:
        if len(pieces) == 3:
            pieces.append(b"")
            raise ConnectionError("cut")
        pieces.append(read(self, length))
        return pieces[-1]

    monkeypatch.setattr(S3File, "read", breaking)
    with pytest.raises(UserError, match="cannot be reached") as error:
        download(settings(), tmp_path / "raw")
    assert error.value.retryable
    assert not (tmp_path / "raw").exists()
    download(settings(), tmp_path / "raw")
    assert (tmp_path / "raw/ct/big.png").read_bytes() == content
    assert sum(map(len, pieces)) == len(content)


def test_what_can_go_wrong_is_one_line(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="s3://none/x: no such bucket, folder or file"):
        download(settings("s3://none/x"), tmp_path / "raw")
    with pytest.raises(UserError, match=r"no such bucket, folder or file|nothing there"):
        download(settings("s3://heads/none"), tmp_path / "raw")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match="cannot be reached") as error:
        download(settings(), tmp_path / "raw")
    assert error.value.retryable
    assert "topsecret" not in str(error.value)
    assert not (tmp_path / "raw").exists()
    s3fs.S3FileSystem.clear_instance_cache()


class Refusing(http.server.BaseHTTPRequestHandler):
    """S3 as it answers those who may not read a bucket."""

    def do_GET(self) -> None:
        text = b"<Error><Code>AccessDenied</Code><Message>no, topsecret</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_a_bucket_that_refuses_is_one_line_that_says_where_credentials_belong(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{refusing.server_port}")
        s3fs.S3FileSystem.clear_instance_cache()
        for ask in (lambda: download(settings(), tmp_path / "raw"), lambda: look(settings(), None)):
            with pytest.raises(UserError, match=r"s3://heads/ward: access denied \(403\); give credentials in the usual place") as error:
                ask()
            assert not error.value.retryable
            assert "topsecret" not in str(error.value)
        refusing.shutdown()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_storage_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"needs a library that is not installed .*ctmr\[storage\]"):
        download(settings("gs://heads/ward"), tmp_path / "raw")


@pytest.mark.parametrize(
    ("address", "complaint"),
    [(None, "must be an address"), ("heads", "must be an address"), ("s3://", "must be an address"), ("s3://a:b@c/d", "credentials")],
)
def test_addresses_that_params_refuse(address: str | None, complaint: str) -> None:
    import yaml

    from pipeline.params import parse

    content = yaml.safe_load((Path(__file__).parents[2] / paths.PARAMS).read_text())
    content["data"] |= {"source": "url", "url": address}
    with pytest.raises(UserError, match=complaint):
        parse(content, "params.yaml")


def test_an_archive_on_a_web_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTMR_CACHE", str(tmp_path / "cache"))
    served = tmp_path / "served"
    served.mkdir()
    with zipfile.ZipFile(served / "set.zip", "w") as opened:
        opened.writestr("ct/1.png", "a")
        opened.writestr("mr/1.png", "b")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        download(settings(f"http://127.0.0.1:{web.server_port}/set.zip"), tmp_path / "raw")
        with pytest.raises(UserError, match="no such bucket, folder or file"):
            download(settings(f"http://127.0.0.1:{web.server_port}/none.zip"), tmp_path / "other")
        port = web.server_port
        web.shutdown()
    with pytest.raises(UserError, match="cannot be reached") as away:
        download(settings(f"http://127.0.0.1:{port}/set.zip"), tmp_path / "other")
    assert away.value.retryable
    assert images(tmp_path / "raw") == ["ct/1.png", "mr/1.png"]
