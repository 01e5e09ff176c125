"""validate: list every image, quarantine the unfit with a reason, check expectations."""

import shutil

from pipeline import atomic, paths, privacy
from pipeline.errors import UserError
from pipeline.stage import running


def main() -> None:
    with running("validate") as stage:
        from pipeline.dataset import expectations, manifest, manifest_contract, quality, quality_report
        from pipeline.sources import packs, pairs, provenance

        privacy.make_salt()
        params = stage.params.quality
        with packs.unpacked(paths.RAW) as raw:
            judged = quality.judge(manifest.build(raw, meanwhile=expectations.load), params)
            reference = quality_report.read_reference(params.drift_reference)
            results = manifest_contract.check(judged, pairs.read(raw), provenance.read(), params, reference)
            broken = expectations.failed(results)
            if broken:
                with atomic.new_folder(paths.QUALITY_FAILED) as folder:
                    quality_report.write(folder, judged, results, raw)
                raise UserError(quality.complaint(judged, params, broken))
            with atomic.new_folder(paths.QUALITY_REPORT) as folder, atomic.new_file(paths.MANIFEST) as file:
                quality_report.write(folder, judged, results, raw)
                drifted = quality_report.write_drift(folder, judged, reference, params.drift_reference)
                judged.to_parquet(file, index=False)
        shutil.rmtree(paths.QUALITY_FAILED, ignore_errors=True)
        for modality, share in quality.shares(judged).items():
            print(f"{modality.upper()}: {(judged['modality'] == modality).sum()} slices, {share:.1%} quarantined")
        if drifted:
            print(f"the data has drifted from {params.drift_reference}; see {paths.QUALITY_REPORT}/drift.html")
        print(f"see {paths.QUALITY_REPORT}/index.html")


if __name__ == "__main__":
    main()
