"""One slice: read it, find the head, bring its intensities to a common scale, and undo all of it."""
