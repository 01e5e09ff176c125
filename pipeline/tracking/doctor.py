"""`ctmr doctor`: everything that can be checked of the MLflow store, DVC's cache and what retraining keeps; what to do, or done at once."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.errors import UserError, describe_os_error, mask_credentials
from pipeline.tracking import folder_checks, store, store_checks
from pipeline.tracking.folder_checks import Finding

Check = Callable[[], Iterator[Finding]]

MEND_FIRST = "mend that, then run ctmr doctor again"  # remedy of what keeps a check from its end
REFUSED = "see to that, then run ctmr doctor again"  # remedy where the system refuses something


@dataclass(frozen=True)
class Examined:
    """A finding, and whether it was mended just now."""

    finding: Finding
    mended: bool = False

    def __str__(self) -> str:
        said = f"mended: {self.finding.problem}" if self.mended else f"problem: {self.finding.problem}; {self.finding.remedy}"
        return mask_credentials(" ".join(said.split()))


def examine_store(fix: bool = False) -> Iterator[Examined]:
    """What keeps the store from being used: one finding, since nothing else can be said about such a store."""
    return _run(store_checks.database, fix)


def examine_rest(fix: bool = False, *, store_usable: bool = True) -> Iterator[Examined]:
    """What else is wrong, found one after the other; with `fix`, what can be mended is mended before the next check."""
    for checks in (store_checks.ALL if store_usable else (), folder_checks.ALL):
        unmended = False
        for examined in (examined for check in checks for examined in _run(check, fix)):
            if unmended and examined.finding.remedy == MEND_FIRST:
                continue  # the check could not go on for a reason that has been told
            unmended |= not examined.mended
            yield examined


def report(fix: bool = False) -> bool:
    """Print the findings; True when nothing is left to do.

    MLflow keeps connections to a database that was put aside for as long as its process lives: a new process does the rest then.
    """
    findings = _print(examine_store(fix))
    usable = all(examined.mended for examined in findings)
    if findings and usable and "mlflow" in sys.modules:
        os.execv(sys.executable, [sys.executable, "-m", "pipeline.cli", "doctor", "--fix"])
    findings += _print(examine_rest(fix, store_usable=usable))
    where = f"MLflow store {mask_credentials(store.tracking_uri())}, DVC's cache, records and locks"
    if not findings:
        print(f"{where}: all well")
    elif fix:
        print("run ctmr doctor once more to see whether all is well now")
    return all(examined.mended for examined in findings)


def _print(examined: Iterator[Examined]) -> list[Examined]:
    findings = []
    for found in examined:
        print(found, flush=True)
        findings.append(found)
    return findings


def _run(check: Check, fix: bool) -> Iterator[Examined]:
    try:
        for finding in check():
            if fix and finding.mend is not None:
                finding.mend()
                yield Examined(finding, mended=True)
            else:
                yield Examined(finding)
    except UserError as error:
        yield Examined(Finding(str(error), MEND_FIRST))
    except OSError as error:  # a check that cannot go on keeps no other from its word
        yield Examined(Finding(describe_os_error(error) or str(error), REFUSED))
