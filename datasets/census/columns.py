"""What a row of UCI's Census-Income (KDD) looks like, raw and encoded.

The raw files have 42 comma-separated fields and no header; an encoded row has the 501 columns
named in ``columns.txt``: the two labels, the numeric fields in file order, then one 0/1 column
per category (``class_worker=Private``). That file is the fixed list of categories, so that every
part of the data set is encoded alike, whichever categories occur in it.

Source: *Census-Income (KDD)*, UCI Machine Learning Repository, data set 117, CC BY 4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

COLUMNS_FILE = Path(__file__).with_name("columns.txt")

# Raw file names and the number of rows UCI gives for each.
UCI_ROWS = {"census-income.data": 199_523, "census-income.test": 99_762}

RAW_FIELDS = (
    "age class_worker det_ind_code det_occ_code education wage_per_hour hs_college marital_stat "
    "major_ind_code major_occ_code race hisp_origin sex union_member unemp_reason "
    "full_or_part_emp capital_gains capital_losses stock_dividends tax_filer_stat "
    "region_prev_res state_prev_res det_hh_fam_stat det_hh_summ instance_weight mig_chg_msa "
    "mig_chg_reg mig_move_reg mig_same mig_prev_sunbelt num_emp fam_under_18 country_father "
    "country_mother country_self citizenship own_or_self vet_question vet_benefits weeks_worked "
    "year income_50k"
).split()

# The two fields that become labels: (category that counts as 1, all the others).
LABELS = {
    "marital_stat": (
        "Never married",
        "Divorced",
        "Married-A F spouse present",
        "Married-civilian spouse present",
        "Married-spouse absent",
        "Separated",
        "Widowed",
    ),
    "income_50k": ("50000+.", "- 50000."),
}


class PrepareError(Exception):
    """The data set cannot be prepared; the message is one sentence for the user.

    Attributes:
        status: exit status of the process.
    """

    status = 1


class InputError(PrepareError):
    """The given rows are not as expected."""

    status = 2


@dataclass(frozen=True)
class Columns:
    """The encoded columns, and how the raw fields map onto them.

    Attributes:
        names: all columns in output order: labels, numeric fields, one-hot columns.
        numeric: the raw fields that are copied as numbers, in output order.
        categories: raw field to its categories (white space stripped); labels included.
        onehot: the raw fields that are one column per category, in output order.
    """

    names: tuple[str, ...]
    numeric: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    onehot: tuple[str, ...]


def read_columns() -> Columns:
    """Reads the fixed list of columns, `COLUMNS_FILE`.

    Returns:
        The columns in file order.
    """
    names = tuple(COLUMNS_FILE.read_text(encoding="utf-8").splitlines())
    categories = dict(LABELS)
    for name in names:
        field, is_onehot, category = name.partition("=")
        if is_onehot:
            categories[field] = (*categories.get(field, ()), category)
    numeric = tuple(name for name in names if "=" not in name and name not in LABELS)
    onehot = tuple(field for field in categories if field not in LABELS)
    return Columns(names, numeric, categories, onehot)
