"""train: teacher first, then CycleGAN on unpaired slices."""

from pipeline.errors import user_errors
from pipeline.params import load


def main() -> None:
    with user_errors():
        params = load()
        from pipeline.tracking.runs import start_run, write_run_json
        from pipeline.training.job import train

        train(params, start_run, write_run_json)


if __name__ == "__main__":
    main()
