"""The MLflow UI on the store in use, and the address in it that shows runs side by side."""

import signal
import sys
from pathlib import Path

from pipeline import paths
from pipeline.errors import UserError, mask_credentials, say
from pipeline.processes import group
from pipeline.tracking import store


def where() -> None:
    """Print where the results of the last run lie and how to look at them."""
    uri = store.tracking_uri()
    print(f"report: {paths.REPORT_HTML}")
    print(f"model card: {paths.MODEL_CARD}")
    print("runs, curves, images and registered models: make ui")
    print("translate: ctmr translate IN OUT, by the champion; after the demo add --model box for real scans")
    if store.is_server(uri):
        print(f"MLflow: {mask_credentials(uri).rstrip('/')}{store.comparison_address(store.experiment_id(uri))}")


def serve_ui(port: int) -> None:
    """Run the MLflow UI until Ctrl-C, with everything that it started. Raises UserError when the store is a server, which has its own."""
    uri = store.tracking_uri()
    address = store.comparison_address(store.experiment_id(uri))
    if store.is_server(uri):
        raise UserError(f"MLFLOW_TRACKING_URI is a server with a UI of its own: open {uri.rstrip('/')}{address}")
    command = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # for one person, not four times 300 MB
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with group(
        command, Path.cwd(), env={"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}, capture=False
    ) as process:
        say(f"compare runs: http://127.0.0.1:{port}{address}  (Ctrl-C stops)")
        try:
            if code := process.wait():
                raise UserError(f"mlflow ui ended with {code}; is port {port} in use? choose another with --port")
        except KeyboardInterrupt:
            print()
