"""The web page in a real browser, and the addresses behind it under bad input and load."""

import io
import shutil
import socket
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
import SimpleITK

from pipeline.serving.jobs import Limits
from pipeline.serving.translator import Translator
from pipeline.serving.worker import Bounds
from tests.serving import examinations
from tests.serving.page_server import running_page

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LIMITS = Limits(bytes=20 * 2**20, files=50, translation=Bounds(slices=40, seconds=60))


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[str]:
    """Address of a running server."""
    with running_page({"ct": str(models), "mr": str(models)}, LIMITS) as page:
        yield page.address


def post(server: str, files: list[Path], to: str = "ct", **fields: str) -> httpx.Response:
    uploads = [("files", (file.name, file.read_bytes())) for file in files]
    return httpx.post(f"{server}/translate", files=uploads, data={"to": to, **fields}, timeout=60)


def test_the_answer_is_what_the_command_line_writes(server: str, to_ct: Translator, heads, tmp_path: Path) -> None:
    picture = examinations.png(tmp_path / "mr.png", heads[1][0])
    to_ct.translate(picture, tmp_path / "ct.png")
    assert post(server, [picture]).content == (tmp_path / "ct.png").read_bytes()
    examinations.nifti(tmp_path / "mr.nii.gz", heads[1])
    to_ct.translate(tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz")
    assert post(server, [tmp_path / "mr.nii.gz"]).content == (tmp_path / "ct.nii.gz").read_bytes()


@pytest.mark.parametrize(("header", "voxels"), [(".hdr", ".img"), (".mhd", ".raw")])
def test_a_header_and_its_voxels_are_one_volume_and_the_answer_is_one_file(
    server: str, to_ct: Translator, heads, tmp_path: Path, header: str, voxels: str
) -> None:
    examinations.nifti(tmp_path / "whole.nii.gz", heads[1])
    (tmp_path / "pair").mkdir()
    place = tmp_path / "pair/Doe Jane.x"
    if header == ".hdr":
        nibabel.save(nibabel.Nifti1Pair.from_image(nibabel.load(tmp_path / "whole.nii.gz")), place.with_suffix(header))
    else:
        SimpleITK.WriteImage(SimpleITK.ReadImage(tmp_path / "whole.nii.gz"), place.with_suffix(header))
    pair = [place.with_suffix(header), place.with_suffix(voxels)]
    to_ct.translate(tmp_path / "whole.nii.gz", tmp_path / "ct.nii.gz")
    expected = nibabel.load(tmp_path / "ct.nii.gz").get_fdata()
    for files in (pair, pair[::-1]):
        answer = post(server, files)
        assert answer.status_code == 200, answer.text
        result = tmp_path / f"answer{'.nii.gz' if header == '.hdr' else '.mha'}"
        result.write_bytes(answer.content)
        assert f"Doe%20Jane-synthetic{result.name.removeprefix('answer')}" in answer.headers["content-disposition"]
        found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(result)).transpose(2, 1, 0)
        assert np.abs(found - expected).max() <= 1
    alone = post(server, pair[:1])
    assert alone.status_code == 422
    assert "only a header; its voxels should lie beside it" in alone.json()["error"]


def test_what_the_numbers_of_a_ct_are_can_be_said(server: str, to_mr: Translator, heads, tmp_path: Path) -> None:
    examinations.nifti(tmp_path / "hu.nii.gz", heads[0])
    examinations.nifti(tmp_path / "offset.nii.gz", heads[0] + 1024)
    whole = post(server, [tmp_path / "hu.nii.gz"], to="mr")
    said = post(server, [tmp_path / "offset.nii.gz"], to="mr", ct_values="offset-1024")
    wrong = post(server, [tmp_path / "offset.nii.gz"], to="mr", ct_values="hu")
    assert (whole.status_code, said.status_code, wrong.status_code) == (200, 200, 200)
    (tmp_path / "said.nii.gz").write_bytes(said.content)
    (tmp_path / "wrong.nii.gz").write_bytes(wrong.content)
    to_mr.translate(tmp_path / "hu.nii.gz", tmp_path / "mr.nii.gz")
    expected = nibabel.load(tmp_path / "mr.nii.gz").get_fdata()
    assert np.abs(nibabel.load(tmp_path / "said.nii.gz").get_fdata() - expected).max() < 0.01
    assert np.abs(nibabel.load(tmp_path / "wrong.nii.gz").get_fdata() - expected).max() > 0.1
    refused = post(server, [tmp_path / "hu.nii.gz"], to="mr", ct_values="HU")
    assert refused.status_code == 422
    assert refused.json()["error"] == "ct_values HU: expected auto, hu, offset-1024, grey"


