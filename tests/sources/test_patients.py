"""Whose head it is, in the layouts that people have: all of a patient is one patient, and no two patients are one."""

import csv
import json
import os
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.errors import UserError
from pipeline.params import load, parse
from pipeline.sources import layout, pairs
from pipeline.sources.table import download

DATA = load(Path(__file__).parents[2] / paths.PARAMS).data


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def bring(folder: Path, patient: str = "auto") -> Path:
    raw = folder.parent / "raw"
    download(DATA.model_copy(update={"source": "folder", "folder": str(folder), "patient": patient}), raw)
    return raw


def patients(folder: Path, pattern: str = "auto") -> dict[str, str]:
    """Patient of each file by its place in data/raw."""
    return {path: patient for path, (patient, _) in layout.read_table(bring(folder, pattern) / "files.csv").items() if patient}


N = range(1, 5)
# Files of patient n, in layouts where each of four patients has some.
LAYOUTS = {
    "p{n}/ct": ["p0{n}/ct/scan1.nii.gz", "p0{n}/ct/scan2.nii.gz", "p0{n}/mr/scan1.nii.gz"],
    "modality first": ["ct/patient_{n}/001.png", "ct/patient_{n}/002.png", "mr/patient_{n}/001.png"],
    "contrasts": ["mr/P0{n}/t1.nii.gz", "mr/P0{n}/t2.nii.gz", "mr/P0{n}/flair.nii.gz", "ct/P0{n}/ct.nii.gz"],
    "TIFF stacks": ["ct/case{n}/a.tif", "ct/case{n}/b.tif", "mr/case{n}/a.tif"],
    "SynthRAD": ["brain/1BA00{n}/ct.mha", "brain/1BA00{n}/mr.mha", "brain/1BA00{n}/mask.mha"],
    "BIDS": [
        "sub-0{n}/ses-1/anat/sub-0{n}_ses-1_T1w.nii.gz", "sub-0{n}/ses-2/anat/sub-0{n}_ses-2_T2w.nii.gz", "sub-0{n}/ct/sub-0{n}_ct.nii.gz",
    ],
    "BIDS names alone": ["ct/sub-0{n}_ct.nii.gz", "mr/sub-0{n}_T1w.nii.gz", "mr/sub-0{n}_T2w.nii.gz"],
    "a folder per patient": ["Kowalski{n}/Kowalski{n}_CT.nii.gz", "Kowalski{n}/Kowalski{n}_T1.nii.gz"],
    "folders with sessions": ["ct/K1{n}/day1/1.png", "ct/K1{n}/day2/1.png", "mr/K1{n}/day1/1.png"],
    "contrasts above names": ["mr/t1/patient{n}.nii.gz", "mr/t2/patient{n}.nii.gz", "ct/patient{n}.nii.gz"],
    "names of volumes in visits": ["visit1/CT/K{n}A.nii.gz", "visit2/CT/K{n}A.nii.gz", "visit2/MR/K{n}A.nii.gz"],
    "modality in names": ["K{n}A_CT.nii.gz", "K{n}A_T1.nii.gz", "K{n}A_T2.nii.gz"],
    "SynthRAD with more CT": ["AB/1ABA00{n}/ct.mha", "AB/1ABA00{n}/ct_def.mha", "AB/1ABA00{n}/mr.mha"],
    "short names": ["ct/p{n}_001.png", "ct/p{n}_002.png", "mr/p{n}_001.png"],
    "short names of volumes": ["mr/T1/P{n}.nii.gz", "mr/T2/P{n}.nii.gz", "ct/P{n}.nii.gz"],
    "years above": ["2021/P{n}/ct/a.png", "2022/P{n}/ct/b.png", "2021/P{n}/mr/a.png"],
    "years below": ["K1{n}/2021-03/ct/a.png", "K1{n}/20220501/ct/b.png", "K1{n}/2021-03/mr/a.png"],
    "sessions above": ["ct/ses1/P{n}/a.png", "ct/ses2/P{n}/b.png", "mr/ses1/P{n}/a.png"],
    "split above": ["train/ct/subject{n}/1.png", "train/mr/subject{n}/1.png"],
    "split and modality below": ["P{n}/ct/train/1.png", "P{n}/mr/train/1.png"],
    "file names": ["ct/patient{n}_001.png", "ct/patient{n}_002.png", "mr/patient{n}_001.png"],
    "visits above": ["baseline/P{n}/ct/a.png", "followup/P{n}/ct/b.png", "baseline/P{n}/mr/a.png"],
    "visits below": ["Anna{n}/pre-op/ct/a.png", "Anna{n}/post-op/ct/b.png", "Anna{n}/pre-op/mr/a.png"],
    "visits around names alone": ["old/Anna{n}/ct/a.png", "new/Anna{n}/ct/b.png", "old/Anna{n}/mr/a.png"],
    "visits with names of their own": ["Anna{n}/CRANIO/ct/a.png", "Anna{n}/CONTROL/ct/b.png", "Anna{n}/CRANIO/mr/a.png"],
    "examinations by number": ["Anna{n}/8{n}01/ct/a.png", "Anna{n}/8{n}02/ct/b.png", "Anna{n}/8{n}03/mr/a.png"],
    "examinations with ct and mr": ["Anna{n}/8{n}01/ct.nii.gz", "Anna{n}/8{n}02/ct.nii.gz", "Anna{n}/8{n}01/mr.nii.gz"],
    "written differently": ["ct/Patient 0{n}/1.png", "mr/patient_{n}/1.png", "mr/PATIENT_{n}/2.png"],
    "accents stored differently": ["ct/Ren\u00e9{n}/1.png", "mr/Rene\u0301{n}/1.png", "mr/REN\u00c9 {n}/2.png"],
    "patient and slice by number": ["ct/00{n}_05.png", "ct/00{n}_06.png", "mr/00{n}_05.png", "mr/00{n}_06.png"],
    "slices of SynthRAD": ["ct/1BA00{n}_12.png", "ct/1BA00{n}_13.png", "mr/1BA00{n}_12.png"],
    "patient within names": ["ct/slice005_subject{n}.png", "ct/slice006_subject{n}.png", "mr/MR-subject{n}-005.png"],
    "channels of nnU-Net": ["ct/imagesTr/HD_{n}_0000.nii.gz", "mr/imagesTr/HD_{n}_0000.nii.gz", "mr/imagesTr/HD_{n}_0001.nii.gz"],
    "visits in names": ["ct/Kim{n}_v1.nii.gz", "ct/Kim{n}_v2.nii.gz", "mr/Kim{n}_v1.nii.gz", "mr/Kim{n}_2019-05-06.nii.gz"],
    "ADNI": ["ct/ADNI_002_S_000{n}_CT_20060302_I1.nii", "mr/ADNI_002_S_000{n}_MR_20060302_I1.nii", "mr/002_S_000{n}_20080302_I2.nii"],
    "FreeSurfer": ["subjects/fs{n}/ct/ct.nii.gz", "subjects/fs{n}/mri/T1.mgz", "subjects/fs{n}/mri/orig.mgz"],
    "a collection around": ["ct/UP/UP-0{n}/01-01/a.nii.gz", "mr/UP/UP-0{n}/01-01/a.nii.gz", "mr/UP/UP-0{n}/02-01/a.nii.gz"],
    "dicom": ["P{n}/ct/series1/IM1", "P{n}/ct/series1/IM2", "P{n}/mr/series9/IM1"],
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_files_of_a_patient_are_one_patient(name: str, tmp_path: Path) -> None:
    for n in N:
        make(tmp_path / "mine", *(file.format(n=n) for file in LAYOUTS[name]))
    told = patients(tmp_path / "mine")
    raw = tmp_path / "raw"
    images = [file.relative_to(raw).as_posix() for modality in ("ct", "mr") for file in (raw / modality).rglob("*") if file.is_file()]
    assert set(told) == set(images)
    by_patient: dict[str, set[str]] = {}
    for path, patient in told.items():
        by_patient.setdefault(patient, set()).add((raw / path).read_text())
    # The content of a file says where it came from, and with that whose it is.
    files = [file for file in LAYOUTS[name] if "mask" not in file]
    expected = [sorted(f"content of {file.format(n=n)}" for file in files) for n in N]
    assert sorted(map(sorted, by_patient.values())) == sorted(expected)


@pytest.mark.parametrize(
    "names",
    [
        ["ct/1.png", "ct/2.png", "ct/3.png", "mr/1.png", "mr/2.png", "mr/3.png"],
        ["trainA/ct1.png", "trainB/mri7.png", "testA/ct2.png", "testB/mri8.png"],
        ["ct/batch1/1.png", "ct/batch2/1.png", "ct/batch3/1.png", "mr/batch1/1.png", "mr/batch2/1.png", "mr/batch3/1.png"],
        ["siteA/ct/1.png", "siteA/mr/1.png", "siteB/ct/1.png", "siteB/mr/1.png"],
        ["ct/old/1.png", "ct/new/1.png", "mr/old/1.png", "mr/new/1.png"],
        [f"{modality}/Tr-{kind}_{n:04d}.png" for modality in ("ct", "mr") for kind in ("gl", "me", "pi", "no") for n in range(3)],
        [f"{modality}/slice_{n}.png" for modality in ("ct", "mr") for n in range(9)],
    ],
)
def test_folders_that_say_nothing_of_patients(names: list[str], tmp_path: Path) -> None:
    assert patients(make(tmp_path / "mine", *names)) == {}
    assert "paths do not tell them" in json.loads((tmp_path / "raw/source.json").read_text())["layout"]


def test_each_modality_may_tell_its_patients_in_its_own_way(tmp_path: Path) -> None:
    """CQ500 has a folder per patient, IXI names of files."""
    ct = [f"ct/CQ500CT{n}/{kind}.nii.gz" for n in N for kind in ("plain", "thin")]
    mr = [f"mr/IXI-{kind}/IXI01{n}-Guys-0828-{kind}.nii.gz" for n in N for kind in ("T1", "T2")]
    told = patients(make(tmp_path / "mine", *ct, *mr))
    assert {path.split("/")[1]: patient for path, patient in told.items() if path.startswith("ct/")} == {
        f"CQ500CT{n}": f"CQ500CT{n}" for n in N
    }
    assert {patient for path, patient in told.items() if path.startswith("mr/")} == {f"IXI01{n}" for n in N}


def test_names_that_only_begin_alike_make_no_pair(tmp_path: Path) -> None:
    """Number 1 of the CT may be another head than number 1 of the MR; they stay in one split all the same."""
    mine = make(tmp_path / "mine", *(f"{kind}/{n}_{name}.nii.gz" for n in N for kind, name in (("ct", "a"), ("mr", "x"), ("mr", "y"))))
    assert len(set(patients(mine).values())) == len(N)
    assert pairs.read(tmp_path / "raw") == []


def test_a_centre_with_many_patients_is_none_of_them(tmp_path: Path) -> None:
    names = [
        f"{city}/{city[0]}{n:03d}/{modality}/1.png" for city in ("Graz", "Linz", "Wels") for n in range(11) for modality in ("ct", "mr")
    ]
    assert len(set(patients(make(tmp_path / "mine", *names)).values())) == 33


def test_the_same_number_at_two_sites_is_two_patients(tmp_path: Path) -> None:
    mine = make(tmp_path / "mine", *(f"site{site}/p{n}/{modality}/1.png" for site in "AB" for n in N for modality in ("ct", "mr")))
    assert len(set(patients(mine).values())) == 2 * len(N)


def test_a_pattern_tells_patients(tmp_path: Path) -> None:
    names = [f"ct/scan_{n}_{k}.png" for n in "ABC" for k in range(2)] + [f"mr/scan_{n}_{k}.png" for n in "ABC" for k in range(2)]
    mine = make(tmp_path / "mine", *names)
    assert patients(mine) == {}
    told = patients(mine, r"scan_([A-Z])")
    assert {path: patient for path, patient in told.items() if patient == "B"}.keys() == {name for name in names if "_B_" in name}
    assert json.loads((tmp_path / "raw/source.json").read_text())["layout"] == "patients: 3, told by data.patient"
    assert patients(mine, "none") == {}
    with pytest.raises(UserError, match=r"data.patient = x\(y\): fits the name of no file"):
        patients(mine, "x(y)")


@pytest.mark.parametrize("pattern", ["(", "p\\d+", "(a)(b)"])
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    import yaml

    content = yaml.safe_load((Path(__file__).parents[2] / paths.PARAMS).read_text())
    content["data"]["patient"] = pattern
    with pytest.raises(UserError, match=r"data.patient = .*: (is no regular expression|needs one group)"):
        parse(content, "params.yaml")


@pytest.mark.parametrize("name", ["SynthRAD", "contrasts", "BIDS", "a folder per patient"])
def test_a_patient_with_both_volumes_gives_a_pair(name: str, tmp_path: Path) -> None:
    for n in N:
        make(tmp_path / "mine", *(file.format(n=n) for file in LAYOUTS[name]))
    found = pairs.read(bring(tmp_path / "mine"))
    assert len(found) == len(N)
    assert {pair["place"] for pair in found} == {"any"}
    assert {pair["contrast"] for pair in found} <= {"", "t1"}
    assert len({pair["group"] for pair in found}) == len(N)


@pytest.mark.parametrize("damage", [b"", b"\xff\x80", b"path,patient,contrast\nct/a", b"\x00"])
def test_a_damaged_table_of_files_is_one_line(tmp_path: Path, damage: bytes) -> None:
    for name, read in (("files.csv", lambda: layout.read_table(tmp_path / "files.csv")), ("pairs.csv", lambda: pairs.read(tmp_path))):
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(UserError, match=rf"{name}: damaged; run dvc repro --force download"):
            read()


def test_names_of_files_say_the_contrast(tmp_path: Path) -> None:
    for n in N:
        make(tmp_path / "mine", *(file.format(n=n) for file in LAYOUTS["contrasts"]))
    with (bring(tmp_path / "mine") / "files.csv").open() as table:
        contrasts = {row["path"]: row["contrast"] for row in csv.DictReader(table)}
    assert contrasts["mr/P01/flair.nii.gz"] == "flair"
    assert contrasts["ct/P01/ct.nii.gz"] == ""


def test_linked_patients_are_all_there(tmp_path: Path) -> None:
    """A folder outside of ct and mr that comes first in the walk takes nothing away from the links to it."""
    make(tmp_path / "mine", *(f"archive/x{n}/1.png" for n in N), "mr/P01/1.png", "mr/P02/1.png", "mr/P03/1.png", "ct/P01/1.png")
    for n in range(2, 5):
        (tmp_path / f"mine/ct/P0{n}").symlink_to(tmp_path / f"mine/archive/x{n}")
    told = patients(tmp_path / "mine")
    assert {path.split("/")[1] for path in told if path.startswith("ct/")} == {"P01", "P02", "P03", "P04"}


def test_a_header_and_its_voxels_keep_one_name(tmp_path: Path) -> None:
    make(tmp_path / "mine", "ct/a.img", "ct/a.hdr", "ct/b.mhd", "ct/b.raw", "mr/1.png")
    raw = bring(tmp_path / "mine")
    assert sorted(os.listdir(raw / "ct")) == ["a.hdr", "a.img", "b.mhd", "b.raw"]


def test_more_ct_beside_ct_and_mr_do_not_undo_the_pair(tmp_path: Path) -> None:
    names = [f"AB/1ABA00{n}/{name}.mha" for n in N for name in ("ct", "ct_def", "mr")]
    found = pairs.read(bring(make(tmp_path / "mine", *names)))
    assert [(pair["ct"], pair["mr"]) for pair in found] == [(f"ct/1ABA00{n}/ct.mha", f"mr/1ABA00{n}/mr.mha") for n in N]


def test_label_maps_of_freesurfer_are_no_side_of_a_pair(tmp_path: Path) -> None:
    names = [f"P0{n}/{name}" for n in N for name in ("ct/head.mgz", "mr/aparc+aseg.mgz", "mr/T1.mgz", "mr/wmparc.mgz")]
    found = pairs.read(bring(make(tmp_path / "mine", *names)))
    assert [pair["mr"] for pair in found] == [f"mr/P0{n}/T1.mgz" for n in N]
