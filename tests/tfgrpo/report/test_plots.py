from __future__ import annotations

from pathlib import Path

from tfgrpo.report.plots import STYLES, pass_at_k_figure, styles_of
from tfgrpo.types import Estimate


def test_known_arms_look_alike_everywhere_and_no_two_arms_of_a_figure_do() -> None:
    names = ["value", "base", "library", "both", "learned", "drawn", "similarity"]
    styles = styles_of(names)
    assert (styles["base"], styles["learned"]) == (STYLES["base"], STYLES["learned"])
    assert len(set(styles.values())) == len(names)
    assert styles_of(["a", "b"])["a"] == styles_of(["a"])["a"]


def test_a_figure_is_equal_byte_for_byte_each_time_it_is_drawn(tmp_path: Path) -> None:
    curve = {k: Estimate(v, v - 0.1, v + 0.05, 9, "bootstrap") for k, v in ((1, 0.4), (8, 0.9))}
    for name in ("first", "second"):
        paths = [tmp_path / f"{name}.png", tmp_path / f"{name}.svg"]
        pass_at_k_figure({"base": curve, "cases": curve}, "caption", paths)
    for kind in ("png", "svg"):
        first, second = (tmp_path / f"{name}.{kind}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    text = (tmp_path / "first.svg").read_text(encoding="utf-8")
    assert "<!-- base -->" in text
    assert "<!-- cases -->" in text
