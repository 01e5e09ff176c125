"""What every test shares: how tests are spread over workers, where the real slices lie, and a stand-in for Kaggle."""

import gc
import logging
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import kaggle_server as stand_in

PROJECT = Path(__file__).parents[1]
_latest_file: list[Path | None] = [None]
for number in (signal.SIGINT, signal.SIGHUP):  # ignored behind `nohup` and `&`, and then by every command that a test stops, too
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
gc.set_threshold(100_000, 50, 50)  # as the stages do: all that tests import is looked through for garbage otherwise, again and again
# Threads of torch that wait for each other keep the cores busy: beside another worker, most of the time goes into that.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CTMR_SALT"] = "salt of the tests, no secret"  # else tests that read DICOM would leave a .salt in the working folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long graph files first; a worker takes a whole file (`--dist loadfile`), so that what it sets up is made once."""
    items.sort(key=lambda item: "graph" not in item.path.relative_to(PROJECT).parts)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """MLflow puts the store that a test opened into the environment; commands that the tests of the next file start must not find it."""
    if _latest_file[0] != item.path:
        _latest_file[0] = item.path
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    # They write where pytest caught the output of the test that first imported DVC, which is closed by now.
    logging.getLogger("dvc").handlers.clear()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with ct-to-mri-cgan.zip and pairs/, from $REAL_DATA, default ../shared/data beside the project; skips where absent."""
    folder = Path(os.environ.get("REAL_DATA", PROJECT / "../shared/data")).resolve()
    if not (folder / "ct-to-mri-cgan.zip").is_file():
        pytest.skip(f"real slices absent: no ct-to-mri-cgan.zip in {folder}; set REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def real_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the folders ct_head_tilted, ct_phantom_study and mr_mprage_sagittal; skips where their archives are absent."""
    archives = Path(os.environ.get("REAL_DATA", PROJECT / "../shared/data")).resolve() / "volumes"
    if not archives.is_dir():
        pytest.skip(f"real volumes absent: no {archives}; set REAL_DATA")
    folder = tmp_path_factory.mktemp("volumes")
    for archive in archives.glob("*.zip"):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder / archive.stem)
    return folder


@pytest.fixture
def kaggle_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for Kaggle's client, which looks at localhost:7777 and finds no credentials; for subprocesses too."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(home / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    return home / "cache"


@pytest.fixture
def kaggle_server(kaggle_cache: Path) -> Iterator[stand_in.KaggleServer]:
    """A stand-in for Kaggle that the real client talks to, with an empty cache; mark tests that use it `kaggle_port`."""
    with stand_in.running() as server:
        yield server


@pytest.fixture(scope="module")
def dask_scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask scheduler with two workers of one thread each, in processes of their own.

    For one file of tests: a cluster that nobody uses still takes an eighth of a core.
    """
    distributed, dask = pytest.importorskip("distributed"), pytest.importorskip("dask")
    folder = tmp_path_factory.mktemp("dask")
    settings = {
        "distributed.scheduler.allowed-failures": 1,  # instead of 3, since a new worker takes seconds
        "distributed.worker.profile.enabled": False,  # looks a hundred times a second at what a worker does
        "distributed.admin.tick.interval": "1s",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(folder), silence_logs=logging.CRITICAL
        ) as cluster,
    ):
        yield cluster.scheduler_address
