"""The real Kaggle client against a stand-in server: what it brings, and one clear line for everything that can go wrong."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.sources.table import download, look
from tests.sources.kaggle_server import KaggleServer, port_lock

HANDLE = "someone/heads"
PROJECT = Path(__file__).parents[2]
KAGGLE_LAYOUT = [f"Dataset/images/{folder}/{number}.png" for folder in ("trainA", "trainB", "testA", "testB") for number in range(3)]
pytestmark = pytest.mark.kaggle_port


@pytest.fixture(autouse=True)
def _notebooks_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client looks who calls it, through every module that is loaded: beside those of all tests before, seconds of each request."""
    monkeypatch.setattr("kagglehub.clients.get_user_agent", lambda: "kagglehub")


def archive(*names: str, large: int = 0) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name in names or [
            f"Dataset/images/{folder}/{number}.png" for folder in ("trainA", "trainB", "testA", "testB") for number in range(3)
        ]:
            opened.writestr(name, f"content of {name}" * 50 + "x" * large)
    return packed.getvalue()


def settings(version: int = 1) -> params.Data:
    data = params.load(PROJECT / paths.PARAMS).data
    return data.model_copy(update={"source": "kaggle", "kaggle": params.Kaggle(handle=HANDLE, version=version)})


def files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_sorts_by_modality_and_split_and_says_what_it_is(kaggle_server: KaggleServer, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    source = download(settings(), tmp_path / "raw")
    assert files(tmp_path / "raw") == sorted(
        [f"{modality}/{split}/{n}.png" for modality in ("ct", "mr") for split in ("train", "test") for n in range(3)] + ["source.json"]
    )
    assert (tmp_path / "raw/mr/test/2.png").read_text().startswith("content of Dataset/images/testB/2.png")
    assert (source.source, source.facts["handle"], source.version, source.counts) == ("kaggle", HANDLE, 1, {"ct": 6, "mr": 6})


def test_needs_no_credentials_and_says_nothing(kaggle_server: KaggleServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    download(settings(), tmp_path / "raw")
    assert kaggle_server.authorizations == []
    assert capfd.readouterr().out == ""


def test_uses_credentials_and_never_shows_them(
    kaggle_server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_topsecret")
    kaggle_server.serve(HANDLE, 1, archive())
    download(settings(), tmp_path / "raw")
    assert kaggle_server.authorizations == ["Bearer KGAT_topsecret"]
    kaggle_server.status = 401
    with pytest.raises(UserError) as refused:
        download(settings(version=2), tmp_path / "raw")
    shown = capfd.readouterr()
    assert "topsecret" not in shown.out + shown.err + str(refused.value)


def test_cached_copy_is_used_offline(kaggle_server: KaggleServer, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    first = download(settings(), tmp_path / "raw")
    asked = list(kaggle_server.requests)
    kaggle_server.status = 503
    assert download(settings(), tmp_path / "again") == first
    assert kaggle_server.requests == asked


@pytest.mark.parametrize("damage", ["missing", "changed", "added"])
def test_a_copy_in_the_cache_that_is_not_whole_is_fetched_again(
    kaggle_server: KaggleServer, kaggle_cache: Path, tmp_path: Path, damage: str
) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    first = download(settings(), tmp_path / "raw")
    copies = sorted(kaggle_cache.rglob("*.png"))
    if damage == "added":
        copies[0].with_name("more.png").touch()
    for copy in copies[:4]:
        copy.unlink() if damage == "missing" else copy.write_text("other")
    assert download(settings(), tmp_path / "again") == first
    sorted(kaggle_cache.rglob("*.png"))[0].unlink()
    kaggle_server.status = 503
    with pytest.raises(UserError, match=r"status 503; run again later; the copy in .* is not whole, .* and is not used") as refused:
        download(settings(), tmp_path / "third")
    assert refused.value.retryable


def test_other_content_under_an_old_version_is_a_warning(
    kaggle_server: KaggleServer, kaggle_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    download(settings(), tmp_path / "raw")
    download(settings(), tmp_path / "raw")
    assert "warning" not in capsys.readouterr().err
    kaggle_server.serve(HANDLE, 1, archive("d/trainA/1.png", "d/trainB/1.png"))
    shutil.rmtree(kaggle_cache)
    download(settings(), tmp_path / "raw")
    assert f"warning: Kaggle data set {HANDLE} version 1 has other content than before (digest" in capsys.readouterr().err


def test_a_later_version_is_news_with_the_params_that_bring_it(kaggle_server: KaggleServer, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    used = download(settings(), tmp_path / "raw")
    assert not look(settings(), used).new
    kaggle_server.serve(HANDLE, 3, archive())
    news = look(settings(), used)
    assert (news.new, news.sentence) == (True, f"{HANDLE} has version 3, version 1 is in use")
    assert news.settings == {"data.kaggle.version": 3}
    assert look(settings(), None).new
    kaggle_server.status = 503
    with pytest.raises(UserError, match="status 503") as busy:
        look(settings(), used)
    assert busy.value.retryable


@pytest.mark.parametrize(
    ("status", "advice", "retryable"),
    [
        (401, "refuses the credentials", False),
        (403, "denies access", False),
        (404, "no such data set", False),
        (429, "slow down", True),
        (500, "status 500", True),
    ],
)
def test_refusal_is_one_clear_line_and_leaves_earlier_data(
    kaggle_server: KaggleServer, tmp_path: Path, status: int, advice: str, retryable: bool
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/earlier").touch()
    kaggle_server.status = status
    with pytest.raises(UserError, match=f"{HANDLE} version 1: .*{advice}") as refused:
        download(settings(), tmp_path / "raw")
    assert refused.value.retryable is retryable
    assert files(tmp_path / "raw") == ["earlier"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["home", "raw"]


def test_unknown_version(kaggle_server: KaggleServer, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    with pytest.raises(UserError, match="version 7: Kaggle knows no such data set or version"):
        download(settings(version=7), tmp_path / "raw")


def test_broken_connection_is_taken_up_where_it_broke(kaggle_server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In test mode the client reads the whole answer to print it; without that it streams to the disk, as it does with the real Kaggle.
    monkeypatch.setattr("kagglesdk.kaggle_http_client.KaggleHttpClient._print_response", lambda *_: None)
    whole = archive("d/trainA/1.png", "d/trainB/1.png", *(f"d/trainA/{number}.bin" for number in range(100)), large=40_000)
    kaggle_server.serve(HANDLE, 1, whole)
    kaggle_server.breaks_after = [2_500_000, None, 1_200_000]  # the client asks twice to resume: for the size, then for the range
    assert download(settings(), tmp_path / "raw").counts == {"ct": 101, "mr": 1}
    ranges = [int(asked.split("=")[1].rstrip("-")) for asked in kaggle_server.requests if asked.startswith("GET bytes")]
    assert ranges == [2 * 2**20, 3 * 2**20]


def test_connection_that_breaks_at_once_each_time(kaggle_server: KaggleServer, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    kaggle_server.breaks_after = [0] * 20
    with pytest.raises(UserError, match=r"Kaggle cannot be reached|connection broke"):
        download(settings(), tmp_path / "raw")
    kaggle_server.breaks_after = []
    assert download(settings(), tmp_path / "raw").counts == {"ct": 6, "mr": 6}


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("leftover", ["part", "garbage", "too long"])
def test_leftover_of_a_killed_download(
    kaggle_server: KaggleServer, tmp_path: Path, kaggle_cache: Path, ranges: bool, leftover: str
) -> None:
    whole = archive()
    kaggle_server.serve(HANDLE, 1, whole)
    kaggle_server.ranges = ranges
    kept = kaggle_cache / f"datasets/{HANDLE}/1.archive"
    kept.parent.mkdir(parents=True)
    kept.write_bytes({"part": whole[:700], "garbage": b"x" * 700, "too long": b"x" * (len(whole) + 9)}[leftover])
    assert download(settings(), tmp_path / "raw").counts == {"ct": 6, "mr": 6}


def test_wrong_checksum(kaggle_server: KaggleServer, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, archive())
    kaggle_server.checksum = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(UserError, match="does not match Kaggle's checksum"):
        download(settings(), tmp_path / "raw")
    kaggle_server.checksum = None
    download(settings(), tmp_path / "raw")


@pytest.mark.parametrize("damage", ["truncated", "no archive", "empty", "flipped"])
def test_damaged_archive_is_refused_and_not_kept(kaggle_server: KaggleServer, tmp_path: Path, damage: str) -> None:
    whole = archive()
    flipped = whole[:60] + bytes(byte ^ 0xFF for byte in whole[60:400]) + whole[400:]
    kaggle_server.serve(
        HANDLE, 1, {"truncated": whole[: len(whole) // 2], "no archive": b"<html>" * 99, "empty": b"", "flipped": flipped}[damage]
    )
    kaggle_server.checksum = ""
    with pytest.raises(UserError, match=f"{HANDLE} version 1: .*(damaged|neither a zip nor a tar|an empty file|cannot be reached)"):
        download(settings(), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    kaggle_server.serve(HANDLE, 1, whole)
    assert download(settings(), tmp_path / "raw").counts == {"ct": 6, "mr": 6}


def test_archive_without_the_expected_folders(kaggle_server: KaggleServer, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, archive("images/cats/1.png", "images/dogs/2.png"))
    with pytest.raises(UserError, match=r"no trainA trainB testA testB, no ct and mr folders.*found 1 other folders"):
        download(settings(), tmp_path / "raw")


def test_empty_modality(kaggle_server: KaggleServer, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, archive("d/trainA/1.png", "d/trainB/notes.txt"))
    with pytest.raises(UserError, match=f"Kaggle data set {HANDLE} version 1: no MR images"):
        download(settings(), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_no_network(tmp_path: Path, kaggle_cache: Path) -> None:
    with port_lock(), pytest.raises(UserError, match="Kaggle cannot be reached") as unreachable:  # nobody listens
        download(settings(), tmp_path / "raw")
    assert unreachable.value.retryable


def test_broken_credentials_file(kaggle_server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kaggle.json").write_text("not json")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    with pytest.raises(UserError, match="Invalid Kaggle credentials file"):
        download(settings(), tmp_path / "raw")


@pytest.mark.real
def test_the_real_slices(kaggle_server: KaggleServer, tmp_path: Path, real_data: Path) -> None:
    kaggle_server.serve(HANDLE, 1, real_data / "ct-to-mri-cgan.zip")
    source = download(settings(), tmp_path / "raw")
    assert source.counts == {"ct": 600, "mr": 600}
    assert len(files(tmp_path / "raw/ct/train")) == 480
