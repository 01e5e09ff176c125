"""Many slices: manifest, quality checks, splits without leaks, memory-mapped stores."""
