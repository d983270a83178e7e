"""What people read: our figures beside the paper's."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from keep.reproduce.report import (
    beside_lines,
    gauc_cell,
    interval_cell,
    print_tables,
    report,
    share_cell,
    signed,
)
from tests.keep.reproduce.planted import planted_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return planted_results(tmp_path_factory.mktemp("run"))


def test_cells() -> None:
    assert gauc_cell([0.61, 0.62, 0.63]) == "0.6200 ± 0.0100"
    assert gauc_cell([0.61]) == "0.6100"
    assert gauc_cell([None, None]) == "-"
    assert signed(0.007) == "+0.0070"
    assert interval_cell([-0.001, 0.002]) == "-0.0010 to +0.0020"
    assert interval_cell([None, None]) == "-"
    assert share_cell({"of": "KEEP", "value": 0.876, "interval": [0.8, 0.95]}) == "88% (80% to 95%)"
    assert share_cell({"of": "KEEP", "value": 0.876, "interval": [None, None]}) == "88%"
    assert share_cell(None) == share_cell({"of": "KEEP", "value": None}) == "-"


def line(text: str, start: str) -> list[str]:
    found = next(line for line in text.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_line_has_our_figures_beside_the_papers(results: dict[str, Any]) -> None:
    text = report(results)
    keep = results["tables"]["2"]["rows"][2]
    cells = line(text, "KEEP")
    assert cells[0] == "KEEP"
    assert cells[1] == gauc_cell(keep["gauc"])
    assert cells[2:] == [signed(keep["lift"]), interval_cell(keep["interval"]), "0.6380", "+0.0070"]
    assert line(text, "Base")[2:] == ["-", "-", "0.6310", "-"]
    assert line(text, "Oracle")[4:] == ["-", "-"]


def test_groups_show_their_own_base(results: dict[str, Any]) -> None:
    group = results["tables"]["7"]["rows"][0]
    assert line(report(results), "0-50")[1] == gauc_cell(group["base_gauc"])


def test_shares_comparisons_notes_and_circumstances_are_told(results: dict[str, Any]) -> None:
    text = report(results)
    assert share_cell(results["tables"]["8"]["rows"][2]["share"]) in text
    assert "| KEEP over CoNet |" in text
    assert "- Oracle: the ground truth; one score" in text
    assert "480 of 40 users" in text
    assert "| Base | 1 | 0 | batch 64, lr 1e-07 |" in text
    assert "checksum `abc`" in text
    assert "nan" not in text


def test_every_line_of_a_table_has_as_many_cells_as_its_header(results: dict[str, Any]) -> None:
    width = 0
    for text in report(results).splitlines():
        cells = text.count("|")
        assert not cells or not width or cells == width
        width = cells


def test_the_terminal_shows_every_table(results: dict[str, Any]) -> None:
    out = io.StringIO()
    print_tables(results, Console(file=out, width=200))
    for number in ("2", "6", "7", "8"):
        assert f"Table {number}: " in out.getvalue()
    assert "+0.0070" in out.getvalue()
    share = share_cell(results["tables"]["8"]["rows"][2]["share"])
    assert f"decomposition: {share} of the lift of KEEP" in out.getvalue()


def test_figures_that_do_not_exist_are_dashes(results: dict[str, Any]) -> None:
    base, _, keep, _ = results["tables"]["2"]["rows"]
    nothing: dict[str, Any] = {
        "gauc": [None],
        "lift": None,
        "interval": [None, None],
        "against": {},
    }
    text = report({**results, "tables": {"2": {"rows": [base, {**keep, **nothing}]}}})
    assert line(text, "KEEP")[1:4] == ["-", "-", "-"]


def test_variants_and_arms_are_shown_where_there_are_some(results: dict[str, Any]) -> None:
    assert "tuning day" not in report(results)
    trials = [
        {"method": "variant plug-in add, layer 2", "gauc": gauc, "seed": seed}
        for seed, gauc in ((1001, 0.61), (1002, 0.63))
    ]
    arms = [{"name": "concat", "gauc": [0.6], "lift": -0.01, "interval": [-0.02, 0.01]}]
    text = report({**results, "variants": trials, "arms": arms})
    assert line(text, "plug-in add, layer 2") == ["plug-in add, layer 2", "0.6200 ± 0.0141"]
    assert line(text, "concat") == ["concat", "0.6000", "-0.0100", "-0.0200 to +0.0100"]
    assert "## L: knowledge joins a model that goes on" in beside_lines({"arms": arms}, "L: ")


def test_widths_have_their_bytes_and_what_is_good_enough_stands_out() -> None:
    rows = [
        {
            "dim": dim,
            "category_dim": 3,
            "bytes_per_user": bytes_per_user,
            "gauc": [0.6],
            "lift": 0.01,
            "interval": [0.0, 0.02],
            "share": {"value": 0.9, "interval": [0.8, 1.0]},
            "correlations": {
                "two_tower": {"click": [0.1, 0.2, 0.3, 0.4]},
                "category": {"click": [None] * 4},
            },
        }
        for dim, bytes_per_user in ((64, 728.4), (192, 1200.0))
    ]
    widths = {"base": [0.59], "teacher": [0.61], "rows": rows, "good_enough": 0, "least_loss": 0.1}
    text = "\n\n".join(beside_lines({"widths": widths}))
    assert "(0.6100; Base 0.5900)" in text
    cells = ["0.6000", "+0.0100 (+0.0000 to +0.0200)", "90% (80% to 100%)", "0.300", "-"]
    assert line(text, "**D 64, D_c 3**")[1:] == ["728", *cells]
    assert line(text, "D 192, D_c 3")[1:] == ["1,200", *cells]


def test_plug_ins_stand_beside_the_systems_with_their_trials(results: dict[str, Any]) -> None:
    trial = {"method": "keep, both", "options": {}, "gauc": {"1": 0.6}}
    plug_ins = {"keep, both": {"plug_in_hidden": 32}}
    told = {**results, "plug_ins": plug_ins, "trials": [*results["trials"], trial]}
    assert line(report(told), "keep, both") == ["keep, both", "1", "0", "plug_in_hidden 32"]
