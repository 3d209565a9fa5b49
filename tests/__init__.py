"""Tests of what needs no other process; ``make test`` runs these and the integration tests."""
