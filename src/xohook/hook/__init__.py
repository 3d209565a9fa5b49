"""The hook over HTTPS: resources, listeners, limits, authentication, certificates."""