def test_bad_input_gets_one_clear_line(server: str, heads, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    good = examinations.png(tmp_path / "mr.png", heads[1][0])
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:2000])
    (dicom,) = examinations.dicom_series(tmp_path / "series", heads[1][:1], "MR")
    (tmp_path / "cut.dcm").write_bytes(dicom.read_bytes()[:3000])
    blank = examinations.png(tmp_path / "blank.png", np.zeros((100, 100), np.float32))
    tiny = examinations.png(tmp_path / "tiny.png", np.ones((100, 100), np.float32))
    for file in (tmp_path / "notes.txt", tmp_path / "empty.png", tmp_path / "cut.png", tmp_path / "cut.dcm", blank, tiny):
        answer = post(server, [file])
        assert answer.status_code == 422, file
        line = answer.json()["error"]
        assert "\n" not in line
        assert str(tmp_path) not in line
        assert "/tmp" not in line
    assert post(server, [good], to="pet").status_code == 422
    assert post(server, [good], to="mr", contrast="t9").status_code == 422
    assert post(server, [good] * 51).status_code == 422
    assert httpx.get(f"{server}/api/translations/nonsense").status_code == 404


def test_a_huge_upload_is_refused_before_it_fills_anything(server: str) -> None:
    with socket.create_connection(("127.0.0.1", int(server.rsplit(":", 1)[1])), timeout=10) as line:
        line.sendall(b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2147483648\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413")
    endless = httpx.post(
        f"{server}/translate", content=(b"\0" * 2**20 for _ in range(200)), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert 400 <= endless.status_code < 500


def test_sixteen_at_once_each_get_their_own_answer(server: str, to_ct: Translator, heads, tmp_path: Path) -> None:
    expected = {}
    for number in range(16):
        file = examinations.png(tmp_path / f"{number}.png", np.roll(heads[1][number % 3], number, axis=1))
        to_ct.translate(file, tmp_path / f"{number}-ct.png")
        expected[file] = (tmp_path / f"{number}-ct.png").read_bytes()
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda file: post(server, [file]).content, expected))
    assert answers == list(expected.values())


@pytest.mark.skipif(CHROMIUM is None, reason="chromium absent")
def test_in_a_browser(server: str, to_ct: Translator, heads, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    picture = examinations.png(tmp_path / "mr slice.png", heads[1][1])
    series = examinations.dicom_series(tmp_path / "series", heads[1], "MR")
    (tmp_path / "notes.txt").write_text("not a picture")
    to_ct.translate(picture, tmp_path / "cli.png")
    to_ct.translate(tmp_path / "series", tmp_path / "cli")
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1280, "height": 860}, accept_downloads=True)
        page.on("request", lambda request: asked.append(request.url))
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
        page.goto(server)
        page.screenshot(path=tmp_path / "1-start.png")

        page.set_input_files("#files", picture)
        expect(page.locator("#result")).to_be_visible(timeout=20_000)
        page.screenshot(path=tmp_path / "2-picture.png")
        assert page.evaluate(
            "[...document.querySelector('#after').getContext('2d').getImageData(0, 0, 128, 128).data].some(v => v > 0 && v < 255)"
        )
        with page.expect_download() as download:
            page.click("#download")
        assert Path(download.value.path()).read_bytes() == (tmp_path / "cli.png").read_bytes()

        page.set_input_files("#files", series)
        expect(page.locator("#facts")).to_contain_text("3 slices", timeout=20_000)
        expect(page.locator("#slice-number")).to_have_text("2 of 3")
        page.locator("#panes").hover()
        page.mouse.wheel(0, 100)
        expect(page.locator("#slice-number")).to_have_text("3 of 3")
        page.screenshot(path=tmp_path / "3-series.png")
        address = page.url
        page.reload()
        expect(page.locator("#facts")).to_contain_text("3 slices", timeout=20_000)
        assert page.url == address
        page.screenshot(path=tmp_path / "3-reloaded.png")
        page.set_input_files("#files", series)
        expect(page.locator("#facts")).to_contain_text("3 slices", timeout=20_000)
        page.click("#blend")
        page.locator("#mix").fill("70")
        page.screenshot(path=tmp_path / "4-blend.png")
        with page.expect_download() as download:
            page.click("#download")
        with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as packed:
            got = {Path(name).name: packed.read(name) for name in packed.namelist()}
        assert got == {file.name: file.read_bytes() for file in (tmp_path / "cli").iterdir()}

        page.click("#side")
        page.click("#show-uncertainty")
        expect(page.locator("#uncertainty")).to_be_visible(timeout=20_000)
        assert page.evaluate(
            "[...document.querySelector('#uncertainty').getContext('2d').getImageData(0, 0, 128, 128).data]"
            ".some((v, i) => i % 4 == 3 && v > 0)"
        )
        page.screenshot(path=tmp_path / "5-uncertainty.png")
        page.click("#show-uncertainty")
        expect(page.locator("#uncertainty")).to_be_hidden()

        page.set_input_files("#files", tmp_path / "notes.txt")
        expect(page.locator("#message")).to_contain_text("notes.txt", timeout=20_000)
        page.screenshot(path=tmp_path / "6-refused.png")
        page.set_viewport_size({"width": 480, "height": 900})
        page.screenshot(path=tmp_path / "7-narrow.png")
        browser.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith((server, "data:", "blob:"))] == []
