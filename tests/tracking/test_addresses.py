"""Where MLflow's addresses lead that we print: a browser that never saw MLflow shows its pages for models, with the scores."""

import shutil
from pathlib import Path

import pytest

from pipeline import params
from pipeline.tracking import store
from pipeline.tracking.runs import begin
from tests.tracking import projects
from tests.tracking.servers import mlflow_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_a_fresh_browser_sees_runs_side_by_side_and_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from playwright.sync_api import expect, sync_playwright

    monkeypatch.chdir(projects.make(tmp_path / "project", with_store=True))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = begin(params.load())
    run.log_metrics({"mae/ct_to_mr": 0.125})
    run.finish()
    (tmp_path / "served").mkdir()
    with mlflow_server(run.uri, tmp_path / "served") as server, sync_playwright() as playwright:
        for address in (store.comparison_address(run.experiment), store.run_address(run.experiment, run.id)):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)  # each with a profile of its own, empty
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(f"{server}{address}")
            expect(page.get_by_text("mae/ct_to_mr").first).to_be_visible(timeout=90_000)
            expect(page.get_by_text("Model registry").first).to_be_visible()  # in the menu for models only
            expect(page.get_by_text("Evaluation runs")).to_have_count(0)  # in the menu for language models only
            browser.close()
