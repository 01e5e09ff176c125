"""evaluate: scores with and without truth, pictures, report."""

from pipeline import paths
from pipeline.domain import DIRECTIONS, Interval
from pipeline.stage import running


def main() -> None:
    with running("evaluate") as stage:
        params = stage.params
        from pipeline.dataset import slice_arrays
        from pipeline.evaluation.report import evaluate
        from pipeline.evaluation.volume_pairs import ERROR, find_volume_pairs, score_volume_pairs
        from pipeline.models.folder import load_preprocess
        from pipeline.serving.hounsfield import hounsfield_translations
        from pipeline.sources import packs
        from pipeline.tracking.evaluation_log import log_evaluation

        slice_arrays.verify(params.preprocess)
        slice_arrays.verify(load_preprocess(paths.MODELS), says=paths.MODEL_JSON)

        index = slice_arrays.load_index()
        with packs.unpacked(paths.RAW) as raw:
            pairs = find_volume_pairs(raw, index[index["split"] == "test"])
            volumes = score_volume_pairs(pairs, hounsfield_translations(paths.MODELS)) if pairs else None
        evaluation = evaluate(params.evaluate, volumes=volumes, box=paths.BOX if paths.has_box() else None)
        log_evaluation(evaluation.metrics, evaluation.folder)
        for direction in DIRECTIONS:
            name, error = evaluation.error(direction)
            print(f"{direction}: {name} {error}")
        for direction, scores in evaluation.metrics.get("volumes", {}).items():
            if ERROR in scores["test"]:
                print(f"{direction}: {ERROR} {Interval.from_scores(scores['test'], ERROR)}, {scores['test']['pairs']} whole volumes")
        print(f"see {paths.REPORT_HTML}")


if __name__ == "__main__":
    main()
