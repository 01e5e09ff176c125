"""train: teacher first, then CycleGAN on unpaired slices."""

from pipeline.stage import running


def main() -> None:
    with running("train", saves=True) as stage:
        from pipeline.tracking.runs import start_run, write_run_json
        from pipeline.training.job import train

        train(stage.params, stage.stop, start_run, write_run_json)


if __name__ == "__main__":
    main()
