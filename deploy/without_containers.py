"""`make cluster`: what deploy/compose.yaml runs in containers, as plain processes on this machine, for a rehearsal and for tests.

Commands, variables, ports and health checks are those of the compose file. Each service has a loopback address of its own in place of its
name; PostgreSQL is Debian's, the S3 store is moto's. Secrets are made up. What the servers hold is gone when they are stopped.
"""

import argparse
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError, user_errors
from pipeline.processes import environment, group, hold_lock

COMPOSE = Path(__file__).with_name("compose.yaml")
DATABASES = Path(__file__).with_name("databases.sql")
START_SECONDS = 240.0  # for one service, on a busy machine
VARIABLE = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


@dataclass
class Service:
    """A service of the compose file as a process; `ready` is the command of its health check, empty where it has none."""

    name: str
    command: list[str]
    env: dict[str, str]
    ready: list[str]
    folder: Path
    log: Path
    needs: list[str] = field(default_factory=list)

    def is_ready(self) -> bool:
        return not self.ready or not subprocess.run(self.ready, env=environment(self.env), capture_output=True, check=False).returncode


class Team:
    """The compose file as it is read here: names are addresses in `network`, volumes and configs lie in `folder`."""

    def __init__(self, folder: Path, network: str, wanted: Sequence[str] = ()) -> None:
        self.folder = folder
        self.content: dict[str, Any] = yaml.safe_load(_fill_in(COMPOSE.read_text(encoding="utf-8")))
        services = {name: service for name, service in self.content["services"].items() if not service.get("profiles")}
        if unknown := set(wanted) - services.keys():
            raise UserError(f"{', '.join(sorted(unknown))}: no such service; the services are {', '.join(services)}")
        self.addresses = {name: f"{network}.{number}" for number, name in enumerate(services, start=1)}
        self.places = {
            target: str(folder / "volumes" / name)
            for service in services.values()
            for name, target in (volume.split(":")[:2] for volume in service.get("volumes", ()) if not volume.startswith("."))
        }
        for place in self.places.values():
            Path(place).mkdir(parents=True, exist_ok=True)
        for config in (config for service in services.values() for config in service.get("configs", ())):
            file, content = folder / config["source"], self.content["configs"][config["source"]]["content"]
            self.places[config["target"]] = str(file)
            file.write_text(self._here(content, ""), encoding="utf-8")
        self.services = {name: self._service(name, service) for name, service in services.items()}
        needed = self._with_needed({*wanted, "postgres", "s3"}) if wanted else services.keys()
        self.services = {name: service for name, service in self.services.items() if name in needed}

    def _with_needed(self, wanted: set[str]) -> set[str]:
        """These services and those that they depend on."""
        more = wanted.union(*(self.services[name].needs for name in wanted))
        return wanted if more == wanted else self._with_needed(more)

    def client(self) -> dict[str, str]:
        """The variables by which commands find the servers."""
        around = {"NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY"), *self.addresses.values())))}
        return {**self._env(self.content["x-client"], ""), **around}

    def _service(self, name: str, service: Mapping[str, Any]) -> Service:
        env = {**self._env(service.get("environment", {}), name), "NO_PROXY": "*"}
        check = service.get("healthcheck", {}).get("test", ["CMD"])[1:]
        command, ready = ([self._here(part, name) for part in parts] for parts in (service.get("command", []), check))
        return Service(name, command, env, ready, self.folder, self.folder / f"{name}.log", list(service.get("depends_on", ())))

    def _env(self, variables: Mapping[str, str], name: str) -> dict[str, str]:
        return {key: self._here(str(value), name) for key, value in variables.items()}

    def _here(self, text: str, name: str) -> str:
        """`text` with addresses for names that a port follows, folders for places inside a container."""
        names = "|".join(map(re.escape, self.addresses))
        text = re.sub(rf"(?<![\w.-])({names})(?=:\d)", lambda found: self.addresses[found[1]], text)
        if name:
            text = re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)\b", self.addresses[name], text)
        return self.places.get(text, text)


