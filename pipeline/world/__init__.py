"""The micro-world: a drawn and captioned data set that the embedded default needs instead of downloads."""
