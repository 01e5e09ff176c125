"""`ctmr`: the project's commands. Every heavy import happens inside the command that needs it, so that `--help` is quick."""

import gc
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipeline import paths
from pipeline.errors import user_errors

app = typer.Typer(help="Brain CT ↔ MR translation.", no_args_is_help=True, add_completion=False)


@app.command()
def preset(
    names: Annotated[list[str] | None, typer.Argument(help="Preset to apply; see --list. Of several, a later one wins.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the presets and what each is for.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one knob as well; repeatable.")] = None,
) -> None:
    """Set every knob of params.yaml as a preset says, keeping its comments; without a name, change single knobs."""
    from pipeline import presets

    os.chdir(paths.project_root())
    if list_ or not (names or set_):
        for known, description in presets.available().items():
            print(f"{known:12} {description}")
        return
    changes = presets.apply(names or [], set_ or [])
    for change in changes:
        print(f"{change.key}: {presets.as_written(change.old)} -> {presets.as_written(change.new)}")
    if not changes:
        print(f"{paths.PARAMS}: nothing to change")


@app.command(name="params")
def params_(schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of params.yaml, for editors.")] = False) -> None:
    """Every knob of params.yaml with its default and meaning."""
    from pipeline import params, presets

    if schema:
        print(json.dumps(params.schema(), indent=2, ensure_ascii=False))
        return
    for key, (value, meaning) in params.meanings(params.Params()).items():
        print(f"{f'{key}: {presets.as_written(value)}':48} {meaning}")


_MODE = typer.Option(help="if_changed | always | warm_start (go on from the champions' weights).")
_Mode = Annotated[Literal["if_changed", "always", "warm_start"], _MODE]
_SET = typer.Option("--set", metavar="KEY=VALUE", help="Change one knob for this retraining only; repeatable.")
_Set = Annotated[list[str] | None, _SET]
_Notify = Annotated[list[str] | None, typer.Option(help="Whom to tell: an http(s) address, or TYPE/NAME of a Prefect block; repeatable.")]
_Branch = Annotated[str | None, typer.Option(help="Commit each retraining on this branch as well.")]
_Timeout = Annotated[list[str] | None, typer.Option("--timeout", metavar="STAGE=MINUTES", help="Longest time for a stage; repeatable.")]
_KEEP = typer.Option(min=1, help="Keep so many of the newest retrainings; ctmr prune removes older ones afterwards. Default: all.")
_Keep = Annotated[int | None, _KEEP]
_PORT = typer.Option(min=1, max=65535, help="Port on this machine.")
_Name = Annotated[str, typer.Argument(help="ct-to-mr or mr-to-ct.")]


@app.command()
def retrain(
    mode: _Mode = "if_changed",
    set_: _Set = None,
    notify: _Notify = None,
    branch: _Branch = None,
    timeout: _Timeout = None,
    keep: _Keep = None,
) -> None:
    """Retrain in a worktree of its own where data, params or code changed; no server has to be started."""
    parameters = _parameters(mode, set_, notify, branch, timeout, keep)
    from pipeline.retraining.flow import retrain_here

    retrain_here(paths.project_root(), **parameters)


@app.command()
def schedule(
    cron: Annotated[str, typer.Option(help="Times, as minute hour day month weekday.")] = "0 3 * * 1",
    timezone: Annotated[str, typer.Option(help="Time zone of these times, such as Europe/Vienna.")] = "UTC",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of our Prefect server, unless PREFECT_API_URL names one.")] = 4200,
    mode: _Mode = "if_changed",
    set_: _Set = None,
    notify: _Notify = None,
    branch: _Branch = None,
    timeout: _Timeout = None,
    keep: _Keep = None,
) -> None:
    """Retrain by schedule on this machine until stopped; a run that is due while another still goes is skipped."""
    parameters = _parameters(mode, set_, notify, branch, timeout, keep)
    from pipeline.retraining.schedule import serve_schedule

    serve_schedule(paths.project_root(), cron, timezone, port, **parameters)


def _parameters(mode: _Mode, set_: _Set, notify: _Notify, branch: _Branch, timeout: _Timeout, keep: _Keep) -> dict[str, Any]:
    """What the flow `retrain` is called with. Raises UserError where Prefect's settings or one of these cannot be used."""
    from pipeline import presets
    from pipeline.retraining import check_settings

    root = paths.project_root()
    presets.check(set_ or [], root / paths.PARAMS)
    check_settings()
    from pipeline.retraining.flow import parse_minutes
    from pipeline.retraining.tell import check_targets

    check_targets(notify or [])
    minutes = parse_minutes(timeout, root)
    return {"mode": mode, "settings": set_, "notify": notify, "branch": branch, "timeout_minutes": minutes, "keep": keep}


@app.command()
def deploy(
    clones: Annotated[bool, typer.Option("--clones", help="For workers on any host: each clones this commit from git's remote.")] = False,
) -> None:
    """Put the deployments of prefect.yaml, and a pool for them, on the server that PREFECT_API_URL names."""
    from pipeline.retraining import check_settings

    check_settings()
    from pipeline.retraining.server import deploy as deploy_to_server

    deploy_to_server(paths.project_root(), clones)


@app.command()
def history() -> None:
    """Table of retrainings: data, scores, decision."""
    from pipeline.retraining.history import show_history

    show_history(paths.project_root())


@app.command()
def reproduce(name: Annotated[str, typer.Argument(help="A retraining, as ctmr history names it.")]) -> None:
    """Build a retraining once more, elsewhere, and say whether bytes and scores agree."""
    from pipeline.retraining.reproduce import reproduce as rebuild

    if not rebuild(paths.project_root(), name):
        raise typer.Exit(2)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(help="How many of the newest retrainings stay whole.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed, and how much it is.")] = False,
) -> None:
    """Remove what old retrainings left: experiments, models without an alias, checkpoints, unused cache."""
    from pipeline.retraining.prune import prune as remove_unneeded

    root = paths.project_root()
    os.chdir(root)
    remove_unneeded(root, keep, dry_run)


