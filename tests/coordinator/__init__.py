"""Tests for :mod:`xohook.coordinator`."""
