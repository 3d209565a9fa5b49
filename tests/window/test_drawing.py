"""The drawing of the state machine."""

from __future__ import annotations

import runpy
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

DOCS = Path(__file__).parents[2] / "docs"


class DrawingTests(SynchronousTestCase):
    """What ``docs/draw_window.py`` has drawn."""

    def test_is_the_machine(self) -> None:
        """The drawing in ``docs`` is what the machine gives now."""
        drawn = runpy.run_path(str(DOCS / "draw_window.py"))["draw"]()
        self.assertEqual(
            (DOCS / "window.dot").read_text(),
            drawn,
            "the machine has changed: run python docs/draw_window.py",
        )

    def test_picture(self) -> None:
        """The picture beside it shows the same states and transitions."""
        drawing = (DOCS / "window.dot").read_text()
        # The file is this project's own, and nobody else's text.
        picture = ElementTree.parse(DOCS / "window.svg")  # noqa: S314
        titles = {
            group.findtext("{*}title")
            for group in picture.iterfind(".//{*}g")
            if group.get("class") in ("node", "edge")
        }
        told = {
            line.split(" [")[0].strip().rstrip(";").replace(" -> ", "->")
            for line in drawing.splitlines()[4:-1]
        }
        self.assertEqual(titles, told)
