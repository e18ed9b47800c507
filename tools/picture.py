"""Draw the README's picture: the loop as boxes, and what it did, read from the README's own table.

python tools/picture.py      # writes docs/images/overview.svg
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 1000, 330
INK, SOFT, LINE, BLUE, PALE, ORANGE = "#1f2937", "#6b7280", "#9ca3af", "#3f51b5", "#eef0fb", "#c2410c"
BOXES = {
    "problems": (24, 118, ("problems", "JSONL, answers")),
    "sample": (160, 40, ("sample", "vLLM, searches")),
    "grade": (330, 40, ("grade", "grader, sandbox")),
    "score": (500, 40, ("score", "PRM, PPM, rules")),
    "select": (500, 196, ("select", "top-k, pairs, trees")),
    "train": (330, 196, ("train", "SFT, DPO, RL, RM")),
    "policy": (160, 196, ("policy", "any causal LM")),
}
BOX = (132, 62)
ARROWS = (
    ("problems", "sample"),
    ("sample", "grade"),
    ("grade", "score"),
    ("score", "select"),
    ("select", "train"),
    ("train", "policy"),
    ("policy", "sample"),
)


def read_table() -> tuple[list[tuple[float, float, float]], float]:
    """Accuracy with its interval of SFT and the iterations of B-STaR, and the control's accuracy, in per cent."""
    rows = re.findall(
        r"^\| (SFT|B-STaR, iteration \d|more SFT, as many steps) \| ([\d.]+)% \| ([\d.]+)% to ([\d.]+)%",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    curve = [(float(value), float(low), float(high)) for name, value, low, high in rows if not name.startswith("more")]
    return curve, next(float(value) for name, value, _, _ in rows if name.startswith("more"))


def text(x: float, y: float, words: str, size: int = 13, color: str = INK, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" {more}>{words}</text>'


def boxes() -> list[str]:
    """The loop."""
    parts = []
    for x, y, (name, detail) in BOXES.values():
        parts.append(f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="9" fill="{PALE}" stroke="{BLUE}"/>')
        middle = x + BOX[0] / 2
        parts.append(text(middle, y + 27, name, 16, INK, 'text-anchor="middle" font-weight="600"'))
        parts.append(text(middle, y + 47, detail, 12, SOFT, 'text-anchor="middle"'))
    for source, target in ARROWS:
        (x1, y1, _), (x2, y2, _) = BOXES[source], BOXES[target]
        if source == "problems":
            path = f"M{x1 + BOX[0] / 2:g} {y1} V{y2 + BOX[1] / 2:g} H{x2 - 3}"
        elif y1 == y2:
            a, b = (x1 + BOX[0], x2 - 3) if x2 > x1 else (x1, x2 + BOX[0] + 3)
            path = f"M{a} {y1 + BOX[1] / 2:g} H{b}"
        else:
            a, b = (y1 + BOX[1], y2 - 3) if y2 > y1 else (y1, y2 + BOX[1] + 3)
            path = f"M{x1 + BOX[0] / 2:g} {a} V{b}"
        parts.append(f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.6" marker-end="url(#tip)"/>')
    parts.append(text(396, 140, "an epoch is an iteration;", 13, SOFT, 'text-anchor="middle"'))
    parts.append(text(396, 158, "between the stages lie files", 13, SOFT, 'text-anchor="middle"'))
    parts.append(
        text(330, 300, "Every box is a choice in a config, or a class of yours.", 14, INK, 'text-anchor="middle"')
    )
    return parts


def chart() -> list[str]:
    """Held-out accuracy by iteration, with intervals."""
    curve, control = read_table()
    left, right, top, bottom, low, high = 716, 972, 62, 262, 35.0, 75.0

    def y(value: float) -> float:
        return round(bottom - (value - low) / (high - low) * (bottom - top), 1)

    xs = [left + 22 + i * (right - left - 44) / (len(curve) - 1) for i in range(len(curve))]
    parts = [text(left - 28, 34, "make demo: held-out accuracy, %", 14, INK, 'font-weight="600"')]
    for tick in (40, 50, 60, 70):
        parts.append(f'<path d="M{left} {y(tick)} H{right}" stroke="#e5e7eb"/>')
        parts.append(text(left - 8, y(tick) + 4, str(tick), 12, SOFT, 'text-anchor="end"'))
    parts.append(
        f'<path d="M{xs[0]:g} {y(control)} H{xs[-1]:g}" stroke="{ORANGE}" stroke-dasharray="5 4" fill="none"/>'
    )
    note = f"as many steps of SFT: {control:g}"
    parts.append(text(xs[-1], y(control) + 18, note, 12, ORANGE, 'text-anchor="end"'))
    line = " L".join(f"{x:g} {y(value)}" for x, (value, _, _) in zip(xs, curve, strict=True))
    parts.append(f'<path d="M{line}" fill="none" stroke="{BLUE}" stroke-width="2.5"/>')
    for i, (x, (value, least, most)) in enumerate(zip(xs, curve, strict=True)):
        parts.append(f'<path d="M{x:g} {y(least)} V{y(most)}" stroke="{BLUE}" stroke-width="1.4"/>')
        parts.append(f'<circle cx="{x:g}" cy="{y(value)}" r="4.5" fill="{BLUE}"/>')
        parts.append(text(x + 9, y(value) + 17, f"{value:g}", 12, INK))
        parts.append(text(x, bottom + 20, str(i) if i else "SFT", 12, SOFT, 'text-anchor="middle"'))
    parts.append(
        text((left + right) / 2, bottom + 40, "iteration of B-STaR, 95 % intervals", 12, SOFT, 'text-anchor="middle"')
    )
    return parts


def main() -> None:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" role="img"><title>The loop, and what it did</title>'
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 Z" fill="{INK}"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="#ffffff"/>'
        f'<path d="M652 24 V306" stroke="#e5e7eb"/>'
    )
    path = ROOT / "docs/images/overview.svg"
    path.write_text("\n".join([head, *boxes(), *chart(), "</svg>"]) + "\n")
    print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
