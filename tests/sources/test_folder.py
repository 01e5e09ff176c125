"""A user's own images: every layout that people bring, and where each file ends up."""

import csv
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.sources import provenance
from pipeline.sources.table import download, look

PROJECT = Path(__file__).parents[2]
ABOUT = ("source.json", "files.csv")


def settings(folder: Path) -> params.Data:
    return params.load(PROJECT / paths.PARAMS).data.model_copy(update={"source": "folder", "folder": str(folder)})


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def taken(folder: Path, *names: str) -> list[str]:
    """Where the files of a source end up, without what is written about them."""
    target = folder.parent / "raw"
    download(settings(make(folder, *names)), target)
    return sorted(file.relative_to(target).as_posix() for file in target.rglob("*") if file.is_file() and file.name not in ABOUT)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (
            ["trainA/1.png", "trainB/1.jpg", "testA/1.png", "testB/1.jpg"],
            ["ct/test/1.png", "ct/train/1.png", "mr/test/1.jpg", "mr/train/1.jpg"],
        ),
        (["deep/er/TRAINA/1.png", "deep/er/trainb/1.png"], ["ct/train/1.png", "mr/train/1.png"]),
        (["ct/1.png", "mr/1.png"], ["ct/1.png", "mr/1.png"]),
        (["CT/1.png", "MRI/1.png"], ["ct/1.png", "mr/1.png"]),
        (["ct/train/1.png", "ct/test/1.png", "mr/1.png"], ["ct/test/1.png", "ct/train/1.png", "mr/1.png"]),
        (["train/ct/1.png", "test/ct/1.png", "train/mr/1.png"], ["ct/test/1.png", "ct/train/1.png", "mr/train/1.png"]),
        (["p1/ct/1.png", "p2/ct/1.png", "p2/mr/1.png"], ["ct/p1/1.png", "ct/p2/1.png", "mr/p2/1.png"]),
        (["ct/p1/a/1.dcm", "mr/p1/b/1"], ["ct/p1/a/1.dcm", "mr/p1/b/1"]),
        (["study/ct/1.nii.gz", "study/mr/1.nii.gz"], ["ct/1.nii.gz", "mr/1.nii.gz"]),
    ],
)
def test_layouts(names: list[str], places: list[str], mine: Path) -> None:
    assert taken(mine, *names) == places


def test_bytes_are_the_original_ones(mine: Path, tmp_path: Path) -> None:
    taken(mine, "ct/1.png", "mr/1.png")
    assert (tmp_path / "raw/ct/1.png").read_text() == "content of ct/1.png"


def test_what_is_no_image_stays_behind(mine: Path) -> None:
    rubbish = [
        "ct/.DS_Store",
        "ct/Thumbs.db",
        "ct/notes.txt",
        "ct/.hidden/1.png",
        "ct/DICOMDIR",
        "mr/__MACOSX/1.png",
        "README.md",
        "code/1.png",
    ]
    assert taken(mine, "ct/1.png", "mr/1.png", *rubbish) == ["ct/1.png", "mr/1.png"]


def test_images_that_stay_behind_are_counted(mine: Path, tmp_path: Path) -> None:
    make(mine, "README.md", "ct/mask.mha", "code/1.png", "other/scan.nii.gz")
    (mine / "ct").mkdir(exist_ok=True)
    (mine / "ct/gone.png").symlink_to(mine / "nowhere.png")
    taken(mine, "ct/1.png", "mr/1.png")
    understood = provenance.read(tmp_path / "raw/source.json").facts["layout"]
    assert understood.endswith("; 2 files left behind, whose path names neither ct nor mr; 1 links left behind, which lead nowhere")


