"""`ctmr translate IN OUT --to ct|mr`: a file, a DICOM series or a folder of files, with progress and a summary."""

import time
from pathlib import Path

from pipeline.errors import UserError
from pipeline.serving.translator import Summary, Translator

MODELS = {"ct": "mr-to-ct", "mr": "ct-to-mr"}


def translate(
    source: Path, target: Path, to: str, model: str | None = None, contrast: str | None = None, doubt: Path | None = None
) -> None:
    """Translate `source` and print what was done. Without `model`, the registry's champion for this direction.

    `model` may be a registered model (mr-to-ct@champion, mr-to-ct/3) or a folder with model.json, such as models/.
    `doubt`: file for how far the translation wavers, of one picture or NIfTI volume.
    Raises UserError for whatever the user can mend; of a folder of files, those that cannot be translated are named at the end.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not source.exists():
        raise UserError(f"{source}: not found")
    if to not in MODELS:
        raise UserError(f"--to {to}: expected ct or mr")
    if target.resolve() == source.resolve() or source.resolve() in target.resolve().parents:
        raise UserError(f"{target}: would write into what is being translated; name another place")
    began = time.monotonic()
    translator = choose(model, to)
    jobs = _jobs(source, target)
    if doubt is not None and len(jobs) > 1:
        raise UserError(f"--doubt {doubt}: one file for {len(jobs)}; translate one picture or volume at a time")
    done: list[Summary] = []
    failed: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as display:
        for one_in, one_out in jobs:
            task = display.add_task(one_in.name, total=None)
            try:
                done.append(
                    translator.translate(
                        one_in,
                        one_out,
                        contrast,
                        lambda step, total, task=task: display.update(task, advance=step, total=total),  # type: ignore[misc]
                        doubt,
                    )
                )
            except UserError as error:
                if len(jobs) == 1:
                    raise
                failed.append(str(error))
            display.remove_task(task)
    _report(translator, done, failed, target, time.monotonic() - began)


def choose(model: str | None, to: str) -> Translator:
    """The translator that `model` names, which must make `to` (ct or mr). Raises UserError otherwise."""
    name = model or f"{MODELS[to]}@champion"
    if Path(name).is_dir():
        return Translator.from_folder(Path(name), MODELS[to].replace("-", "_"))
    if not name.startswith(MODELS[to]):
        raise UserError(f"--model {name}: does not make {to.upper()}; expected {MODELS[to]}, with @alias or /version, or a folder")
    return Translator.from_registry(name)


def _jobs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """(from, to): one for a file or DICOM series, else one for each file of the folder, under the same names."""
    from pipeline.formats.slices import Unreadable
    from pipeline.formats.table import recognise

    if source.is_file():
        return [(source, target)]
    jobs = []
    for file in sorted(file for file in source.rglob("*") if file.is_file() and not file.name.startswith(".")):
        try:
            if recognise(file).NAME == "DICOM" and _is_dicom(file):
                return [(source, target)]
        except Unreadable:
            continue
        if _is_named(file):
            jobs.append((file, target / file.relative_to(source)))
    if not jobs:
        raise UserError(f"{source}: no pictures, DICOM or NIfTI files in this folder")
    return jobs


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as start:
        return start.read(132)[128:] == b"DICM" or file.suffix.lower() in (".dcm", ".ima")


def _is_named(file: Path) -> bool:
    from pipeline.formats.table import endings

    return file.name.lower().endswith(endings())


def _report(translator: Translator, done: list[Summary], failed: list[str], target: Path, seconds: float) -> None:
    slices, empty = sum(one.slices for one in done), sum(one.without_head for one in done)
    for warning in sorted({warning for one in done for warning in one.warnings}):
        print(f"warning: {warning}")
    for line in failed:
        print(f"not translated: {line}")
    print(
        f"{target}: {slices - empty} of {slices} slices translated to {translator.target.upper()} by {translator.label} in {seconds:.1f} s;"
        " synthetic, not for diagnosis"
    )
    if failed:
        raise UserError(f"{len(failed)} of {len(failed) + len(done)} files were not translated (named above)")
