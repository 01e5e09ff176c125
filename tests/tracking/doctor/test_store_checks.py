"""The doctor on the MLflow store: each kind of damage is named, and mended where that can be done; every command refuses it in one line."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.tracking import doctor, models_command, registry, runs, store
from pipeline.tracking.registration import register
from tests.tracking import projects
from tests.tracking.doctor.damages import cut_off, examine, flip_a_byte, make_folder, only_problem
from tests.tracking.servers import free_port

CODE = Path(__file__).parents[3]


def weights_of(model: str) -> Path:
    (file,) = registry.fetch(model).folder.glob("*.safetensors")
    return file


def call_python(*arguments: str, code: int = 0) -> str:
    """What a process of its own prints, which ends with `code`: MLflow keeps the first database that a process opens."""
    env = {**os.environ, "PYTHONPATH": str(CODE)}
    ended = subprocess.run([sys.executable, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == code, ended.stdout
    return ended.stdout


def test_all_is_well(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.report()
    assert capsys.readouterr().out.endswith("all well\n")


def test_an_experiment_that_was_deleted_is_restored(project: Path) -> None:
    uri = store.tracking_uri()
    store.client(uri).delete_experiment(store.experiment_id(uri))
    with pytest.raises(UserError, match=r"experiment ctmr was deleted; ctmr doctor --fix restores it"):
        runs.begin(params.load())
    assert "was deleted" in examine()[0].finding.problem
    assert examine(fix=True)[0].mended
    assert examine() == []
    runs.begin(params.load()).finish()


def test_a_run_of_a_killed_process_is_ended(project: Path) -> None:
    uri = store.tracking_uri()
    run = runs.begin(params.load())
    host = runs.process_name().split()[0]
    store.client(uri).set_tag(run.id, runs.PROCESS, f"{host} 99999999 0.00")
    assert "is RUNNING, but its process is gone" in only_problem().finding.problem
    assert examine(fix=True)[0].mended
    assert store.client(uri).get_run(run.id).info.status == "KILLED"


@pytest.mark.parametrize("damage", [flip_a_byte, Path.unlink, lambda file: shutil.rmtree(file.parents[2])], ids=["altered", "gone", "all"])
def test_files_of_a_champion_are_restored_from_models(project: Path, damage: Callable[[Path], None]) -> None:
    damage(weights_of("ct-to-mr@champion"))
    assert only_problem().finding.problem.startswith("ct-to-mr version 1 (best, challenger, champion): ")
    examine(fix=True)
    assert examine() == []
    assert weights_of("ct-to-mr@champion").read_bytes() == (paths.MODELS / "ct_to_mr.safetensors").read_bytes()


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: os.truncate(file, 0), lambda file: shutil.rmtree(file.parent / "code")])
def test_what_mlflow_needs_to_load_a_champion_is_restored(project: Path, damage: Callable[[Path], None]) -> None:
    """`ctmr translate` does without; `mlflow.pyfunc.load_model` does not."""
    package = weights_of("ct-to-mr@champion").parents[2]
    damage(package / "MLmodel")
    assert only_problem().finding.problem.startswith(f"ct-to-mr version 1 (best, challenger, champion): {package}/")
    examine(fix=True)
    assert examine() == []
    assert (package / "MLmodel").stat().st_size > 100


def test_artifacts_that_may_only_be_read_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, ask = project / "mlruns/artifacts/models", os.access
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != closed and ask(place, mode))  # root may write everywhere
    line = str(only_problem())
    assert (
        line
        == f"problem: {closed}: may only be read here, though mlflow.db may be written; check owner and mode: chmod -R u+w {closed.parent}"
    )


def test_an_alias_of_a_version_that_is_gone_is_removed(project: Path) -> None:
    with sqlite3.connect(project / "mlruns/mlflow.db") as database:
        database.execute("UPDATE registered_model_aliases SET version = 9 WHERE name = 'mr-to-ct' AND alias = 'champion'")
    found = only_problem()
    assert found.finding.problem == "mr-to-ct: version 9, its champion, is gone"
    assert "ctmr promote mr-to-ct VERSION" in found.finding.remedy
    examine(fix=True)
    assert examine() == []
    models_command.promote("mr-to-ct", "1")
    assert registry.fetch("mr-to-ct@champion").folder.is_dir()


def test_files_of_a_champion_that_nothing_can_restore_name_what_a_person_can_do(project: Path) -> None:
    flip_a_byte(weights_of("ct-to-mr@champion"))
    shutil.rmtree(paths.MODELS)
    (examined,) = examine(fix=True)
    assert not examined.mended
    assert "ctmr rollback ct-to-mr" in str(examined)


def make_garbage(file: Path) -> None:
    file.write_bytes(b"no database" * 1000)


def make_half(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name VARCHAR(256))")


def empty(file: Path) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize("damage", [cut_off, make_garbage, empty, make_half, make_folder])
def test_a_damaged_database_is_one_line_and_is_put_aside(
    registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(shutil.copytree(registered, tmp_path / "project"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for its children
    file = tmp_path / "project/mlruns/mlflow.db"
    damage(file)
    commands: list[Callable[[], object]] = [
        models_command.show_models,
        lambda: models_command.promote("mr-to-ct", "1"),
        lambda: models_command.rollback("mr-to-ct"),
        lambda: models_command.use_data_of("mr-to-ct@champion"),
        lambda: registry.fetch("mr-to-ct@champion"),
        lambda: register(params.load()),
    ]
    for command in commands:
        with pytest.raises(UserError) as refused:
            command()
        assert "\n" not in str(refused.value)
        assert "mlflow.db" in str(refused.value)
    assert "mlflow.db: damaged" in only_problem().finding.problem
    (mended,) = doctor.examine_store(fix=True)
    assert mended.mended
    assert not file.exists()
    assert file.with_name("mlflow.db.damaged-1").exists()


@pytest.mark.parametrize(
    ("loss", "what"),
    [("DROP TABLE model_version_tags", "model_version_tags"), ("ALTER TABLE runs DROP COLUMN end_time", "runs.end_time")],
)
def test_a_database_that_lacks_a_table_is_put_aside(project: Path, loss: str, what: str) -> None:
    """MLflow looks at the version of the database alone, and fails where it comes to the table."""
    file = project / "mlruns/mlflow.db"
    with sqlite3.connect(file) as database:
        database.execute(loss)
    (found,) = doctor.examine_store(fix=True)
    assert f"mlflow.db: damaged (it lacks {what})" in str(found)
    assert found.mended
    assert not file.exists()


def test_a_half_made_database_is_mended_by_one_call(project: Path) -> None:
    make_half(project / "mlruns/mlflow.db")
    mended = call_python("-m", "pipeline.cli", "doctor", "--fix")
    assert re.findall(r"(?m)^\w+: ", mended) == ["mended: ", "mended: "]  # put aside, and both models registered anew
    assert (project / "mlruns/mlflow.db.damaged-1").exists()
    with sqlite3.connect(project / "mlruns/mlflow.db") as database:
        champions = database.execute("SELECT name FROM registered_model_aliases WHERE alias = 'champion'").fetchall()
    assert sorted(champions) == [("ct-to-mr",), ("mr-to-ct",)]


def schema_of(file: Path) -> str:
    with sqlite3.connect(file) as database:
        return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])


# MLflow brings a database up to date by itself where the newer one has more tables, as today's has; not where it has more columns.
OF_AN_OLDER_ONE = "import mlflow.store.db.utils as tables; tables._all_tables_exist = lambda engine: True; "


def test_a_database_of_an_older_mlflow_is_brought_up_to_date(project: Path) -> None:
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config

    file = project / "mlruns/mlflow.db"
    newest = schema_of(file)
    command.downgrade(_get_alembic_config(store.sqlite_uri(file)), "-1")
    older = schema_of(file)
    said = call_python("-c", f"{OF_AN_OLDER_ONE}from pipeline.tracking import doctor; doctor.report(fix=True)")
    assert re.fullmatch(r"mended: .* was made by another version of MLflow than [\d.]+; .*\n(.*\n)?.*: all well\n", said)
    assert (older != newest, schema_of(file), schema_of(file.with_name("mlflow.db.before-upgrade-1"))) == (True, newest, older)


def test_a_database_of_a_newer_mlflow_stays_as_it_is(project: Path) -> None:
    file = project / "mlruns/mlflow.db"
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    before = file.read_bytes()
    asked = "from pipeline.tracking import doctor, models_command; print(doctor.report(fix=True), flush=True); models_command.show_models()"
    said = call_python("-c", asked, code=1)
    assert said.startswith("problem: ")
    assert "was it made by a newer one?" in said
    assert file.read_bytes() == before
    assert re.search(r"\nFalse\n(.|\n)*OtherSchema: .* made by another version of MLflow than [\d.]+; ctmr doctor --fix", said)


def test_a_database_that_another_program_locks_is_one_line_within_seconds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.5)
    with sqlite3.connect(project / "mlruns/mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"locked by another program"):
            store.check_database(project / "mlruns/mlflow.db")
        assert "locked by another program" in examine()[0].finding.problem
        other.execute("ROLLBACK")


def test_a_server_that_is_away_is_one_line_within_seconds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in (f"http://me:secret@127.0.0.1:{free_port()}", f"postgresql://me:secret@127.0.0.1:{free_port()}/mlflow"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        began = time.monotonic()
        problem = only_problem().finding.problem
        assert time.monotonic() - began < 10
        assert "Connection refused" in problem
        assert "secret" not in problem
        with pytest.raises(UserError, match="cannot be used"):
            models_command.show_models()


def test_models_that_the_registry_lacks_are_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(projects.make(tmp_path / "new"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "lacks this folder's ct-to-mr and mr-to-ct" in only_problem().finding.problem
    assert examine(fix=True)[0].mended
    assert examine() == []
    assert json.loads(paths.VERSIONS_JSON.read_text())["mr-to-ct"]["champion"]
