"""`tfgrpo memory`: the group of all commands on a store of cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import typer

from cli import (
    cases_add,
    cases_care,
    cases_check,
    cases_consolidate,
    cases_episodes,
    cases_fit,
    cases_history,
    cases_leaks,
    cases_onnx,
    cases_read,
    cases_share,
    cases_show,
    cases_stats,
    cases_vectors,
    cases_why,
    cases_write,
)

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Keep, read and mend a memory of cases. The store is the folder in --store or in "
        "TFGRPO_MEMORY, else ./memory-store. Exit codes: 0 ok, 1 an error or a problem found, "
        "2 wrong input. What destroys shows first what it would do, and does it with --yes."
    ),
)

_PANELS: Mapping[str, Mapping[str, Callable[..., None]]] = {
    "Read": {
        "ls": cases_read.ls,
        "search": cases_read.search,
        "show": cases_show.show,
        "why": cases_why.why,
        "stats": cases_stats.stats,
        "episodes": cases_episodes.episodes,
    },
    "Change": {
        "init": cases_add.init,
        "add": cases_add.add,
        "edit": cases_write.edit,
        "pin": cases_write.pin,
        "unpin": cases_write.unpin,
        "rm": cases_write.rm,
        "restore": cases_write.restore,
        "purge": cases_write.purge,
        "forget": cases_care.forget,
        "consolidate": cases_consolidate.consolidate,
    },
    "Look back": {
        "history": cases_history.history,
        "diff": cases_history.diff,
        "snapshot": cases_history.snapshot,
        "snapshots": cases_history.snapshots,
        "revert": cases_history.revert,
    },
    "Share": {
        "import": cases_share.import_file,
        "export": cases_share.export,
        "html": cases_share.html,
        "leaks": cases_leaks.leaks,
    },
    "Vectors": {
        "reembed": cases_vectors.reembed,
        "spaces": cases_vectors.spaces,
        "bench": cases_vectors.bench,
        "fit": cases_fit.fit,
        "onnx": cases_onnx.onnx,
    },
    "Health": {
        "verify": cases_check.verify,
        "doctor": cases_check.doctor,
        "reindex": cases_check.reindex,
    },
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
