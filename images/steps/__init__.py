"""The steps of a build, on the building machine."""
