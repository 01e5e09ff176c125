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
    jobs, set_aside = _jobs(source, target)
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
    for line in set_aside:
        print(f"not read: {line}")
    _report(translator, done, failed, target, time.monotonic() - began)


def choose(model: str | None, to: str) -> Translator:
    """The translator that `model` names, which must make `to` (ct or mr). Raises UserError otherwise."""
    name = model or f"{MODELS[to]}@champion"
    if Path(name).is_dir():
        return Translator.from_folder(Path(name), MODELS[to].replace("-", "_"))
    if not name.startswith(MODELS[to]):
        raise UserError(f"--model {name}: does not make {to.upper()}; expected {MODELS[to]}, with @alias or /version, or a folder")
    return Translator.from_registry(name)


def _jobs(source: Path, target: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """((from, to), why others are not read): one for a file or DICOM series, else one for each file of the folder, under the same names."""
    from pipeline.formats.table import look_into

    if source.is_file():
        return [(source, target)], []
    contents = look_into(source)
    if not contents.inputs:
        said = f" ({contents.set_aside[0]})" if contents.set_aside else ""
        raise UserError(f"{source}: no pictures, DICOM or other volumes in this folder{said}")
    if contents.inputs == [source]:
        return [(source, target)], contents.set_aside
    return [(file, target / file.relative_to(source)) for file in contents.inputs], contents.set_aside


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
