"""Draws the state machine of windows from itself: ``python docs/draw_window.py``.

It writes ``window.dot`` beside itself, and ``window.svg`` with Graphviz's ``dot``. An input whose
transition leads back to the same state stands within that state.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from pathlib import Path

from xohook.window.machine import new_machine

DOT = Path(__file__).with_name("window.dot")
"""The drawing, as Graphviz reads it."""

_BEGINNING = """digraph windows {
    graph [fontname="sans-serif", nodesep=0.7, ranksep=0.9];
    node [fontname="sans-serif", fontsize=11, shape=box, style=rounded, margin="0.2,0.1"];
    edge [fontname="sans-serif", fontsize=10, arrowsize=0.7];
"""


def draw() -> str:
    """Draw the machine as it is.

    :return: the text of :data:`DOT`.
    """
    automaton = new_machine.__automat_automaton__
    ways: dict[tuple[str, str], list[str]] = defaultdict(list)
    for old, label, new, _ in automaton.allTransitions():
        ways[old.name, new.name].append(label.lstrip("_"))
    start = automaton.initialState.name
    lines = [
        '    start [label="", shape=circle, width=0.15, style=filled, fillcolor=black];',
        f"    start -> {start};",
    ]
    others = sorted({state.name for state in automaton.states()} - {start})
    for name in (start, *others):
        inside = ", ".join(sorted(ways.pop((name, name), [])))
        lines.append(
            f'    {name} [label=<<b>{name}</b><br/><font point-size="9">{inside}</font>>];'
        )
    for (old_name, new_name), labels in sorted(ways.items()):
        label = r"\n".join(sorted(labels))
        lines.append(f'    {old_name} -> {new_name} [label="{label}"];')
    return _BEGINNING + "\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    DOT.write_text(draw())
    picture = DOT.with_suffix(".svg")
    # Nothing here comes from others, and Graphviz is where its distribution puts it.
    subprocess.run(["dot", "-Tsvg", "-o", picture, DOT], check=True)  # noqa: S603, S607
