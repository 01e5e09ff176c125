"""split: train, val and test by groups, so that no duplicate crosses."""

from pipeline import atomic, paths
from pipeline.dataset import split as splitting
from pipeline.errors import user_errors
from pipeline.params import load
from pipeline.sources import provenance


def main() -> None:
    with user_errors():
        everything = load()
        params = everything.split
        import pandas as pd

        manifest = splitting.usable(pd.read_parquet(paths.MANIFEST), everything.data.mr_contrast)
        assigned = splitting.assign(manifest, params, earlier=splitting.read_earlier(paths.SPLIT, params))
        source = provenance.read()
        report = splitting.summary(manifest, assigned, params, source.facts.get("layout", "") if source else "")
        with atomic.new_file(paths.SPLIT) as file:
            splitting.write(file, manifest, assigned, params)
            atomic.write_json(paths.SPLIT_JSON, report)
        print(report["patients"]["understood"])
        for name, counts in report["slices"].items():
            print(f"{name}: {counts['ct']} CT and {counts['mr']} MR slices")


if __name__ == "__main__":
    main()
