"""The seven stages of dvc.yaml, one file each."""

import gc

gc.set_threshold(100_000, 50, 50)  # imports make a million objects that stay; looking through them for garbage is a fifth of their time
