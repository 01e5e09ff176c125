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
    folder = tmp_path_factory.mktemp("version")
    for name in ("model.json", "ct_to_mr.safetensors"):
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
