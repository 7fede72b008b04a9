"""The keys of this project with their defaults, one file for each part of the config."""
