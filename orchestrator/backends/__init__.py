"""Where runners live."""
