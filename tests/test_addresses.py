"""Addresses carry passwords: whatever is printed, raised, logged or kept shows *** in their place."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline import cli, params
from pipeline.errors import UserError, mask_credentials
from pipeline.tracking import facts
from tests.tracking import projects

COMMANDS = {
    "where": ["where"],
    "ui": ["ui"],
    "models": ["models"],
    "doctor": ["doctor"],
    "doctor --fix": ["doctor", "--fix"],
    "promote": ["promote", "mr-to-ct", "1"],
    "rollback": ["rollback", "mr-to-ct"],
    "reference": ["reference"],
    "translate": ["translate", "params.yaml", "out.png", "--to", "ct"],
}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@host:5000/x", "https://***@host:5000/x"),
        ("postgresql+psycopg2://me:se/c@ret@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://host/a?X-Amz-Signature=secret&b=1", "https://host/a?X-Amz-Signature=***&b=1"),
        ("https://host/cb#access_token=secret", "https://host/cb#access_token=***"),
        ("https://host/a?pwd=secret&auth=secret", "https://host/a?pwd=***&auth=***"),
        ("jdbc:postgresql://db/mlflow;password=secret;ssl=1", "jdbc:postgresql://db/mlflow;password=***;ssl=1"),
        ("host=db user=me password=secret dbname=mlflow", "host=db user=me password=*** dbname=mlflow"),
        ("HTTPS://me:12345@host/x", "HTTPS://***@host/x"),
        ("sigma=3 and design=4", "sigma=3 and design=4"),
        ("sqlite:////data/a@b/mlflow.db", "sqlite:////data/a@b/mlflow.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
    ],
)
def test_user_password_and_secret_parameters_are_masked(address: str, shown: str) -> None:
    assert mask_credentials(f"cannot reach {address} now") == f"cannot reach {shown} now"
    assert str(UserError(f"cannot reach {address} now")) == f"cannot reach {shown} now"


class Tracking(BaseHTTPRequestHandler):
    """An MLflow server that knows one experiment and no models."""

    def do_GET(self) -> None:
        experiment = {"experiment_id": "1", "name": "ctmr", "artifact_location": "mlflow-artifacts:/1", "lifecycle_stage": "active"}
        empty = "experiments/get-by-name" not in self.path
        content = b"OK" if self.path == "/health" else json.dumps({} if empty else {"experiment": experiment}).encode()
        missing = "registered-models/get" in self.path or "alias" in self.path
        if missing:
            content = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}).encode()
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def tracking_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tracking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return projects.make(tmp_path_factory.mktemp("credentials") / "project")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("answers", [True, False], ids=["answers", "away"])
def test_no_command_shows_the_password_of_the_store(
    project: Path, tracking_server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str, answers: bool
) -> None:
    host = tracking_server if answers else "127.0.0.1:9"
    monkeypatch.chdir(project)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cret@{host}")
    monkeypatch.setattr(sys, "argv", ["ctmr", *COMMANDS[command]])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = "".join(capfd.readouterr())
    assert "s3cret" not in said
    assert "Traceback" not in said
    assert ended.value.code in (0, None, 2)
    if answers and command in ("where", "ui"):
        assert f"http://***@{host}/#/experiments/1" in said
    if not answers:
        assert command in ("where", "translate") or "cannot be used" in said


def test_runs_keep_no_credentials(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    given = params.load()
    data = given.data.model_copy(update={"url": "https://host/heads.zip?sig=s3cret&v=2"})
    assert facts.flatten(given.model_copy(update={"data": data}))["data.url"] == "https://host/heads.zip?sig=***&v=2"
