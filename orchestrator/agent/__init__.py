"""What runs inside a runner. Standard library only: nothing of the daemon's comes along."""
