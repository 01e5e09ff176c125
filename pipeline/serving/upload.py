"""The form of an upload: its fields, each known and given once, and its files, which go into a job's folder."""

from pathlib import Path

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from pipeline.errors import UserError, as_one_line
from pipeline.serving.jobs import Job, Jobs

FILES = "files"
FIELDS = ("to", "contrast", "uncertainty", "ct_values")
_SHOWN = 40  # letters of a wrong value that a refusal repeats


class _Parser(MultiPartParser):
    """Files go to the disk early: many uploads at once, each of hundreds of slices, would fill the memory."""

    spool_max_size = 2**14


async def take_upload(request: Request) -> Job:
    """A job with the files of the request's form. Raises UserError, HTTPException, BrokenLimit or OSError; then nothing of it is left."""
    jobs: Jobs = request.app.state.jobs
    form = await _parse(request, jobs.limits.files)
    try:
        files, fields = _files(form), _fields(form)
        if len(files) > jobs.limits.files:
            raise UserError(f"{len(files)} files; at most {jobs.limits.files} are taken at once")
        name = Path(files[0].filename or "upload").name.replace("\0", "").lstrip(".") or "upload"
        with_uncertainty = fields["uncertainty"] == "true"
        job = jobs.new(name, fields["to"], fields["contrast"] or None, with_uncertainty, fields["ct_values"] or "auto")
        try:
            for number, file in enumerate(files):
                with jobs.place(job, number, file.filename or "").open("wb") as copy:
                    while chunk := await file.read(2**20):
                        copy.write(chunk)
        except BaseException:
            jobs.drop(job)
            raise
        return job
    finally:
        await form.close()


async def _parse(request: Request, most_files: int) -> FormData:
    """The request's form. Raises UserError for another kind of body, HTTPException for a damaged form."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UserError(f"no form in the request; send multipart/form-data with the field {FILES}, as curl -F {FILES}=@FILE does")
    try:
        return await _Parser(request.headers, request.stream(), max_files=most_files + 1, max_fields=20).parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    except ValueError:  # a character set that its names are not written in
        raise HTTPException(400, "the form cannot be read; send it as UTF-8") from None


def _files(form: FormData) -> list[UploadFile]:
    """The files of the form. Raises UserError where there are none, and for files in other fields."""
    for name, value in form.multi_items():
        if (name == FILES) != isinstance(value, UploadFile):
            what = "a file" if isinstance(value, UploadFile) else "text"
            raise UserError(f"{what} in the field {_shown(name)}; expected files in {FILES}, text in {', '.join(FIELDS)}")
    files = [file for file in form.getlist(FILES) if isinstance(file, UploadFile)]
    if not files:
        raise UserError(f"no file in the upload; expected the field {FILES}")
    return files


def _fields(form: FormData) -> dict[str, str]:
    """The value of each of FIELDS, "" where it is not given. Raises UserError for unknown and repeated fields, and for unknown words."""
    given = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    fields = dict.fromkeys(FIELDS, "")
    for name, value in given:
        if name not in fields:
            raise UserError(f"field {_shown(name)}: unknown; expected {', '.join((FILES, *FIELDS))}")
        if [other for other, _ in given].count(name) > 1:
            raise UserError(f"field {name}: given more than once")
        fields[name] = _shown(value)
    if fields["uncertainty"] not in ("", "true", "false"):
        raise UserError(f"uncertainty {fields['uncertainty']}: expected true or false")
    return fields


def _shown(text: str) -> str:
    """`text` as a refusal may repeat it: one line, not long."""
    return as_one_line(text[:_SHOWN] + ("…" if len(text) > _SHOWN else ""))
