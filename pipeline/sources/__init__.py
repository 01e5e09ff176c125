"""Where slices come from. Each source is one file; table.py lists them."""
