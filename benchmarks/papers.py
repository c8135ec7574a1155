"""The published tables, as far as they were reproduced here, and the page of the docs that shows them.

    python benchmarks/papers.py omniglot --root data --out runs/bench     # goes on where it was, hours
    python benchmarks/papers.py snell2017 --root data --only "Prototypical Networks" --show   # keeps what there is
    python benchmarks/papers.py --page                                    # writes docs/papers.md

``results/papers_TABLE.json`` has of each cell what ``quickstudy bench`` measured; a cell that never ran is not there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import record

from quickstudy.bench import TABLES, Bench, as_markdown, read_table

PAGE = Path(__file__).parent.parent / "docs" / "papers.md"
_HEAD = """# Published tables

`quickstudy bench TABLE` trains the cells of a published table by recipes, tests them by the paper's protocol, and says
of each whether it lies above, within or below the published 95% interval (within its own, where none was published).

```console
quickstudy bench omniglot --quick                      # minutes: a smoke test, its figures mean nothing
quickstudy bench snell2017 --only "Prototypical Networks" --root data/
quickstudy bench lee2019 --algorithm my_file.py:MyAlgorithm   # a row more: an algorithm of your own
```

The same command goes on where it was, after any interruption. `--seeds 0 1 2` trains each network three times,
`--jobs 2` runs two side by side, `--latex table.tex` writes the table for a paper. Every cell leaves a folder that
`quickstudy verify` can check. The recipes are configurations of `quickstudy fit`, which tables share; checkpoints are
chosen by the validation classes alone, and all seeds are tested on the same episodes.

Below is what ran so far. "Classes" is the interval for other classes of the kind, where there is one; a cell that never
ran reads "not run". This page is made by `python benchmarks/papers.py --page` of `benchmarks/results/papers_*.json`,
which have the commands, the hardware, the memory and the time of each.
"""


def page() -> str:
    """Return the page of the docs."""
    parts = [_HEAD]
    for name in TABLES:
        figures = kept(name).get("cells", {})
        parts.append(f"## {name}\n\n{as_markdown(read_table(name), figures)}")
    return "\n".join(parts)


def kept(name: str) -> dict[str, Any]:
    """Return what the results have of a table."""
    path = record.RESULTS / f"papers_{name}.json"
    told: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return told


def main() -> None:
    """Run the cells that the command line names, and keep them; or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", choices=TABLES)
    parser.add_argument("--root", help="the folder of the data")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="train nothing, keep what there is")
    parser.add_argument("--page", action="store_true", help="write docs/papers.md")
    args = parser.parse_args()
    if args.table is not None:
        table = read_table(args.table)
        bench = Bench(table, args.out, args.root, args.seeds, jobs=args.jobs)
        cells = table.chosen(args.only)
        if not args.show:
            bench.run(cells)
        found = {cell.name: measured for cell in cells if (measured := bench.measured(cell))}
        command = f"python benchmarks/papers.py {args.table}"
        print(record.write(f"papers_{args.table}", command, cells={**kept(args.table).get("cells", {}), **found}))
    if args.page:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
