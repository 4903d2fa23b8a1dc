"""Policy over time: what was decided on what, what another bundle would have decided, and where a bundle came from."""