def test_names_differ_without_their_suffix(mine: Path) -> None:
    """Slice ids have no suffix, so 1.png and 1.jpg must not share a name; the first keeps it, the others get a part of their digest."""
    places = taken(mine, "ct/1.jpg", "ct/1.png", "ct/1.nii.gz", "mr/1.png", "MR/1.png")
    assert {"ct/1.jpg", "mr/1.png"} < set(places)
    stems = {place.split(".")[0] for place in places}
    assert sorted(len(stem) for stem in stems) == [len("ct/1")] * 2 + [len("ct/1-01234567")] * 3


def test_long_names_are_told_apart_within_what_a_disk_takes(mine: Path) -> None:
    places = taken(mine, *(f"ct/{'é' * 125}.{ending}" for ending in ("png", "jpg", "bmp")), "mr/1.png")
    assert len({place.split(".")[0] for place in places}) == 4
    assert max(len(Path(place).name.encode()) for place in places) <= 255


def test_linked_folders_are_followed_once(mine: Path, tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "1.png")
    make(mine, "mr/1.png")
    (mine / "ct").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(mine)
    assert taken(mine) == ["ct/1.png", "mr/1.png"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives(kind: str, mine: Path, tmp_path: Path) -> None:
    make(mine, "set/ct/1.png", "set/mr/1.png")
    packed = tmp_path / f"mine.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as opened:
            for file in mine.rglob("*.png"):
                opened.write(file, file.relative_to(mine))
    else:
        with tarfile.open(packed, "w:gz") as tar:
            tar.add(mine / "set", "set")
    from_folder = download(settings(mine), tmp_path / "raw")
    from_archive = download(settings(packed), tmp_path / "raw2")
    assert from_folder == from_archive
    assert sorted(os.listdir(tmp_path)) == sorted(["mine", packed.name, "raw", "raw2"])


def test_same_files_same_identity(mine: Path, tmp_path: Path) -> None:
    make(mine, "ct/1.png", "mr/1.png")
    first = download(settings(mine), tmp_path / "raw")
    bytes_before = (tmp_path / "raw/source.json").read_bytes()
    assert download(settings(mine), tmp_path / "raw") == first
    assert (tmp_path / "raw/source.json").read_bytes() == bytes_before
    make(mine, "ct/2.png")
    assert download(settings(mine), tmp_path / "raw").sha256 != first.sha256


def test_news_of_a_folder(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file more is news, another time of change is not; nothing is read twice, and a damaged memory is no hindrance."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "dvc.yaml").touch()
    (project / "params.yaml").touch()
    monkeypatch.chdir(project)
    make(mine, "ct/1.png", "mr/1.png")
    assert look(settings(mine), None).sentence.endswith("has images, none in use yet")
    used = download(settings(mine), tmp_path / "raw")
    assert not look(settings(mine), used).new
    os.utime(mine / "ct/1.png", (1, 1))
    assert not look(settings(mine), used).new
    (memory,) = (project / paths.RETRAIN_WORK).iterdir()
    memory.write_text("{")
    assert not look(settings(mine), used).new
    make(mine, "ct/2.png")
    news = look(settings(mine), used)
    assert (news.new, news.settings) == (True, {})
    assert sorted(os.listdir(project)) == [".dvc", "dvc.yaml", "params.yaml"]


def test_a_damaged_source_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text('{"source": "folder"}')
    with pytest.raises(UserError, match=r"source.json: damaged; run dvc repro --force download"):
        provenance.read(tmp_path / "source.json")
    assert provenance.read(tmp_path / "none.json") is None


def pairs(mine: Path, *lines: str) -> list[dict[str, str]]:
    make(mine, "set/ct/a.png", "set/ct/b.png", "set/mr/x.png", "set/mr/y.png")
    (mine / "set/pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    taken(mine)
    with (mine.parent / "raw/pairs.csv").open() as table:
        return list(csv.DictReader(table))


def test_pairs_follow_their_files(mine: Path) -> None:
    assert pairs(mine, "mr,ct,contrast,group", "mr/y.png,ct/a.png,T2,7", "mr/x.png,ct/b.png,,") == [
        {"ct": "ct/a.png", "mr": "mr/y.png", "contrast": "t2", "group": "7", "place": "test"},
        {"ct": "ct/b.png", "mr": "mr/x.png", "contrast": "", "group": "", "place": "test"},
    ]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["ct,contrast", "ct/a.png,t1"], "no column mr"),
        (["ct,mr", "ct/a.png,mr/none.png"], "line 2: column mr names none"),
        (["ct,mr", "ct/a.png,ct/b.png"], "line 2: column mr names none"),
        (["ct,mr", "ct/a.png"], "line 2: column mr names none"),
        (["ct,mr", "ct/a.png,mr/x.png", "ct/a.png,mr/y.png"], "line 3: its CT image is in an earlier line"),
        (["ct,mr,contrast", "ct/a.png,mr/x.png,t9"], "line 2: contrast 't9'"),
    ],
)
def test_wrong_pairs(lines: list[str], complaint: str, mine: Path) -> None:
    with pytest.raises(UserError, match=rf"data.folder = .*pairs.csv.*{complaint}"):
        pairs(mine, *lines)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["cats/1.png", "dogs/1.png"], "no ct and mr folders, no files called ct and mr with images in it"),
        ([], "found nothing"),
        (["ct/1.png"], "no MR images"),
        (["mr/1.png", "ct/notes.txt"], "no CT images"),
    ],
)
def test_wrong_folders(names: list[str], complaint: str, mine: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint):
        taken(mine, *names)
    assert os.listdir(tmp_path) == ["mine"]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.folder = .*none: not found"):
        download(settings(tmp_path / "none"), tmp_path / "raw")


