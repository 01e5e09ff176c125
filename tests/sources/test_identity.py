"""What a header says of a person is found in names of files however it is written there; what says nothing stays as it is."""

import json
from pathlib import Path, PurePosixPath

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file

from pipeline.sources.identity import identity_of
from pipeline.sources.names import Names

PERSON = {
    "PatientName": "Müller^Anna Maria=山田^太郎=やまだ^たろう",
    "PatientID": "12-345",
    "PatientBirthDate": "19610203",
    "InstitutionName": "Klinikum Musterstadt",
    "AccessionNumber": "ACC-0077123",
    "ReferringPhysicianName": "Li^Wei",
}


def write(file: Path, *, bare: bool = False, **told: str) -> Path:
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for name, value in told.items():
        setattr(dataset, name, value)
    if any(not value.isascii() for value in told.values()):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    file.parent.mkdir(parents=True, exist_ok=True)
    if bare:
        pydicom.dcmwrite(file, pydicom.Dataset(dataset), implicit_vr=True, little_endian=True)
    else:
        dataset.save_as(file)
    return file


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Names:
    root = tmp_path_factory.mktemp("export")
    return Names([write(root / "1.dcm", **PERSON)])


@pytest.mark.parametrize(
    "part",
    [
        "Müller_Anna", "MULLER", "anna-maria", "Mueller", "AnnaMüller", "annamuller", "mullera", "amuller", "MariaM",
        "scan_of_Anna", "drannamueller", "山田太郎", "太郎山田", "山田", "患者山田太郎_01", "やまだたろう",
        "12-345", "12345", "12_345", "p12345", "0012345_1", "ID 12 345",
        "19610203", "1961-02-03", "03.02.1961", "3-2-1961", "02_03_1961", "610203", "03Feb1961", "3 February 61", "born-19610203T1",
        "3.II.1961", "3-Fév-1961", "3_helmikuuta_1961", "1961年2月3日", "昭和36年2月3日", "S36.2.3", "2504-02-03", "ヤマダ", "ﾔﾏﾀﾞ_太郎",
        "Musterstadt", "acc0077123", "77123", "LiWei", "Wei_Li", "Li", "wli",
    ],
)  # fmt: skip
def test_what_tells_of_a_person_is_replaced(names: Names, part: str) -> None:
    place = names.path(PurePosixPath("ct", part, "1.dcm"))
    assert place.parts[1].startswith("p-")
    assert (place.parts[0], place.parts[2]) == ("ct", "1.dcm")
    assert names.path(PurePosixPath("ct", "a", f"{part}.dcm")).name.startswith("p-")
    assert names.group(part).startswith("p-")


@pytest.mark.parametrize(
    "part",
    [
        "scan1", "patient_01", "planning", "annotated", "IM0001", "1962-02-03", "12399", "sub-01", "axial_T1", "Klinikum", "lists",
        "20240203", "山", "1961_t1_03", "s36_scan_2", "2019-03-07_T1",
    ],
)  # fmt: skip
def test_what_tells_nothing_stays(names: Names, part: str) -> None:
    assert names.path(PurePosixPath("ct", part, "1.dcm")).parts[1] == part


@pytest.mark.parametrize("identity", ["test_001", "TEST", "train-7", "patient_test", "ct_001"])
def test_words_of_layouts_are_nobodys(tmp_path: Path, identity: str) -> None:
    names = Names([write(tmp_path / "1.dcm", PatientID=identity, PatientName=identity.replace("_", "^"))])
    place = PurePosixPath("ct/test/scans/1.dcm")
    assert names.path(place) == place


@pytest.mark.parametrize("name", ["1", "1.dcm", "1.png", "IM0001.nii"])
@pytest.mark.parametrize("bare", [True, False])
def test_a_file_is_dicom_by_its_bytes(tmp_path: Path, name: str, bare: bool) -> None:
    """With and without preamble, whatever the suffix says."""
    assert identity_of(write(tmp_path / name, bare=bare, PatientName="Zyxwvut^Quentin")).names == {("zyxwvut", "quentin")}


