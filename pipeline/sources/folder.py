"""Slices from a directory or archive of the user's own."""

import tempfile
from pathlib import Path

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.sources import archive, identity, layout


def fetch(data: params.Data, folder: Path) -> dict[str, object]:
    """Copy the images of `data.folder` (a directory, or a zip or tar archive) into `folder`, sorted by modality and split.

    Gives what is known of the source. Raises UserError, naming the source, when it is missing, unreadable or of unknown layout.
    """
    assert data.folder is not None  # params refuse it
    source = paths.as_given(data.folder)
    if not source.exists():
        raise UserError(f"data.folder = {source}: not found; give a directory or archive, relative to the project or absolute")
    if source.resolve().is_relative_to(paths.RAW.resolve()):
        raise UserError(f"data.folder = {source}: lies in {paths.RAW}, which this stage writes; move your images elsewhere")
    if source.is_dir():
        pairs = take(source, folder, f"data.folder = {source}")
    else:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacked.") as unpacked:
            archive.extract(source, Path(unpacked))
            pairs = take(Path(unpacked), folder, f"data.folder = {source}")
    return {"pairs": pairs}


def take(root: Path, folder: Path, source: str) -> int:
    """Copy the images of the tree `root`, and its pairs.csv, into `folder`; gives the number of pairs. `source` heads error messages."""
    try:
        names = identity.Names(root, list(layout.walk(root)))
        placed = layout.place(root, names.path)
        layout.copy(placed, folder)
        return layout.copy_pairs(root, placed, folder, names.group)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
