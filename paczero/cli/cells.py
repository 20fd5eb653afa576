"""Cells of a table that do no harm where it is opened.

>>> harmless("=HYPERLINK(1)"), harmless("fine")
("'=HYPERLINK(1)", 'fine')
"""

# A spreadsheet takes a cell that begins so for a formula; what a stranger wrote must not run there.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) else cell
