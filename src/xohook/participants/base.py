"""What every participant has from its section of the configuration."""

from __future__ import annotations

from xohook.config.settings import CommonSettings


class Configured:
    """A participant that a section makes.

    :param settings: the section.
    """

    def __init__(self, settings: CommonSettings) -> None:
        self.name = settings.name
        self.order = settings.order
        self.freeze_timeout = settings.freeze_timeout
        self.thaw_timeout = settings.thaw_timeout
        self.abort = settings.abort
