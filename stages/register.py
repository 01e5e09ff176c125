"""register: put both generators into the MLflow registry and decide on promotion. On its own it fills an empty registry again."""

from pipeline import paths
from pipeline.errors import user_errors
from pipeline.params import load


def main() -> None:
    with user_errors():
        from pipeline.tracking import registry
        from pipeline.tracking.registration import register

        params = load()
        for direction, decision in register(params.register_, params.evaluate).items():
            print(f"{registry.NAMES[direction]}: {'champion' if decision.promoted else 'challenger, not promoted'}")
            for reason in decision.reasons:
                print(f"  {reason}")
        print(f"see {paths.MODEL_CARD}")


if __name__ == "__main__":
    main()
