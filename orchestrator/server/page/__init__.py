"""The live page: its files, who may look and act there, and what it is told of jobs as they go."""
