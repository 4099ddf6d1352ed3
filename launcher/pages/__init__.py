"""Pages for a browser: one file each that loads nothing, for light and dark screens."""
