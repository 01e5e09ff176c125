"""Keys of patients: the same within a project, another in another, and no use to anyone without the salt."""

import multiprocessing
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import privacy
from pipeline.errors import UserError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CTMR_SALT")
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").touch()
    (tmp_path / ".dvc/tmp/exps/standalone/x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_salt_is_made_once_and_for_its_owner_alone(project: Path) -> None:
    privacy.make_salt()
    first = privacy.pseudonym("patient", "4711")
    privacy.make_salt()
    assert privacy.pseudonym("patient", "4711") == first
    assert privacy.pseudonym("patient", "4712") != first
    assert stat.S_IMODE((project / ".salt").stat().st_mode) == 0o600
    assert [file.name for file in project.iterdir() if "salt" in file.name] == [".salt"]


def test_another_salt_another_key(project: Path) -> None:
    privacy.make_salt()
    first = privacy.pseudonym("patient", "4711")
    (project / ".salt").unlink()
    privacy.make_salt()
    assert privacy.pseudonym("patient", "4711") != first


def test_a_temporary_copy_of_the_project_has_its_salt(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run --temp` works below .dvc/tmp, without files that git ignores."""
    copy = project / ".dvc/tmp/exps/standalone/x"
    (copy / "dvc.yaml").touch()
    (copy / "params.yaml").touch()
    monkeypatch.chdir(copy)
    privacy.make_salt()
    inside = privacy.pseudonym("patient", "4711")
    monkeypatch.chdir(project)
    assert privacy.pseudonym("patient", "4711") == inside
    assert not (copy / ".salt").exists()


def test_processes_that_start_at_once_agree(project: Path) -> None:
    with multiprocessing.Pool(4) as pool:
        assert len(set(pool.map(_key, range(40)))) == 1


def _key(_: int) -> str:
    privacy.make_salt()
    return privacy.pseudonym("patient", "4711")


def test_without_a_salt_nothing_is_written_and_no_name_is_hidden_badly(project: Path) -> None:
    """Readers go without a key; whoever must hide a name is told to make a salt first."""
    assert privacy.group_key("patient", "4711") == privacy.volume_key(Path("ct/p1.nii")) == ""
    with pytest.raises(UserError, match=r"no \.salt here or above"):
        privacy.pseudonym("patient", "4711")
    assert not (project / ".salt").exists()


def test_a_weak_salt_is_refused(project: Path) -> None:
    (project / ".salt").write_text("short")
    with pytest.raises(UserError, match="shorter than 16"):
        privacy.pseudonym("patient", "4711")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("data/raw/ct/train/p1.nii.gz", "data/raw/mr/p1.nii", True),
        ("data/raw/ct/p1/scan.nii.gz", "data/raw/ct/p2/scan.nii.gz", False),
        ("data/raw/ct/sub-07/anat/sub-07_ct.nii.gz", "data/raw/mr/sub-07_T1w.nii.gz", True),
        ("elsewhere/p1.nii", "elsewhere/p2.nii", False),
    ],
)
def test_whom_a_volume_shows(one: str, other: str, same: bool) -> None:
    assert (privacy.subject(Path(one)) == privacy.subject(Path(other))) is same


def test_what_runs_networks_tells_nobody_of_it(tmp_path: Path) -> None:
    """onnxruntime 1.32 numbers the session in a file of the temporary folder and looks for its maker's host, unless it was told not to."""
    program = "import pipeline, onnxruntime; onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": ".", "TMPDIR": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
