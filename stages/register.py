"""register: put both generators into the MLflow registry and decide on promotion. On its own it fills an empty registry again."""

from pipeline import paths
from pipeline.errors import user_errors
from pipeline.params import load


def main() -> None:
    with user_errors():
        from pipeline.tracking.promotion import sentences
        from pipeline.tracking.registration import register

        for direction, registered in register(load()).items():
            print(f"{direction.model_name}: {registered}")
            for line in sentences(registered.decision):
                print(f"  {line}")
        print(f"see {paths.MODEL_CARD}")


if __name__ == "__main__":
    main()
