"""`ctmr deploy`: what prefect.yaml describes onto a server, under names that no other project there has."""

import subprocess
from pathlib import Path

from prefect.settings import PREFECT_API_URL

from pipeline.errors import UserError
from pipeline.processes import environment
from pipeline.retraining import project


def deploy(folder: Path) -> None:
    """Make the pool of the project in `folder` where it is missing, then its deployments. Raises UserError where a step fails."""
    if not PREFECT_API_URL.value():
        raise UserError("PREFECT_API_URL is not set; export it with the address of the server, such as http://SERVER:4200/api")
    pool = project.name(folder)
    if _prefect(folder, pool, "work-pool", "inspect", pool, shown=False):
        _prefect(folder, pool, "work-pool", "create", pool, "--type", "process", or_else="the work pool cannot be made")
    _prefect(folder, pool, "--no-prompt", "deploy", "--all", or_else="prefect.yaml cannot be deployed")
    print(f"now, on each machine that trains: prefect worker start --pool {pool}")


def _prefect(folder: Path, pool: str, *arguments: str, shown: bool = True, or_else: str = "") -> int:
    """Exit code of `prefect`, which says itself what is wrong. Raises UserError with `or_else`, where given, when it fails."""
    where = None if shown else subprocess.DEVNULL
    env = environment({project.VARIABLE: pool})
    code = subprocess.run(["prefect", *arguments], cwd=folder, env=env, stdout=where, stderr=where, check=False).returncode
    if code and or_else:
        raise UserError(f"{or_else}; see above")
    return code
