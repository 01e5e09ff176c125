"""download: bring CT and MR slices from Kaggle, a folder or the phantom into data/raw."""

from pipeline import paths, sources
from pipeline.errors import user_errors
from pipeline.params import load


def main() -> None:
    with user_errors():
        source = sources.download(load().data)
        counts = source["counts"]
        print(f"{paths.RAW}: {counts['ct']} CT and {counts['mr']} MR files from {sources.describe(source)}")


if __name__ == "__main__":
    main()
