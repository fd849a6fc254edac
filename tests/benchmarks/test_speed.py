"""The speed benchmark names what ran the linear layers beside each of its ratios."""

from __future__ import annotations

from benchmarks import speed


def test_a_cell_shows_its_three_ratios_with_the_kernels_of_both_sides() -> None:
    ratios = {"plain": 1.171, "onednn": 0.918, "as_shipped": 0.741}
    cell = {"models": 3, "prefix": 512, "answer": 256, "fused_over_generate": ratios}
    plain = speed._KERNELS["plain"]
    assert speed._line(cell) == (
        f"3 models, 512 / 256 tokens, fused / generate: 1.17 ({plain} on both sides), "
        f"0.92 (oneDNN on both sides), 0.74 (specfuse with oneDNN / transformers with {plain})"
    )


def test_a_ratio_is_the_median_of_those_measured_in_turns() -> None:
    assert speed._ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0