@app.command()
def ui(port: Annotated[int, _PORT] = 5000) -> None:
    """The MLflow UI: runs side by side, with curves, images and scores."""
    from pipeline.tracking.ui import serve_ui

    os.chdir(paths.project_root())
    serve_ui(port)


@app.command()
def where() -> None:
    """Say where report, model card and models lie, and how to look at them."""
    from pipeline.tracking import ui as tracking_ui

    os.chdir(paths.project_root())
    tracking_ui.where()


_MODEL = "Such as mr-to-ct@champion, mr-to-ct/3, box, or a folder with model.json. Default: the champion, else the model in the box."


@app.command()
def translate(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Picture, volume (NIfTI, MetaImage, NRRD, MGH), DICOM file or series, or a folder of them.")
    ],
    target: Annotated[str, typer.Argument(metavar="OUT", help="File, or folder (as NAME/), for the result, in the format of IN.")],
    to: Annotated[str | None, typer.Option(help="ct or mr: what to make. Default: the other of what IN says that it is.")] = None,
    model: Annotated[str | None, typer.Option(help=_MODEL)] = None,
    contrast: Annotated[str | None, typer.Option(help="MR contrast wanted: t1, t2, flair or pd.")] = None,
    uncertainty: Annotated[Path | None, typer.Option(help="File for a map of the uncertainty, 0 to 1; picture or NIfTI.")] = None,
    ct_values: Annotated[str, typer.Option(help="What the values of a CT are: auto, hu, offset-1024 or grey (a display window).")] = "auto",
) -> None:
    """Translate brain slices or volumes to the other modality, in the same geometry."""
    from pipeline.serving.translate_files import translate_files

    into_folder = target.endswith("/")
    translate_files(source, Path(target), to, model, contrast, uncertainty, ct_values, into_folder)


