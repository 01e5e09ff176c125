"""Two hosts that share nothing but the network train together; when one is lost the other ends in a line, and both go on when run again.

Hosts are network namespaces here, each with an address and a folder of its own.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pipeline.errors import UserError
from pipeline.processes import stop_group
from pipeline.training import launch
from tests.training import jobs
from tests.training.test_resume import wait_for

IP = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
PORT = "29411"
SHORT = {"images": 24, "teacher": jobs.PARAMS.train.teacher.model_dump() | {"images": 16}, "checkpoint_seconds": 0.01}


@dataclass
class Host:
    """A network namespace with the address 10.77.0.`number` and a project `folder`."""

    name: str
    number: int
    folder: Path
    process: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        """The train stage as docs/scale.md says it for one of two hosts."""
        elastic = {"PET_NNODES": "2", "PET_NODE_RANK": str(self.number - 1), "PET_MASTER_ADDR": "10.77.0.1", "PET_MASTER_PORT": PORT}
        env = {**jobs.environment(self.folder), **jobs.AWAY, **elastic, "GLOO_SOCKET_IFNAME": "cable"}
        command = [IP or "ip", "netns", "exec", self.name, shutil.which("python") or "python", "-m", "stages.train"]
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def end(self) -> tuple[int, str]:
        """Its exit code and what it printed."""
        assert self.process is not None
        printed, _ = self.process.communicate(timeout=400)
        return self.process.returncode, printed

    def lose(self) -> None:
        """All its processes gone at once, as with a host that is switched off."""
        assert self.process is not None
        victims = [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children(recursive=True))]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)


def _ip(*words: str, check: bool = True) -> bool:
    return not subprocess.run([IP or "ip", *words], capture_output=True, check=check).returncode


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts on one cable."""
    names = [f"ctmr-{os.getpid()}-{number}" for number in (1, 2)]
    if IP is None or os.geteuid() or not _ip("netns", "add", names[0], check=False):
        pytest.skip("network namespaces cannot be made here: that takes root and iproute2")
    _ip("netns", "add", names[1])
    pair = [Host(name, number, tmp_path / name) for number, name in enumerate(names, start=1)]
    try:
        _ip("link", "add", "name", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for host in pair:
            _ip("-n", host.name, "address", "add", f"10.77.0.{host.number}/24", "dev", "cable")
            _ip("-n", host.name, "link", "set", "lo", "up")
            _ip("-n", host.name, "link", "set", "cable", "up")
        yield pair[0], pair[1]
    finally:
        for host in pair:
            if host.process:
                stop_group(host.process, 5)
            _ip("netns", "del", host.name)


@pytest.mark.timeout(900)
def test_two_hosts_train_one_is_lost_and_both_go_on(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    for host in hosts:
        jobs.make(host.folder, devices=2, **SHORT)
        host.start()
    wait_for("checkpoints/*/0*.pt", first.folder, 2, 400)
    second.lose()
    code, printed = first.end()
    assert code == 2, printed
    assert "so this one ends too; dvc repro goes on from the last checkpoint" in printed
    assert "Traceback" not in printed
    assert not (first.folder / "models").exists()
    assert not (second.folder / "checkpoints").exists()  # the second host writes nothing

    for host in hosts:
        host.start()
    (code, printed), (other_code, other_printed) = first.end(), second.end()
    assert (code, other_code) == (0, 0), printed + other_printed
    assert "going on from step" in printed
    assert (first.folder / "models/model.json").is_file()
    assert not (second.folder / "models").exists()


@pytest.mark.timeout(600)
def test_a_host_with_other_params_is_refused(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    jobs.make(first.folder, devices=2, **SHORT)
    jobs.make(second.folder, devices=2, **{**SHORT, "learning_rate": 0.001})
    for host in hosts:
        host.start()
    code, printed = second.end()
    assert code == 2
    assert "differ from those of the first host; git pull and dvc pull here" in printed
    assert first.end()[0] == 2


def test_processes_that_hosts_cannot_share_alike_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(launch.HOSTS, "2")
    with pytest.raises(UserError, match=r"PET_NNODES=2: 2 hosts cannot have as many each of the 3 processes of train.devices"):
        launch.launch(3)
