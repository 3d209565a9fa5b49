"""Tests for :mod:`xohook.host`."""
