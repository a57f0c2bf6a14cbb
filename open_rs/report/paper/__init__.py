"""The paper's tables and figures, with runs of one's own beside the authors'. No torch.

`facts` holds what the paper and later work published, `ours` what run folders say, `tables` and
`figures` put them together as plain data, `render` and `draw` write that out; only `draw` imports
matplotlib.
"""

from open_rs.report.paper.build import build_costs, build_paper

__all__ = ["build_costs", "build_paper"]
