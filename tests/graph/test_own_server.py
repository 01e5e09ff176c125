"""A Prefect server of our own: it comes back when it is killed, and goes with the process that started it, however that one ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from pipeline import paths
from pipeline.errors import UserError, describe_os_error
from pipeline.retraining import own_server, schedule
from tests.graph.prefect_server import until
from tests.graph.projects import make_prefect_home
from tests.tracking.servers import free_port

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
HOLD = """\
import sys, time
from pathlib import Path
from pipeline.retraining.own_server import prefect_server
with prefect_server(Path.cwd(), int(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


def test_it_is_started_again_and_ends_with_a_killed_parent(tmp_path: Path) -> None:
    make_prefect_home(tmp_path)
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    env = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_API_URL": "",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "socks5://127.0.0.1:9",
    }
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(port)], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        server = _listener(port)
        server.kill()
        until(lambda: own_server.is_healthy(address) and _listener(port).pid != server.pid, "a new server", 240)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    until(lambda: not own_server.is_healthy(address), "its end", 60)
    until(lambda: not [p for p in psutil.process_iter() if _has_home(p, tmp_path)], "the end of all", 60)


def test_a_log_that_cannot_be_written_is_named_before_anything_starts(tmp_path: Path) -> None:
    log = tmp_path / paths.RETRAIN_WORK / "schedule.log"
    log.parent.mkdir(parents=True)
    log.symlink_to(tmp_path / "gone/schedule.log")
    with pytest.raises(OSError, match=r"schedule\.log") as refused, own_server.OwnServer(tmp_path, free_port(), services=True):
        pass
    assert "schedule.log: " in str(describe_os_error(refused.value))


def test_a_disk_that_is_too_full_for_its_database_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's server goes on without tables, and was waited for for three minutes."""
    monkeypatch.setattr(own_server.shutil, "disk_usage", lambda place: SimpleNamespace(free=2**22))
    said = rf"{tmp_path}: Prefect's database needs 16 MiB there and 4 are free; free some, or name another folder in PREFECT_HOME"
    with (
        temporary_settings({PREFECT_HOME: tmp_path, PREFECT_API_URL: None}),
        pytest.raises(UserError, match=said),
        own_server.prefect_server(tmp_path),
    ):
        pass


def test_a_named_server_that_is_away_and_a_home_that_cannot_be_written_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_server, "ANSWER_SECONDS", 1)
    with pytest.raises(UserError, match=r"PREFECT_API_URL=http://\*\*\*@127\.0\.0\.1:9/api: no Prefect server answers there"):
        own_server.check_named_server("http://me:secret@127.0.0.1:9/api")
    (tmp_path / "file").touch()
    home = str(tmp_path / "file/home")
    code = "from pathlib import Path\nfrom pipeline.retraining.own_server import prefect_server\nfrom pipeline.errors import user_errors\n"
    code += "with user_errors(), prefect_server(Path.cwd()): pass"
    env = {**os.environ, "PREFECT_HOME": home, "PREFECT_API_URL": ""}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**env, "PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"error: PREFECT_HOME={home}: cannot be written")


@pytest.mark.parametrize(("name", "value"), [("ALL_PROXY", "ftp://x"), ("HTTP_PROXY", "http://[::1"), ("SSL_CERT_FILE", "/none.pem")])
def test_a_proxy_that_is_none_is_one_line(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    for known in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(known, "")  # which is changed meanwhile
    with pytest.raises(UserError, match=f"{name}.*: one of these names no"), own_server.prefect_server(Path("nowhere")):
        pass


def test_an_address_that_is_none_is_no_server() -> None:
    assert not own_server.is_healthy("http://[::1")


SETTINGS = {
    "no TOML": (b"active = [", "profiles.toml, prefect.toml or variables PREFECT_"),
    "no text": (b"\x00\xff", "'utf-8' codec can't decode"),
    "no number": (b"active = 'a'\n[profiles.a]\nPREFECT_API_REQUEST_TIMEOUT = 'soon'\n", "Input should be a valid number"),
}


@pytest.mark.parametrize(("content", "said"), SETTINGS.values(), ids=SETTINGS)
def test_prefect_s_own_settings_that_are_damaged_are_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "profiles.toml").write_bytes(content)
    code = "from pipeline.errors import user_errors\nfrom pipeline.retraining import check_settings\n"
    code += "with user_errors(): check_settings()"
    env = {**os.environ, "PREFECT_HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"error: Prefect cannot read its settings, from {tmp_path}/profiles.toml")
    assert said in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_a_damaged_database_of_prefect_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_text("no database" * 100)
    with (
        temporary_settings({PREFECT_HOME: tmp_path}),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(UserError, match=f"the Prefect server did not start: {tmp_path}/prefect.db: .*file is not a database; move it away"),
    ):
        patch.setenv("PREFECT_HOME", str(tmp_path))
        with own_server.OwnServer(tmp_path, free_port(), services=False):
            pass


@pytest.mark.parametrize(
    ("cron", "timezone", "said"),
    [
        ("0 0 3 * * 1", "UTC", "not a cron line; expected minute hour day month weekday"),
        ("sometimes", "UTC", "not a cron line"),
        ("61 * * * *", "UTC", "not a cron line"),
        ("0 3 31 2 *", "UTC", "no such day ever comes"),
        ("0 3 30 2 *", "Europe/Vienna", "no such day ever comes"),
        ("0 3 * * 1", "Vienna", "no such time zone"),
    ],
)
def test_a_schedule_that_never_comes_due_is_one_line(cron: str, timezone: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        schedule.parse_schedule(cron, timezone)


@pytest.mark.parametrize("cron", ["0 3 * * 1", "0 3 29 2 *", "*/5 * * * *", "@daily", "0 3 * * mon"])
def test_a_schedule_has_its_time_zone(cron: str) -> None:
    parsed = schedule.parse_schedule(cron, "Europe/Vienna")
    assert (parsed.cron, parsed.timezone) == (cron, "Europe/Vienna")


def _listener(port: int) -> psutil.Process:
    pids = [c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == psutil.CONN_LISTEN and c.pid]
    return psutil.Process(pids[0])


def _has_home(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("PREFECT_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
