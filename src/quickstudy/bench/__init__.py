"""Published tables, reproduced: recipes for each cell, the papers' protocols, and a verdict beside each figure."""

from quickstudy.bench.running import Bench
from quickstudy.bench.tables import TABLES, Table, read_table
from quickstudy.bench.writing import as_latex, as_markdown, verdict

__all__ = ["TABLES", "Bench", "Table", "as_latex", "as_markdown", "read_table", "verdict"]
