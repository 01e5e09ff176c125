"""evaluate: scores with and without truth, pictures, report."""

from pipeline import paths
from pipeline.errors import user_errors
from pipeline.params import load


def main() -> None:
    with user_errors():
        params = load()
        from pipeline.dataset import slice_arrays
        from pipeline.evaluation.job import evaluate
        from pipeline.models.bundle import load_preprocess

        slice_arrays.verify(params.preprocess)
        slice_arrays.verify(load_preprocess(paths.MODELS), says=paths.MODEL_JSON)

        for direction, scores in evaluate(params.evaluate)["test"].items():
            name = "mae" if "mae" in scores else "cycle_mae"
            print(f"{direction}: {name} {scores[name]:.3f} [{scores[f'{name}_low']:.3f}, {scores[f'{name}_high']:.3f}]")
        print(f"see {paths.REPORT_HTML}")


if __name__ == "__main__":
    main()
