"""What must not be kept is found in text and replaced. Pure: no files, no clock, no settings."""
