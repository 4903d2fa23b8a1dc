"""Runners as bubblewrap sandboxes on this machine: no root, no image, no cluster needed."""
