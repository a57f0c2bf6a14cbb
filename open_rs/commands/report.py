"""`open-rs report`."""

from open_rs.commands.shared import Json, RunArg, existing_run, show


def report(run_path: RunArg, as_json: Json = False) -> None:
    """One self-contained HTML page of a run, finished or not."""
    from open_rs.report import build_report

    path = build_report(existing_run(run_path))
    show({"report": str(path)}, as_json, str(path))
