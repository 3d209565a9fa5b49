"""Tests for :mod:`xohook.config.recipes`: the data as such."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xohook.config import recipes
from xohook.config.kinds import KINDS
from xohook.config.values import RefusedError

PROJECT = Path(__file__).parents[2]


class RecipeTests(SynchronousTestCase):
    """What every recipe has."""

    def test_known(self) -> None:
        """These recipes there are, each with its page."""
        names = ["docker", "mariadb", "mongodb", "mysql", "postgresql", "redis", "sqlite"]
        self.assertEqual(recipes.known(), names)
        pages = sorted(page.stem for page in (PROJECT / "docs/recipes").glob("*.rst"))
        self.assertEqual(pages, names)

    def test_whole(self) -> None:
        """Each has what its kind needs, and nothing that its kind does not have."""
        needed = {
            "command": {"freeze"},
            "session": {
                *("command", "freeze_input", "freeze_expect", "freeze_refuse"),
                *("thaw_input", "thaw_expect"),
            },
        }
        for recipe in map(recipes.read, recipes.known()):
            given = {entry.option for entry in recipe.entries}
            self.assertLessEqual(needed[recipe.kind], given, recipe.name)
            self.assertLessEqual(given, set(KINDS[recipe.kind].schema.options), recipe.name)

    def test_values(self) -> None:
        """Each value is one that a section could have; users are the machine's own matter."""
        for recipe in map(recipes.read, recipes.known()):
            options = KINDS[recipe.kind].schema.options
            for entry in recipe.entries:
                if entry.option == "user":
                    continue
                try:
                    options[entry.option].convert(entry.value)
                except RefusedError as refused:
                    self.fail(f"{recipe.name}: {entry.option}: {refused.problem}")

    def test_check(self) -> None:
        """Each can be tried in the way of its kind."""
        for recipe in map(recipes.read, recipes.known()):
            expected = {"command"} if recipe.kind == "command" else {"input", "expect"}
            self.assertEqual(set(recipe.check), expected | {"needs"}, recipe.name)
