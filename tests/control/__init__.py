"""Tests for :mod:`xohook.control`."""
