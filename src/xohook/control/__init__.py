"""The control socket: JSON-RPC, connections, methods, registered apps."""
