"""Retraining without Prefect in it: run stages through DVC, look for changes, record and report what happened."""

import os

from pipeline.errors import UserError


def check_settings() -> None:
    """To be called before anything imports Prefect, which reads its settings then. Raises UserError where it cannot.

    They are profiles.toml in PREFECT_HOME, prefect.toml in the project and PREFECT_ variables.
    """
    try:
        from prefect import flow  # noqa: F401
    except ValueError as error:  # TOML, encoding, or a value of another type
        profiles = os.environ.get("PREFECT_PROFILES_PATH") or f"{os.environ.get('PREFECT_HOME', '~/.prefect')}/profiles.toml"
        raise UserError(
            f"Prefect cannot read its settings, from {profiles}, prefect.toml or variables PREFECT_…; mend what is wrong there: {error}"
        ) from None