def test_names_of_two_signs(tmp_path: Path) -> None:
    identity = identity_of(write(tmp_path / "1.dcm", PatientName="Li^Wei=李^伟"))
    assert identity.is_told_by("李伟")
    assert identity.is_told_by("患者伟李2")
    assert not identity.is_told_by("李")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("DoeJohn", ["John_Doe", "doe_john", "JOHNDOE"]), ("山田太郎", ["山田_太郎", "太郎_山田"]), ("Doe, John", ["johndoe", "DOE"]),
        ("Иванов^Пётр", ["Ivanov", "petr_ivanov"]), ("Shevchenko^Yuliya", ["Шевченко", "Юлия"]), ("Παπαδόπουλος^Γιώργος", ["papadopoulos"]),
        ("Łukasz^Żak", ["lukasz", "Zak_Lukasz"]), ("Ørsted^Åse", ["Orsted", "oersted", "ase"]), ("홍^길동", ["홍길동", "길동홍"]),
    ],
)  # fmt: skip
def test_names_written_in_one_apart_or_without_strokes(name: str, parts: list[str], tmp_path: Path) -> None:
    identity = identity_of(write(tmp_path / "1.dcm", PatientName=name))
    assert [part for part in parts if not identity.is_told_by(part)] == []


@pytest.mark.parametrize(
    ("name", "encoding", "parts"),
    [
        ("山田^太郎", "utf-8", ["山田太郎"]), ("王^伟", "gb18030", ["王伟"]), ("山田^太郎", "shift_jis", ["太郎山田"]),
        ("홍^길동", "euc_kr", ["홍길동"]), ("Müller^Ann", "utf-8", ["Mueller", "MULLER"]), ("Иванов^Пётр", "cp1251", ["Иванов"]),
    ],
)  # fmt: skip
def test_names_whose_header_does_not_say_its_letters(name: str, encoding: str, parts: list[str], tmp_path: Path) -> None:
    stored = name.encode(encoding)
    file = write(tmp_path / "1.dcm", PatientName="X" * len(stored))
    file.write_bytes(file.read_bytes().replace(b"X" * len(stored), stored))
    identity = identity_of(file)
    assert [part for part in parts if not identity.is_told_by(part)] == []


@pytest.mark.parametrize("header", ["19610203", "1961-02-03", "1961.02.03", "03.02.1961", "3/2/1961"])
def test_dates_of_birth_however_header_and_folder_write_them(header: str, tmp_path: Path) -> None:
    file = write(tmp_path / "1.dcm", PatientBirthDate="19610203")
    dataset = pydicom.dcmread(file)
    dataset._dict[pydicom.tag.Tag("PatientBirthDate")] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag("PatientBirthDate"), "DA", len(header), header.encode(), 0, False, True
    )
    dataset.save_as(file)
    identity = identity_of(file)
    for part in ("1961-02-03", "19610203", "03.02.61", "Feb031961", "1961年2月3日", "born_3_2_1961"):
        assert identity.is_told_by(part), part
    assert not identity.is_told_by("1961-02-04")


def test_names_in_sequences_tell_as_well(tmp_path: Path) -> None:
    file = write(tmp_path / "1.dcm", PatientName="A")
    dataset = pydicom.dcmread(file)
    inner = pydicom.Dataset()
    inner.PatientID, inner.PatientName = "ZX-998877", "Quentin^Zyxwvut"
    dataset.ReferencedPatientSequence = pydicom.Sequence([inner])
    dataset.save_as(file)
    assert identity_of(file).is_told_by("QuentinZyxwvut")
    assert identity_of(file).is_told_by("998877")


def test_what_is_no_dicom_file_tells_nothing(tmp_path: Path) -> None:
    for content in (b"", b"\x08\0", b"\x89PNG" + bytes(200), b"\x08\0" + bytes(4000)):
        (tmp_path / "file").write_bytes(content)
        assert not identity_of(tmp_path / "file").words


@pytest.mark.parametrize(
    ("identity", "parts"), [("K-00471-B", ["K471B", "k-471-b", "K_00471_B"]), ("P.0815x", ["p815X"]), ("A-7", ["a7", "A07"])]
)
def test_an_id_is_found_with_and_without_its_zeros(identity: str, parts: list[str], tmp_path: Path) -> None:
    told = identity_of(write(tmp_path / "1.dcm", PatientID=identity))
    assert [part for part in parts if not told.is_told_by(part)] == []


