"""The Prefect flow `retrain`: one task per stage of dvc.yaml, run through DVC; never imports a stage."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, State

from pipeline import paths
from pipeline.retraining.stages import StageFailed, StageResult, order, run_stage
from pipeline.retraining.summary import failure_section, stage_table


@task(task_run_name="{stage}")
def stage_task(stage: str, folder: Path) -> StageResult:
    """Bring one stage up to date; its lines go to the run's log as they come."""
    return run_stage(stage, folder, get_run_logger().info)


@flow(name="retrain")
def retrain(folder: Path | None = None) -> "list[StageResult] | State":
    """Bring the whole graph in `folder` (default: the project around the working folder) up to date.

    Ends as Failed, with the failed stage's own last lines, when a stage fails; the stages after it don't run.
    """
    folder = folder or paths.project_root()
    stages = order(folder)
    results: list[StageResult] = []
    failure: StageFailed | None = None
    try:
        for stage in stages:
            results.append(stage_task(stage, folder))
    except StageFailed as error:
        failure = error
        get_run_logger().error("%s\n%s", error, "\n".join(error.lines))
        raise
    finally:
        text = stage_table(stages, results, failure)
        if failure:
            text += "\n" + failure_section(failure)
        create_markdown_artifact(text, key="retrain-stages", description="What each stage did")
    return Completed(message=_message(results), data=results)


def _message(results: list[StageResult]) -> str:
    ran = [result.stage for result in results if result.outcome == "ran"]
    return f"ran {', '.join(ran)}" if ran else "nothing changed"
