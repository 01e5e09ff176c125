"""evaluate: scores with and without truth, pictures, report."""

from pipeline import paths
from pipeline.domain import DIRECTIONS
from pipeline.stage import running


def main() -> None:
    with running("evaluate") as stage:
        params = stage.params
        from pipeline.dataset import slice_arrays
        from pipeline.evaluation.report import evaluate
        from pipeline.models.inference import load_preprocess
        from pipeline.tracking.evaluation_log import log_evaluation

        slice_arrays.verify(params.preprocess)
        slice_arrays.verify(load_preprocess(paths.MODELS), says=paths.MODEL_JSON)
        evaluation = evaluate(params.evaluate)
        log_evaluation(evaluation.metrics, evaluation.folder)
        for direction in DIRECTIONS:
            name, error = evaluation.error(direction)
            print(f"{direction}: {name} {error}")
        print(f"see {paths.REPORT_HTML}")


if __name__ == "__main__":
    main()