@pytest.mark.parametrize(
    ("identity", "folders", "files"),
    [
        ("012", ["012", "12", "p012", "P0012", "patient_12", "sub-12", "s12", "ID 012"], ["p012_003", "patient12", "pat-012"]),
        ("471", ["471", "0471", "p471", "471_CT", "CT471", "471-20240101"], ["471_001", "p471"]),
        ("7", ["7", "p7", "patient_07"], ["p07"]), ("P012", ["p12", "patient_012", "012"], ["P012_1"]), ("Patient 3", ["p3"], ["p03"]),
    ],
)  # fmt: skip
def test_a_short_number_is_a_patients_in_folders_and_after_a_word(
    identity: str, folders: list[str], files: list[str], tmp_path: Path
) -> None:
    names = Names([write(tmp_path / "1.dcm", PatientID=identity)])
    for folder in folders:
        assert names.path(PurePosixPath("ct", folder, "1.dcm")).parts[1].startswith("p-"), folder
    for file in files:
        assert names.path(PurePosixPath("ct", f"{file}.dcm")).name.startswith("p-"), file


@pytest.mark.parametrize(
    ("identity", "place"),
    [
        ("001", "ct/test/001.dcm"), ("471", "ct/scans/IM471.dcm"), ("471", "ct/a/slice_471.png"), ("12", "ct/batch12/s12.dcm"),
        ("3", "mr/ses-3/T1_3mm/003.dcm"), ("2", "ct/visit 2/slice 2.dcm"), ("000", "ct/000/000.dcm"),
    ],
)  # fmt: skip
def test_a_short_number_elsewhere_is_a_slice_a_visit_or_a_size(identity: str, place: str, tmp_path: Path) -> None:
    file = write(tmp_path / "1.dcm", PatientID=identity, AccessionNumber="", StudyID="")
    assert Names([file]).path(PurePosixPath(place)) == PurePosixPath(place)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Yamada^Taro", ["Tarou", "Taroh", "yamada_tarō", "TYamada"]), ("Ōno^Yūko", ["Ohno", "Oono", "yuukoono", "Yuhko"]),
        ("Ohno^Yuko", ["Ōno", "ono"]), ("Mueller^Jürgen", ["Müller", "MULLER", "Juergen"]), ("Muller^A", ["Mueller", "müller"]),
        ("Simic^Ana", ["Šimić"]), ("Иванов^Юлия", ["Ivanov_Julia", "Iuliia"]), ("Thomas^Sergej", ["Tomas", "Sergey", "sergei"]),
        ("山田^太郎=やまだ^たろう", ["Yamada", "TarouYamada"]), ("Jo^Kyoko", ["キョウコ", "きょうこ"]), ("Hong^Gildong", ["홍길동"]),
    ],
)  # fmt: skip
def test_a_name_is_found_in_another_spelling_of_its_sounds(name: str, parts: list[str], tmp_path: Path) -> None:
    identity = identity_of(write(tmp_path / "1.dcm", PatientName=name))
    assert [part for part in parts if not identity.is_told_by(part)] == []


@pytest.mark.parametrize("part", ["scans", "batch1", "head_T1", "more", "study_2", "anatomy", "data"])
def test_what_sounds_like_a_word_of_layouts_is_nobodys(part: str, tmp_path: Path) -> None:
    identity = identity_of(write(tmp_path / "1.dcm", PatientName="Schan^Muura=Hed^Data"))
    assert not identity.is_told_by(part)


def test_a_patient_written_with_and_without_zeros_gets_one_name(names: Names) -> None:
    first, second = (names.path(PurePosixPath("ct", part, "1.dcm")) for part in ("Anna_01", "anna-1"))
    assert first == second


def test_a_name_behind_a_dot_is_no_ending(names: Names) -> None:
    place = names.path(PurePosixPath("ct/Scan.Anna/MR.Anna"))
    assert "anna" not in str(place).lower()
    assert names.path(PurePosixPath("ct/a/Anna.nii.gz")).name.endswith(".nii.gz")


