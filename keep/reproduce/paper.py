"""What the paper printed: tables 2 to 8 of KEEP (CIKM'22), to be read beside our own figures.

Lifts are as printed, also where they differ from the difference of the printed GAUCs in the last
digit (table 2: all but KEEP).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperRow:
    """One row of a table of the paper."""

    gauc: float
    lift: float
    """Difference to the table's base; 0 for the base itself."""


TITLES: Mapping[str, str] = {
    "2": "Compared systems, CTR prediction",
    "3": "Kinds of knowledge",
    "4": "Pretraining tasks",
    "5": "Downstream tasks, production setting",
    "6": "Amount of pretraining data, production setting",
    "7": "User groups by clicks in the super-domain, production setting",
    "8": "Decomposition and degeneration, production setting",
}
"""What each table is about."""

TABLES = tuple(TITLES)
"""Tables of the paper that have results of methods; table 1 is about its log."""

PAPER: Mapping[str, Mapping[str, PaperRow]] = {
    "2": {
        "Base": PaperRow(0.6310, 0.0),
        "Sample Merging": PaperRow(0.6185, -0.0124),
        "CoNet": PaperRow(0.6336, 0.0027),
        "DARec": PaperRow(0.6341, 0.0032),
        "KEEP-C": PaperRow(0.6348, 0.0039),
        "BERT4Rec": PaperRow(0.6326, 0.0017),
        "S3-Rec": PaperRow(0.6341, 0.0030),
        "KEEP": PaperRow(0.6380, 0.0070),
    },
    "3": {
        "Base": PaperRow(0.6310, 0.0),
        "K_u": PaperRow(0.6332, 0.0022),
        "K_u, K_i": PaperRow(0.6347, 0.0037),
        "K_u, K_i, K_ui": PaperRow(0.6380, 0.0070),
    },
    "4": {
        "Base": PaperRow(0.6310, 0.0),  # not in the table; its lifts are to this one
        "click": PaperRow(0.6368, 0.0058),
        "click, conversion": PaperRow(0.6374, 0.0064),
        "click, conversion, cart": PaperRow(0.6380, 0.0070),
    },
    "5": {
        "CTR Base": PaperRow(0.6661, 0.0),
        "CTR": PaperRow(0.6703, 0.0042),
        "CVR Base": PaperRow(0.7513, 0.0),
        "CVR": PaperRow(0.7549, 0.0036),
        "CART Base": PaperRow(0.6286, 0.0),
        "CART": PaperRow(0.6351, 0.0065),
    },
    "6": {
        "Base": PaperRow(0.6661, 0.0),
        "KEEP (1 month)": PaperRow(0.6667, 0.0006),
        "KEEP (6 months)": PaperRow(0.6679, 0.0018),
        "KEEP (2 years)": PaperRow(0.6703, 0.0042),
    },
    "7": {
        "0-50 Base": PaperRow(0.6573, 0.0),
        "0-50": PaperRow(0.6627, 0.0054),
        "50-150 Base": PaperRow(0.6628, 0.0),
        "50-150": PaperRow(0.6668, 0.0040),
        "150-300 Base": PaperRow(0.6669, 0.0),
        "150-300": PaperRow(0.6703, 0.0034),
        ">300 Base": PaperRow(0.6687, 0.0),
        ">300": PaperRow(0.6718, 0.0031),
    },
    # Printed as differences to KEEP (-0.0012, -0.0020, -0.0005). Here as every other lift, to the
    # production Base of tables 5 and 6, so that 0.0037 / 0.0042 = 88 % is what is kept.
    "8": {
        "Base": PaperRow(0.6661, 0.0),
        "KEEP": PaperRow(0.6703, 0.0042),
        "decomposition": PaperRow(0.6691, 0.0030),
        "degeneration": PaperRow(0.6683, 0.0022),
        "decomposition + degeneration": PaperRow(0.6698, 0.0037),
    },
}
"""Rows by table and name, in the paper's order; tables 5 and 7 hold a base for every row."""
