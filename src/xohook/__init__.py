"""xohook: the snapshot agent for Linux VMs that Xen Orchestra backs up."""

__version__ = "0.1.0.dev0"
