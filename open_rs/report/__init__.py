"""One self-contained page about a run, from its folder alone. No torch, no network, no server.

`load` reads the folder, `verdict`, `curves`, `samples` and `tables` each make one part of the page,
`page` puts them together.
"""

from open_rs.report.page import build_report

__all__ = ["build_report"]