def test_unique_identifiers_of_studies_and_images_are_replaced() -> None:
    study, image = "1.2.826.0.1.3680043.8.498.123", "2.25.329800735698586629295641978511506172918"
    place = Names([]).path(PurePosixPath("ct", study, f"CT.{image}.dcm"))
    assert study not in str(place)
    assert image not in str(place)
    assert place == Names([]).path(PurePosixPath("ct", study, f"CT.{image}.dcm"))
    assert place.parts[1] != place.parts[2]
    assert Names([]).path(PurePosixPath("ct/v1.2.3/4.5.6.7.dcm")) == PurePosixPath("ct/v1.2.3/4.5.6.7.dcm")


def test_a_birthday_in_another_calendar_tells_as_well(tmp_path: Path) -> None:
    told = identity_of(write(tmp_path / "1.dcm", PatientBirthDate="", PatientBirthDateInAlternativeCalendar="1339-11-14"))
    assert told.is_told_by("13391114")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("García^José", ["Jos%C3%A9", "Garc%EDa", "JosÃ©", "Garc├¡a", "Garc\ufffda", "Garc_a", "R2FyY8OtYQ=="]),
        ("Müller^Eva", ["M%C3%BCller", "M_ller", "M³ller", "Mⁿller", "M├╝ller"]),
        ("山田^太郎", ["\u00e5\u00b1\u00b1\u00e7\u0094\u00b0", "%E5%B1%B1%E7%94%B0"]),
    ],
)  # fmt: skip
def test_names_that_a_program_wrote_in_other_signs(name: str, parts: list[str], tmp_path: Path) -> None:
    identity = identity_of(write(tmp_path / "1.dcm", PatientName=name))
    assert [part for part in parts if not identity.is_told_by(part)] == []


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Hassan^Mohammed", ["Muhammad", "Mohamed_1", "محمد", "حسن"]), ("حسن^محمد", ["Mohammed", "hasan"]),
        ("כהן^משה", ["Cohen", "moshe_cohen"]), ("ใจดี^สมชาย", ["somchai"]), ("शर्मा^राम", ["शर्मा"]),
    ],
)  # fmt: skip
def test_names_of_scripts_with_few_vowels(name: str, parts: list[str], tmp_path: Path) -> None:
    identity = identity_of(write(tmp_path / "1.dcm", PatientName=name))
    assert [part for part in parts if not identity.is_told_by(part)] == []


@pytest.mark.parametrize("name", ["de la Cruz^Maria", "van der Berg^Jan^^Dr^Jr", "al-Rashid^Omar"])
def test_particles_and_titles_alone_tell_nobody(name: str, tmp_path: Path) -> None:
    identity = identity_of(write(tmp_path / "1.dcm", PatientName=name))
    assert [part for part in ("de-identified", "van", "dr", "al", "LA", "der") if identity.is_told_by(part)] == []
    family = name.split("^")[0]
    assert [part for part in (family, family.replace(" ", "").replace("-", ""), family.split()[-1]) if not identity.is_told_by(part)] == []


@pytest.mark.parametrize("name", ["scan.json", "scan.nrrd", "scan.mha", "slicer.nrrd"])
def test_what_other_headers_keep_of_a_dicom_header_counts(name: str, tmp_path: Path) -> None:
    """dcm2niix writes JSON beside NIfTI, ITK and 3D Slicer write entries into NRRD and MetaImage."""
    entries = {"0010|0010": "Zyxwvut^Quentin", "0010|0030": "19371231", "0010|0020": "K-00471-B", "0008|103e": "head"}
    if name.endswith(".json"):
        told = {"PatientName": "Zyxwvut^Quentin", "PatientBirthDate": "1937-12-31", "PatientID": "K-00471-B", "EchoTime": 0.1, "Made": None}
        (tmp_path / name).write_text(json.dumps(told))
    elif name == "slicer.nrrd":
        lines = [f"DICOM_{number.replace('|', '_')}:={value}" for number, value in entries.items()]
        (tmp_path / name).write_text("\n".join(["NRRD0004", "type: short", "dimension: 3", "sizes: 2 2 2", *lines, "", ""]))
    else:
        image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16))
        for number, value in entries.items():
            image.SetMetaData(number, value)
        SimpleITK.WriteImage(image, str(tmp_path / name))
    identity = identity_of(tmp_path / name)
    assert [part for part in ("Quentin_Zyxwvut", "31.12.1937", "k471b") if not identity.is_told_by(part)] == []
    assert not identity.is_told_by("head_1")