@app.command()
def evaluate(
    pairs: Annotated[
        Path,
        typer.Argument(metavar="PAIRS", help="Folder or archive: ct/ and mr/ with the same names or pairs.csv, or a folder a patient."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, pictures and report.html.")] = Path("reports/pairs"),
    model: Annotated[str | None, typer.Option(help="Folder with model.json, or box. Default: models, else the model in the box.")] = None,
    patient: Annotated[str | None, typer.Option(metavar="REGEX", help="Its first group, found in a file's name, is the patient.")] = None,
    contrast: Annotated[str | None, typer.Option(help="Contrast of all MR: t1, t2, flair or pd; else pairs.csv's, else estimated.")] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="Slices a picture: best, median, worst. Default: evaluate.examples.")] = None,
) -> None:
    """Score the trained models on registered pairs that no training saw, beside the baselines."""
    from pipeline.evaluation.registered_pairs import evaluate_pairs, print_scores
    from pipeline.params import load
    from pipeline.serving.hounsfield import hounsfield_translations
    from pipeline.serving.model_choice import choose_folder

    pairs, folder = pairs.resolve(), out.resolve()
    named = choose_folder(model).resolve() if model else None
    os.chdir(paths.project_root())
    models = named or choose_folder(None)
    print(f"scoring {'the model in the box' if models == paths.BOX else model or models}")
    params = load()
    if examples:
        params = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"examples": examples})})
    print_scores(evaluate_pairs(pairs, folder, params, hounsfield_translations(models), models, patient, contrast))
    print(f"see {out / paths.REPORT_HTML.name}")


@app.command()
def serve(
    port: Annotated[int, _PORT] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, each with a token.")] = "127.0.0.1",
    model: Annotated[list[str] | None, typer.Option(help="As in ctmr translate; repeatable, one for each direction.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="Another name by which the page may be called; repeatable.")] = None,
    user_header: Annotated[str | None, typer.Option(help="Header in which a reverse proxy names the signed-in user.")] = None,
) -> None:
    """A web page for translation: drop a file, compare, download."""
    from pipeline.serving.app import serve_page

    serve_page(host, port, model or [], allow_host or [], user_header)


@app.command()
def models(
    register_box: Annotated[
        bool, typer.Option("--register-box", help="Register the model in the box; it becomes champion where there is none.")
    ] = False,
) -> None:
    """Table of the registered models."""
    from pipeline.tracking import box_registration, models_command

    if register_box:
        os.chdir(paths.project_root())
        print(*box_registration.register_box(), sep="\n")
        return
    models_command.show_models()


@app.command()
def promote(name: _Name, version: Annotated[str, typer.Argument(help="Its number, as ctmr models shows it.")]) -> None:
    """Make a registered version champion, whatever the promotion rule said."""
    from pipeline.tracking import models_command

    models_command.promote(name, version)


@app.command()
def rollback(name: _Name) -> None:
    """Make the previous champion champion again."""
    from pipeline.tracking import models_command

    models_command.rollback(name)


@app.command()
def reference(model: Annotated[str, typer.Argument(help="Such as mr-to-ct@champion or mr-to-ct/3.")] = "mr-to-ct@champion") -> None:
    """Look for drift against the data that a registered model was trained on, from the next validate on."""
    from pipeline.tracking import models_command

    os.chdir(paths.project_root())
    print(f"{paths.PARAMS}: quality.drift_reference is {models_command.use_data_of(model)}, the data of {model}")


@app.command()
def doctor(fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended here.")] = False) -> None:
    """Say what is wrong with the MLflow store, DVC's cache, records and locks, and what to do."""
    from pipeline.tracking import doctor

    os.chdir(paths.project_root())
    if not doctor.report(fix):
        raise typer.Exit(2)


def main() -> None:
    """Entry point of the console script `ctmr`."""
    gc.set_threshold(100_000, 50, 50)  # as in stages/: what imports make is no garbage to look for
    with user_errors():
        app()


if __name__ == "__main__":
    main()
