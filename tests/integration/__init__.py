"""Tests against real sockets, processes and files, and what they share."""