def test_the_stage_does_not_read_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "data/raw", "ct/1.png", "mr/1.png")
    for folder in ("data/raw", "data", "."):
        with pytest.raises(UserError, match="which this stage writes"):
            download(settings(Path(folder)))
    with pytest.raises(UserError, match="not found"):
        download(settings(Path("~nobody-of-this-name/heads")))


def test_names_that_no_report_can_print(mine: Path) -> None:
    (mine / "ct").mkdir()
    (Path(os.fsdecode(os.fsencode(mine) + b"/ct/\xff.png"))).touch()
    with pytest.raises(UserError, match="not valid Unicode"):
        taken(mine, "mr/1.png")


def test_a_disk_that_fills(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half-written data/raw, the earlier one intact, and the system's own error, which the stage turns into one line."""
    taken(mine, "ct/1.png", "mr/1.png")
    before = (tmp_path / "raw/source.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "raw/ct/1.png")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        download(settings(mine), tmp_path / "raw")
    assert (tmp_path / "raw/source.json").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["mine", "raw"]


def test_no_name_of_a_patient_in_names_of_files(mine: Path, tmp_path: Path) -> None:
    """Scanners export to DOE^JOHN/..., and paths travel into manifest, reports and logs."""
    import pydicom

    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Müller^Anna Maria", "PAT-4711", "19610203"
    names = ["MÜLLER/x/1.dcm", "Muller_Anna/1.dcm", "p/4711.dcm", "p/pat-4711_0001.dcm", "born19610203/1.dcm", "sub-01/ses-2/0007.dcm"]
    for name in names:
        (mine / "ct" / name).parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(mine / "ct" / name)
    make(mine, "mr/Anna Maria/1.png")
    (mine / "pairs.csv").write_text("ct,mr,contrast,group\nct/p/4711.dcm,mr/Anna Maria/1.png,t1,PAT-4711\n")
    places = taken(mine)
    shown = " ".join(places + [(tmp_path / f"raw/{name}").read_text() for name in ("pairs.csv", "source.json")]).lower()
    assert not [word for word in ("muller", "anna", "4711", "19610203") if word in shown]
    assert "ct/sub-01/ses-2/0007.dcm" in places  # tells nobody's name
    assert len([place for place in places if place.startswith("ct/")]) == len(names)
    first = places
    assert taken(mine) == first  # the same salt, the same names
