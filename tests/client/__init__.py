"""Tests for :mod:`xohook.client`."""
