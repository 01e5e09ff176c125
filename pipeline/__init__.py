"""Translate brain CT slices into MR slices and back, learned from unpaired images.

Importing this package switches off the usage statistics of every tool that the project drives, before any of them is imported.
"""

import os

for _switch, _value in {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}.items():
    os.environ.setdefault(_switch, _value)
