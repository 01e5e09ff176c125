"""look: what the source holds now, so that new and withdrawn files are seen. DVC runs it every time, so it imports little."""

import sys

import yaml

from pipeline import atomic, paths
from pipeline.dvc_cache import sweep_run_cache
from pipeline.errors import UserError, user_errors


def _read_data() -> dict[str, str]:
    """The section data of params.yaml, words as they stand in the file: whether they are valid is for the download stage to say."""
    try:
        data: dict[str, str] = yaml.load(paths.PARAMS.read_text(encoding="utf-8"), yaml.CBaseLoader)["data"]
        return {key: data[key] for key in ("source", "folder", "url")}
    except (UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{paths.PARAMS}: data.source, data.folder and data.url cannot be read ({reason}); see ctmr doctor") from None


def main() -> None:
    with user_errors():
        atomic.sweep(*paths.WRITTEN_IN)  # where DVC brings outputs back, no stage does
        sweep_run_cache()
        data = _read_data()
        content = {"source": data["source"]}  # of the phantom and of a pinned version at Kaggle, params say everything
        if data["source"] == "folder":
            from pipeline.sources.content import digest

            try:
                content["sha256"] = digest(paths.as_given(data["folder"]))
            except FileNotFoundError:
                if not paths.CONTENT.is_file() or not paths.RAW.is_dir():
                    raise UserError(
                        f"data.folder = {data['folder']}: not found; give a directory or archive, relative to the project or absolute"
                    ) from None
                print(f"warning: data.folder = {data['folder']}: not found; going on with the data that was downloaded", file=sys.stderr)
                return
        if data["source"] == "url":
            from pipeline.sources.storage import listing_digest

            try:
                content["listing"] = listing_digest(data["url"])
            except UserError as error:
                if not error.retryable or not paths.CONTENT.is_file() or not paths.RAW.is_dir():
                    raise
                print(f"warning: {error}; going on with the data that was downloaded", file=sys.stderr)
                return
        atomic.write_json(paths.CONTENT, content)


if __name__ == "__main__":
    main()