def _fill_in(text: str) -> str:
    """`text` with its variables: from the environment, else their default, else (`:?`) made up."""
    secret: dict[str, str] = {}

    def value_of(variable: "re.Match[str]") -> str:
        name, default = variable[1], variable[2]
        if name in secret or variable[0].startswith(f"${{{name}:?"):
            return os.environ.get(name) or secret.setdefault(name, secrets.token_hex(12))
        return os.environ.get(name) or default or ""

    return VARIABLE.sub(value_of, text)


@contextmanager
def prepared(team: Team) -> Iterator[None]:
    """PostgreSQL and S3 with commands of this machine in place of those in their images, for as long as the block lasts."""
    postgres, s3 = team.services["postgres"], team.services["s3"]
    s3.command = [sys.executable, "-m", "moto.server", "-H", team.addresses["s3"], "-p", "8333"]
    s3.ready = [sys.executable, "-c", f"from socket import create_connection; create_connection(('{team.addresses['s3']}', 8333), 5)"]
    with tempfile.TemporaryDirectory(prefix="ctmr-postgres-") as folder:  # its own user may not see the project's folder
        tools = _postgresql_tools()
        user: list[str] = []
        if os.geteuid() == 0:  # which PostgreSQL refuses
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
            user = ["runuser", "-u", "postgres", "--"]
        Path(folder, "password").write_text(postgres.env["POSTGRES_PASSWORD"])
        Path(folder, "password").chmod(0o644)
        data, password = ["-D", f"{folder}/data"], f"--pwfile={folder}/password"
        _run([*user, tools / "initdb", *data, "-U", "ctmr", "--auth=scram-sha-256", "--no-sync", password], folder)
        # As the image does it: an SQL file is run before anybody else is let in.
        statements = [line for line in DATABASES.read_text().splitlines() if not line.startswith("--")]
        _run([*user, tools / "postgres", "--single", *data, "postgres"], folder, "\n".join(statements))
        settings = {"port": "5432", "listen_addresses": team.addresses["postgres"], "unix_socket_directories": folder}
        postgres.command = [*user, str(tools / "postgres"), *data]
        postgres.command += [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        postgres.ready[0] = str(tools / "pg_isready")
        postgres.folder = Path(folder)
        yield


def _postgresql_tools() -> Path:
    places = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    found = shutil.which("postgres", path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found is None:
        raise UserError("PostgreSQL is not installed; apt-get install postgresql")
    return Path(found).resolve().parent


def _run(command: Sequence[str | Path], folder: str, said: str = "") -> None:
    ended = subprocess.run(list(map(str, command)), cwd=folder, input=said, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserError(f"PostgreSQL cannot be set up: {ended.stderr.strip().splitlines()[-1]}")


def make_bucket(team: Team) -> None:
    """The bucket that the S3 image makes by itself."""
    import boto3

    env = team.services["s3"].env
    keys = {"aws_access_key_id": env["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"]}
    store = boto3.client("s3", endpoint_url=team.client()["AWS_ENDPOINT_URL"], region_name="us-east-1", **keys)
    store.create_bucket(Bucket=env["S3_BUCKET"])


class Running:
    """The processes of a team's services, each started again when it ends, as `restart: unless-stopped` does it."""

    def __init__(self, team: Team, stack: ExitStack) -> None:
        self.team, self.stack = team, stack
        self.processes: dict[str, tuple[ExitStack, subprocess.Popen[bytes]]] = {}
        self.starts: dict[str, int] = {}

    def start(self, name: str) -> None:
        service = self.team.services[name]
        number = self.starts[name] = self.starts.get(name, 0) + 1
        log = service.log if number == 1 else service.log.with_suffix(f".{number}.log")
        own = self.stack.enter_context(ExitStack())
        self.processes[name] = own, own.enter_context(group(service.command, service.folder, env=service.env, log=log))

    def start_all(self) -> None:
        """Each service after those that it needs, which come before it in the compose file; all are ready at the end."""
        for name, service in self.team.services.items():
            for needed in service.needs:
                self.wait_for(needed)
            print(f"{name} is starting", flush=True)
            self.start(name)
        for name in self.team.services:
            self.wait_for(name)

    def wait_for(self, name: str) -> None:
        """Until the service is ready. Raises UserError where it ends, or is not within `START_SECONDS`."""
        service, deadline = self.team.services[name], time.monotonic() + START_SECONDS
        while not service.is_ready():
            if self.processes[name][1].poll() is not None or time.monotonic() > deadline:
                raise UserError(f"{name} does not start; see {service.log}")
            time.sleep(1)  # a health check is a new process

    def stop(self) -> None:
        """Ask all to end, at once; what does not is killed when the block ends."""
        for _, process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    def tend(self) -> None:
        """Start again what has ended. Raises UserError for the S3 stand-in, which keeps all in memory."""
        for name, (own, process) in list(self.processes.items()):
            if process.poll() is not None:
                if name == "s3":
                    raise UserError(f"the S3 server ended, and all that it held is lost; see {self.team.services[name].log}")
                print(f"{name} ended; it is started again", flush=True)
                own.close()
                self.start(name)


def serve(project: Path, network: str, wanted: Sequence[str]) -> None:
    """Start the `wanted` services and those that they need (none: all), write `project`/cluster.env, and tend them until stopped."""
    folder = project / ".cluster"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    variables = project / "cluster.env"
    with hold_lock(project / ".cluster.lock", "make cluster", wait=0):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        team = Team(folder, network, wanted)
        os.environ["NO_PROXY"], client = "*", team.client()  # health checks and boto3 talk to this machine only
        try:
            with prepared(team), ExitStack() as stack:
                running = Running(team, stack)
                try:
                    running.start_all()
                    make_bucket(team)
                    _write_variables(variables, client)
                    _tell(team)
                    while True:
                        time.sleep(0.5)
                        running.tend()
                finally:
                    running.stop()
        except KeyboardInterrupt:
            print("the cluster is stopped, and what its servers held is gone", flush=True)
        finally:
            variables.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)


def _write_variables(file: Path, variables: Mapping[str, str]) -> None:
    beside = file.with_suffix(".part")
    beside.touch(mode=0o600)
    beside.write_text("".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables.items()), encoding="utf-8")
    beside.rename(file)


def _tell(team: Team) -> None:
    client = team.client()
    login = f"user {client['MLFLOW_TRACKING_USERNAME']}, password {client['MLFLOW_TRACKING_PASSWORD']}"
    rows = [
        ("MLflow", f"{client['MLFLOW_TRACKING_URI']} ({login})"),
        ("Prefect", client["PREFECT_API_URL"].removesuffix("/api")),
        ("Dask", client["DASK_SCHEDULER_ADDRESS"]),
        ("S3", f"{client['AWS_ENDPOINT_URL']}, bucket ctmr"),
        ("PostgreSQL", f"{team.addresses['postgres']}:5432"),
        ("logs", str(team.folder)),
    ]
    print("\n".join(f"{what:12} {where}" for what, where in rows))
    print("in another terminal: . ./cluster.env && dvc repro; Ctrl-C here stops all", flush=True)


def _interrupt(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # stopping takes some seconds, and once is enough
    raise KeyboardInterrupt


def main() -> None:
    """Entry point; `--network` is what other clusters on this machine do not use."""
    parser = argparse.ArgumentParser(description="The team's servers of deploy/compose.yaml as plain processes on this machine.")
    parser.add_argument("--network", default="127.1.0", help="the first three numbers of the loopback addresses to use")
    parser.add_argument("services", nargs="*", help="start these alone, with those that they need; default: all")
    asked = parser.parse_args()
    with user_errors():
        serve(Path.cwd(), asked.network, asked.services)


if __name__ == "__main__":
    main()
