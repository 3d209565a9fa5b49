"""Measures the agent beside what others have for the same: ``python -m bench``."""
