"""Runs window after window and watches what the agent takes up: ``python -m soak``."""
