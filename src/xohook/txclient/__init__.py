"""Lets a Twisted application take part in snapshots: :mod:`xohook.client` with Deferreds.

::

    from twisted.internet import reactor
    from xohook.txclient import Registration

    registration = Registration(reactor, "orders", freeze=freeze, thaw=thaw)
    registration.setServiceParent(application)

The callbacks get a :class:`~xohook.client.Freeze` and a :class:`~xohook.client.Thaw`. They return a
value, a Deferred or a coroutine. In place of the two parameters, ``@registration.freeze`` and
``@registration.thaw`` decorate them. The log lines of :mod:`xohook.client` go to Twisted's logger
here, in the namespace ``xohook.txclient``.
"""

from __future__ import annotations

from xohook.client.tx import Registration

__all__ = ["Registration"]
