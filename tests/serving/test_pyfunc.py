"""The model as MLflow serves it, without MLflow's store: what the numbers of a CT are, and what is refused."""

import base64
from pathlib import Path

import numpy as np
import pytest
from mlflow.pyfunc import PythonModelContext

from pipeline.errors import UserError
from pipeline.serving.pyfunc import TranslationModel
from tests.serving import examinations


@pytest.fixture(scope="module")
def to_mr(models: Path, tmp_path_factory: pytest.TempPathFactory) -> TranslationModel:
    return load(models, "ct_to_mr", tmp_path_factory.mktemp("version"))


def load(models: Path, direction: str, folder: Path) -> TranslationModel:
    for name in ("model.json", f"{direction}.safetensors"):
        (folder / name).write_bytes((models / name).read_bytes())
    model = TranslationModel()
    model.load_context(PythonModelContext({"translator": str(folder)}, {}))
    return model


def predict(model: TranslationModel, pixels: np.ndarray, **params: str) -> np.ndarray:
    return model.predict(PythonModelContext({}, {}), pixels, params)


def test_physical_values_mean_what_a_file_of_them_means(to_mr: TranslationModel, heads) -> None:
    expected = predict(to_mr, heads[0], unit="physical")
    for shifted, told in ((heads[0] + 1024, "auto"), (heads[0] + 1024, "offset-1024"), (heads[0], "hu")):
        assert np.abs(predict(to_mr, shifted, unit="physical", ct_values=told) - expected).max() < 1e-4
    assert np.abs(predict(to_mr, heads[0] + 1024, unit="physical", ct_values="hu") - expected).max() > 0.1


@pytest.fixture(scope="module")
def to_ct(models: Path, tmp_path_factory: pytest.TempPathFactory) -> TranslationModel:
    return load(models, "mr_to_ct", tmp_path_factory.mktemp("version"))


def test_numbers_of_an_mr_mean_what_a_file_of_them_means(to_ct: TranslationModel, heads, tmp_path: Path) -> None:
    """The same readers as the command: a background of -1000 is none of the MR's, a CT is refused, and so is what is no number."""
    mr = heads[1] * 1000 if heads[1].max() <= 1 else heads[1]
    filled = np.where(mr > 0.05 * mr.max(), mr, -1000).astype(np.float32)
    examinations.nifti(tmp_path / "filled.nii.gz", filled)
    image = base64.b64encode((tmp_path / "filled.nii.gz").read_bytes()).decode()
    as_file = predict(to_ct, np.zeros((1, 1, 1), np.float32), image=image)
    as_numbers = predict(to_ct, filled, unit="physical")
    assert np.abs(as_numbers - predict(to_ct, np.maximum(filled, filled[filled > -1000].min()), unit="physical")).max() < 1
    assert as_file.shape[0] == as_numbers.shape[0]
    with pytest.raises(UserError, match="CT by their values"):
        predict(to_ct, heads[0], unit="physical")
    kept, missing = mr.copy(), mr.copy()
    kept[:, :, :4], missing[:, :, :4] = mr[:, :, 4:].min(), 32767
    np.testing.assert_array_equal(predict(to_ct, missing, unit="physical"), predict(to_ct, kept, unit="physical"))
    for kind in (np.complex64, object, str):
        with pytest.raises(UserError, match="expected one number a pixel"):
            predict(to_ct, heads[1].astype(kind))
    with pytest.raises(UserError, match="no numbers"):
        predict(to_ct, np.full((1, 64, 64), np.nan), unit="physical")


def test_a_file_in_base64_takes_ct_values_too(to_mr: TranslationModel, heads, tmp_path: Path) -> None:
    images = []
    for name, values in (("hu.nii.gz", heads[0]), ("offset.nii.gz", heads[0] + 1024)):
        examinations.nifti(tmp_path / name, values)
        images.append(base64.b64encode((tmp_path / name).read_bytes()).decode())
    nothing = np.zeros((1, 1, 1), np.float32)
    expected = predict(to_mr, nothing, image=images[0])
    assert np.abs(predict(to_mr, nothing, image=images[1], ct_values="offset-1024") - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("params", "said"),
    [({"ct_values": "HU"}, "expected auto, hu"), ({"unit": "mm"}, "expected picture"), ({"image": "?"}, "not Base64"), ({}, "in 0..1")],
)
def test_what_it_does_not_know_is_refused_by_name(to_mr: TranslationModel, heads, params: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        predict(to_mr, heads[0], **params)
