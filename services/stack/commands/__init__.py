"""The commands of `sampan`, one file for each group."""
