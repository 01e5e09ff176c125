"""`ctmr translate IN OUT`: a file, a DICOM series or a folder of files, with progress and a summary."""

import os
import time
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.domain import Modality
from pipeline.errors import UserError, as_one_line
from pipeline.formats.table import look_into, name_result
from pipeline.formats.values import CtValues, parse_ct_values
from pipeline.serving import bids
from pipeline.serving.model_choice import choose_translator, describe_choice, recognise_target
from pipeline.serving.translator import Summary, Translator


def translate_files(
    source: Path,
    target: Path,
    to: str | None = None,
    model: str | None = None,
    contrast: str | None = None,
    uncertainty: Path | None = None,
    ct_values: str = "auto",
    into_folder: bool = False,
) -> None:
    """Translate `source` and print what was done. `to`: ct, mr, or None for the other of what the source is. `model` as in
    `choose_translator`.

    `uncertainty`: file for the uncertainty of one picture or NIfTI volume. `ct_values`: what the numbers of a CT are. `into_folder`:
    `target` is a folder even where there is none yet, as `OUT/` says.
    Raises UserError for whatever the user can mend; of a folder of files, those that cannot be translated are named at the end.
    """
    if not (source.is_file() or source.is_dir()):
        raise UserError(f"{source}: {'a pipe or device; save it as a file first' if source.exists() else 'not found'}")
    real_source, real_target = Path(os.path.realpath(source)), Path(os.path.realpath(target))  # unlike resolve(), of a loop of links too
    if real_source in (real_target, *real_target.parents):
        raise UserError(f"{target}: would write into what is being translated; name another place")
    if into_folder and source.is_file():
        target = target / name_result(source)
    values = parse_ct_values(ct_values, "--ct-values")
    began = time.monotonic()
    dataset = source if bids.is_dataset(source) else None
    tasks, set_aside = ([], bids.list_misnamed(dataset)) if dataset else _list_tasks(source, target)
    if to is None and (dataset or len(tasks) > 1):
        raise UserError(f"{source}: {'a BIDS data set' if dataset else f'{len(tasks)} files'}; add --to ct or --to mr")
    translator = choose_translator(model, to or recognise_target(source, ct_values))
    print(describe_choice(translator, model), flush=True)
    if dataset:
        tasks = bids.list_tasks(dataset, target, translator.source, translator.target, contrast)
    _check_names(tasks)
    if uncertainty is not None and len(tasks) > 1:
        raise UserError(f"--uncertainty {uncertainty}: one file for {len(tasks)}; translate one picture or volume at a time")
    summaries, failures = _translate_all(translator, tasks, dataset, contrast, uncertainty, values)
    if dataset and summaries:
        bids.write_description(source, target, translator.label)
    for line in set_aside:
        print(f"not read: {as_one_line(line)}")
    _print_summary(translator, summaries, failures, target, time.monotonic() - began)


def _translate_all(
    translator: Translator,
    tasks: list[tuple[Path, Path]],
    dataset: Path | None,
    contrast: str | None,
    uncertainty: Path | None,
    ct_values: CtValues,
) -> tuple[list[Summary], list[str]]:
    """What was translated, and a line for each file that could not be. A single file's error is raised instead.

    Translations of files that are named as BIDS says, of the data set `dataset` or alone, get their sidecars.
    """
    summaries: list[Summary] = []
    failures: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as display:
        for path_in, path_out in tasks:
            bar = display.add_task(path_in.name, total=None)

            def advance(step: int, total: int, bar=bar) -> None:  # type: ignore[no-untyped-def]
                display.update(bar, advance=step, total=total)

            try:
                summary = translator.translate(path_in, path_out, contrast, advance, uncertainty, ct_values)
                if bids.parse_name(path_in) and summary.output.name.endswith((".nii", ".nii.gz")):
                    bids.write_sidecar(summary.output, path_in, dataset, translator.label, _facts(translator, summary, contrast))
                summaries.append(summary)
            except UserError as error:
                if len(tasks) == 1:
                    raise
                failures.append(str(error))
            display.remove_task(bar)
    return summaries, failures


def _facts(translator: Translator, summary: Summary, contrast: str | None) -> dict[str, object]:
    """What a sidecar says of one translation."""
    to_ct = translator.target is Modality.CT
    return {
        "Units": "HU" if to_ct else "arbitrary",
        "MRContrast": None if to_ct else contrast,
        "KnownRangeHU": list(translator.known_range),
        "Slices": summary.slices,
        "EmptySlices": summary.without_head + summary.below,
        "Warnings": summary.warnings,
    }


def _list_tasks(source: Path, target: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """(from, to), and why other files are not read: one for a file or DICOM series, else one for each file, under the same names."""
    if source.is_file():
        return [(source, target)], []
    contents = look_into(source)
    if not contents.inputs:
        reason = f" ({contents.set_aside[0]})" if contents.set_aside else ""
        raise UserError(f"{source}: no pictures, DICOM or other volumes in this folder{reason}")
    if contents.inputs == [source]:
        return [(source, target)], contents.set_aside
    return [(file, target / file.relative_to(source).with_name(name_result(file))) for file in contents.inputs], contents.set_aside


def _check_names(tasks: list[tuple[Path, Path]]) -> None:
    """Raises UserError where two results would have one name."""
    files: dict[Path, Path] = {}
    for file, result in tasks:
        if result in files:
            raise UserError(f"{files[result]} and {file.name}: both would become {result.name}; rename one of them")
        files[result] = file


def _list_warnings(summaries: list[Summary]) -> list[str]:
    """Each warning once; of several files, with the first that it is about and how many others."""
    about: dict[str, list[str]] = {}
    for summary in summaries:
        for warning in summary.warnings:
            about.setdefault(warning, []).append(summary.output.name)
    if len(summaries) < 2:
        return sorted(about)
    others = {warning: f" and {len(names) - 1} others" if len(names) > 1 else "" for warning, names in about.items()}
    return sorted(f"{names[0]}{others[warning]}: {warning}" for warning, names in about.items())


def _print_summary(translator: Translator, summaries: list[Summary], failures: list[str], target: Path, seconds: float) -> None:
    slices, empty = sum(summary.slices for summary in summaries), sum(summary.without_head + summary.below for summary in summaries)
    low, high = translator.known_range
    for line in _list_warnings(summaries):
        print(as_one_line(f"warning: {line}"))
    for failure in failures:
        print(f"not translated: {as_one_line(failure)}")
    print(
        f"{as_one_line(str(summaries[0].output if len(summaries) == 1 else target))}: {slices - empty} of {slices} slices translated to"
        f" {translator.target.upper()} by {translator.label} in {seconds:.1f} s;"
        f" synthetic, not for diagnosis; the model knows CT from {low:g} to {high:g} HU"
    )
    if failures:
        raise UserError(f"{len(failures)} of {len(failures) + len(summaries)} files were not translated (named above)")
