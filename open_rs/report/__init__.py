"""One self-contained page about a run, or several, from their folders alone. No torch, no network,
no server.

`load` reads the folder; `verdict`, `cautions`, `curves`, `distributions`, `rollouts` and `tables`
each make parts of the page, `comparison` those of several runs; `page` puts them together.
"""

from open_rs.report.page import build_comparison, build_report

__all__ = ["build_comparison", "build_report"]
