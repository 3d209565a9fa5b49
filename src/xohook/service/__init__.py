"""The whole agent, put together."""
