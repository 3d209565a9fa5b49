"""Tests for :mod:`xohook.hook`."""
