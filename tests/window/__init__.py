"""Tests for :mod:`xohook.window`."""
