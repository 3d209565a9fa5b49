"""Tests for :mod:`xohook.config`."""
