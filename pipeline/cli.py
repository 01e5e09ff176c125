"""`ctmr`: the project's commands. Every heavy import happens inside the command that needs it, so that `--help` is quick."""

import os
from typing import Annotated

import typer

from pipeline import paths
from pipeline.errors import user_errors

app = typer.Typer(help="Brain CT ↔ MR translation.", no_args_is_help=True, add_completion=False)


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="Preset to apply; see --list.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the presets and what each is for.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one knob as well; repeatable.")] = None,
) -> None:
    """Change params.yaml to a named set of values, keeping its comments."""
    from pipeline import presets

    os.chdir(paths.project_root())
    if list_ or (name is None and not set_):
        for known, description in presets.available().items():
            print(f"{known:12} {description}")
        return
    changes = presets.apply(name, set_)
    for change in changes:
        print(f"{change.key}: {presets.shown(change.old)} -> {presets.shown(change.new)}")
    if not changes:
        print(f"{paths.PARAMS}: nothing to change")


@app.command()
def retrain() -> None:
    """Bring the whole graph up to date as a Prefect flow; no server has to be started."""
    from pipeline.retraining.command import retrain_here

    retrain_here(paths.project_root())


def main() -> None:
    """Entry point of the console script `ctmr`."""
    with user_errors():
        app()


if __name__ == "__main__":
    main()
