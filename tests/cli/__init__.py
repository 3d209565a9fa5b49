"""Tests for :mod:`xohook.cli`."""
