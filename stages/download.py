"""download: bring CT and MR slices from Kaggle, a folder or the phantom into data/raw."""

from pipeline import paths, privacy
from pipeline.errors import user_errors
from pipeline.params import load
from pipeline.sources.table import download


def main() -> None:
    with user_errors():
        privacy.make_salt()
        content = download(load().data)
        print(f"{paths.RAW}: {content}")
        if "layout" in content.facts:
            print(content.facts["layout"])


if __name__ == "__main__":
    main()
