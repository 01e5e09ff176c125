"""The evaluate stage on simulated volumes with truth: scored whole, beside trivial methods, in metrics.json, report and MLflow's charts."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pipeline import paths
from pipeline.dataset import manifest, prepare_slices, slice_arrays
from pipeline.params import load
from pipeline.phantom import simulate_volume
from pipeline.sources.table import download
from pipeline.tracking import evaluation_log
from stages import evaluate
from tests.tracking import projects


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project before its evaluate stage: two patients in SynthRAD's layout for testing, untrained models."""
    folder = projects.make(tmp_path / "project")
    for number in (1, 2):
        head = simulate_volume(number, (6.0, 6.0, 8.0), contrast="t1", healthy=True, extent=(0.0, 80.0))
        patient = tmp_path / f"mine/brain/1BA00{number}"
        patient.mkdir(parents=True)
        for name, voxels in (("ct", head.ct), ("mr", np.rint(1000 * head.mr).astype(np.int16)), ("mask", head.mask.astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(voxels, head.affine), patient / f"{name}.nii.gz")
    params, raw, slices = load(folder / paths.PARAMS), folder / paths.RAW, folder / paths.SLICES
    download(params.data.model_copy(update={"source": "folder", "folder": str(tmp_path / "mine")}), raw)
    table = manifest.build(raw, workers=1)
    table = table[table["head_share"] > 0].assign(split="test", group=table["patient"])
    slices.mkdir(parents=True)
    slice_arrays.write_preprocessing(slices, params.preprocess)
    prepare_slices.fill(slices, table, params.preprocess, raw, workers=1)
    for modality in ("ct", "mr"):
        shutil.copy(folder / paths.slices("test", modality), folder / paths.slices("train", modality))
    return folder


def test_the_stage_scores_whole_volumes(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    logged = {}
    monkeypatch.chdir(project)
    monkeypatch.setattr(evaluation_log, "log_evaluation", lambda figures, folder: logged.update(evaluation_log.chart_names(figures)))
    evaluate.main()
    volumes = json.loads(paths.METRICS_JSON.read_text())["volumes"]["mr_to_ct"]
    assert (volumes["test"]["pairs"], volumes["test"]["groups"]) == (2, 2)
    assert set(volumes["baselines"]) == {"mean_picture", "all_water", "water_and_bone"}
    for scores in (volumes["test"], *volumes["baselines"].values()):
        assert {"volume_mae_hu", "volume_psnr", "volume_ms_ssim", "air_mae_hu", "soft_mae_hu", "bone_mae_hu", "bone_dice"} <= set(scores)
    assert volumes["baselines"]["all_water"]["soft_mae_hu"] < 110  # fat is at -100, brain at 35
    assert volumes["baselines"]["all_water"]["bone_mae_hu"] > 300
    assert logged["volume_mae_hu/mr_to_ct"] == pytest.approx(volumes["test"]["volume_mae_hu"])
    assert "whole volumes, in Hounsfield units" in paths.REPORT_HTML.read_text()
    assert "mr_to_ct: volume_mae_hu" in capsys.readouterr().out
