"""A configuration for tests of what reads one."""

from __future__ import annotations

from pathlib import Path

from xohook.config.settings import Settings


def settings_in(directory: Path) -> Settings:
    """Give the configuration that an empty file amounts to, with all directories in one place.

    :param directory: where the agent keeps everything; the state directory is made.
    :return: the configuration; :func:`attrs.evolve` makes others of it.
    """
    state = directory / "state"
    state.mkdir(mode=0o700, parents=True)
    return Settings(
        path=directory / "xohook.ini",
        listen=("1727",),
        certificate=None,
        private_key=None,
        secret_file=None,
        token_file=None,
        authenticate=frozenset({"bearer", "token"}),
        allow_from=(),
        vm=None,
        freeze_budget=50.0,
        hold_limit=120.0,
        state_directory=state,
        runtime_directory=directory / "run",
        control=directory / "run" / "control.sock",
        control_group=None,
        participants=(),
        apps=(),
    )
