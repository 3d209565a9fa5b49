"""An agent whose participant counts its runs, and tokens for it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlencode

from tests.integration.agent import Agent


class CountedAgent(Agent):
    """An agent with a participant that tells of each of its runs.

    With a file ``stay`` in its directory the run does not end before that file is removed.
    """

    def configure(self, options: str = "", sections: str = "") -> None:
        """Write the configuration anew; the agent reads it when it starts next.

        :param options: further lines of the ``[xohook]`` section.
        :param sections: further sections.
        """
        self._runs = self.directory / "runs"
        self.stay = self.directory / "stay"
        wait = f"while test -e {self.stay}; do sleep 0.01; done"
        participant = (
            "[command:count]",
            f"freeze = sh -c 'echo freeze >> {self._runs}; {wait}'",
            f"thaw = sh -c 'echo thaw >> {self._runs}; {wait}'",
        )
        super().configure(f"vm = web01\n{options}", "\n".join((*participant, sections)))

    def listen_everywhere(self) -> None:
        """Listen for IPv6 and IPv4 on one socket, from the next start on."""
        directory = self.configuration.with_name(f"{self.configuration.name}.d")
        directory.mkdir()
        (directory / "listen.ini").write_text(f"[xohook]\nlisten = {self.port}\n")

    @property
    def runs(self) -> list[str]:
        """What the participant was told, one after the other."""
        return self._runs.read_text().split() if self._runs.exists() else []

    def query(self, **changes: str) -> str:
        """Write a query string with this agent's token.

        :param changes: fields to add, or to replace in the right ones.
        :return: the query string.
        """
        fields: Mapping[str, str] = {"token": token(self.secret), "vm": "web01", **changes}
        return urlencode(fields)


def token(secret: str, vm: str = "web01") -> str:
    """Derive a token as ``docs/security.rst`` says: HMAC-SHA-256 over the VM's name.

    :param secret: the secret.
    :param vm: the VM's name.
    :return: the token.
    """
    return hmac.new(secret.encode(), vm.encode(), hashlib.sha256).hexdigest()
