"""The command in this process, for tests that need no process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.main import run
from tests.cli.commands import Cli, Ended


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def give(*arguments: str | Path) -> Ended:
        with pytest.raises(SystemExit) as end:
            run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ended(int(end.value.code or 0), printed.out, printed.err)

    return give
