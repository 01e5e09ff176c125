"""Has the source new data? `python -m pipeline.sources SOURCE_JSON`, in the project's folder; the argument is that of the data in use.

Prints News as one line of JSON: {"new": bool, "sentence": text, "settings": {param: value}}. A process of its own: a retraining looks
with the code of its workspace, not with its own.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline.errors import user_errors
from pipeline.params import load
from pipeline.sources import provenance
from pipeline.sources.table import look

if __name__ == "__main__":
    with user_errors():
        print(json.dumps(asdict(look(load().data, provenance.read(Path(sys.argv[1]))))))
