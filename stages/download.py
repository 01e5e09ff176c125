"""download: bring CT and MR slices from Kaggle, a folder or the phantom into data/raw."""

from pipeline import paths, privacy
from pipeline.stage import running


def main() -> None:
    with running("download") as stage:
        from pipeline.sources.table import download

        privacy.make_salt()
        content = download(stage.params.data, in_packs=True)
        print(f"{paths.RAW}: {content}")
        if "layout" in content.facts:
            print(content.facts["layout"])


if __name__ == "__main__":
    main()
