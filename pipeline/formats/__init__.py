"""File formats of pictures and volumes: one file a format, all of them in table.py."""
