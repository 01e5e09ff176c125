"""The seven stages of dvc.yaml, one file each."""
