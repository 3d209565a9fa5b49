"""Facts about this machine: mounts, directories, users, addresses, processes, systemd."""
