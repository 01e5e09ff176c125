"""split: train, val and test by groups, so that no duplicate crosses."""

from pipeline import atomic, paths
from pipeline.stage import running


def main() -> None:
    with running("split") as stage:
        params = stage.params
        from pipeline.dataset import split as splitting
        from pipeline.dataset.parquet_files import read_table
        from pipeline.sources import provenance

        manifest = splitting.choose_usable(read_table(paths.MANIFEST, "validate"), params.data.mr_contrast)
        assigned = splitting.assign(manifest, params.split, earlier=splitting.read_earlier(paths.SPLIT, params.split))
        source = provenance.read()
        report = splitting.summarise(manifest, assigned, params.split, source.facts.get("layout", "") if source else "")
        with atomic.new_file(paths.SPLIT) as file:
            splitting.write(file, manifest, assigned, params.split)
            atomic.write_json(paths.SPLIT_JSON, report)
        print(report["patients"]["understood"])
        for name, counts in report["slices"].items():
            paired = f", {report['pairs'][name]} registered pairs among them" if report["pairs"][name] else ""
            print(f"{name}: {counts['ct']} CT and {counts['mr']} MR slices{paired}")


if __name__ == "__main__":
    main()
