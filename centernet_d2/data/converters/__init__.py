"""Foreign annotation formats, one file each."""
