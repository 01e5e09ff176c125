"""register: put both generators into the MLflow registry and decide on promotion. On its own it fills an empty registry again."""

from pipeline import paths
from pipeline.processes import hold_lock
from pipeline.stage import running


def main() -> None:
    with running("register") as stage, hold_lock(paths.home() / paths.MLRUNS / "register.lock", "registration"):
        from pipeline.tracking.promotion import sentences
        from pipeline.tracking.registration import register

        for direction, registered in register(stage.params).items():
            print(f"{direction.model_name}: {registered}")
            for line in sentences(registered.decision):
                print(f"  {line}")
        print(f"see {paths.MODEL_CARD}")


if __name__ == "__main__":
    main()
