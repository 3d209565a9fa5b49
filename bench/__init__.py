"""Measures the agent beside the example server of Xen Orchestra's page: ``python -m bench``."""
