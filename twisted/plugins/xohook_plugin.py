"""Makes ``twistd xohook`` known to twistd."""

from twisted.application.service import ServiceMaker

xohook = ServiceMaker(
    "xohook",
    "xohook.tap",
    "The snapshot agent for Linux VMs that Xen Orchestra backs up.",
    "xohook",
)
