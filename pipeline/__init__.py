"""Translate brain CT slices into MR slices and back, learned from unpaired images.

Importing this package switches off the usage statistics of every tool that the project drives, before any of them is imported. A Ctrl-C
that comes while a command still imports what it needs ends it in a line, not in a traceback.
"""

import os
import sys
from types import TracebackType

for _switch, _value in {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime would ask for its maker's host from the first network on
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}.items():
    os.environ.setdefault(_switch, _value)

_report = sys.excepthook


def _end_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        _report(kind, error, trace)


sys.excepthook = _end_quietly
