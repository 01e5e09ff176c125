"""The MNI152 maps behind every simulated head are read as nibabel reads them, and anything else in their place is one line."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.phantom import atlas


def test_a_map_is_read_as_nibabel_reads_it() -> None:
    found, known = atlas._load("gm"), nibabel.load(atlas._map_path("gm"))
    assert np.array_equal(found.values, np.asarray(known.dataobj))
    assert np.array_equal(known.affine, np.diag([found.step] * 3 + [1]) + np.pad(found.low[:, None], ((0, 1), (3, 0))))


def test_another_file_in_its_place_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "map.nii.gz"
    monkeypatch.setattr(atlas, "_map_path", lambda kind: file)
    with pytest.raises(UserError, match="not found; the phantom needs nilearn"):
        atlas._load("gm")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.float32), np.eye(4)), file)
    with pytest.raises(UserError, match=r"not the map that nilearn 0\.14 ships"):
        atlas._load("gm")
    file.write_bytes(gzip.compress(b"short"))
    with pytest.raises(UserError, match=r"not the map that nilearn 0\.14 ships"):
        atlas._load("gm")
