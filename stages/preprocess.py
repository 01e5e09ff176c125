"""preprocess: heads found, cropped, resized and normalised into arrays; simulated pairs for the teacher."""

from pipeline import atomic, paths
from pipeline.stage import running


def main() -> None:
    with running("preprocess") as stage:
        params, pairs_in = stage.params.preprocess, stage.params.split.pairs_in
        from pipeline.dataset import expectations, prepare_slices, slice_arrays, slices_contract, teacher
        from pipeline.dataset.parquet_files import read_table
        from pipeline.sources import packs

        manifest, split = read_table(paths.MANIFEST, "validate"), read_table(paths.SPLIT, "split")
        slices = manifest.merge(split, on="slice_id", validate="one_to_one")
        with atomic.new_folder(paths.SLICES) as folder:
            slice_arrays.write_preprocessing(folder, params)
            teacher.build(folder, params, meanwhile=expectations.load)  # first, as it takes longer than that import
            with packs.unpacked(paths.RAW) as raw:
                index, stored = prepare_slices.fill(folder, slices, params, raw, meanwhile=expectations.load, pairs_in=pairs_in)
            atomic.write_json(folder / "validation.json", slices_contract.check(folder, index, stored, params, pairs_in))
        print(f"{paths.SLICES}: {len(slices)} slices and {params.teacher_pairs} simulated pairs of {params.pixels}×{params.pixels} pixels")


if __name__ == "__main__":
    main()
