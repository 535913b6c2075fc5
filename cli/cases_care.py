"""What a store of cases may do without."""

from __future__ import annotations

from time import time
from typing import Annotated, Any

import typer

from cli import console, options
from cli.cases_options import (
    ACTOR,
    STORE,
    Store,
    Yes,
    excerpt,
    listing,
    opened,
    preview,
    said,
)
from tfgrpo.errors import ConfigError


def forget(
    least: Annotated[
        float | None,
        typer.Option(
            help="Credited cases whose utility is below this by all we know.", show_default=False
        ),
    ] = None,
    unshown: Annotated[
        float | None,
        typer.Option(help="Cases that were not shown once in so many days.", show_default=False),
    ] = None,
    age: Annotated[
        float | None,
        typer.Option(help="Cases that have not changed for so many days.", show_default=False),
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option(
            help="The least useful ones above so many in a namespace.", show_default=False
        ),
    ] = None,
    grace: Annotated[float, typer.Option(help="Days in which a case is safe.")] = 0.0,
    z: Annotated[float, typer.Option(help="Standard errors of doubt; below 0, in favour.")] = 1.0,
    yes: Yes = False,
    store: Store = STORE,
    json: options.Json = False,
) -> None:
    """Archive what is of no use by the rules that are given; `restore` brings it back."""
    from memory.care.upkeep import DAY, ForgetPolicy, forget_plan
    from memory.care.upkeep import forget as carry_out

    if (least, unshown, age, capacity) == (None,) * 4:
        raise ConfigError("Give a rule: --least, --unshown, --age or --capacity.")
    days = {"unshown": unshown, "age": age, "grace": grace}
    times: dict[str, Any] = {k: None if v is None else v * DAY for k, v in days.items()}
    try:
        policy = ForgetPolicy(least=least, capacity=capacity, z=z, **times)
    except ValueError as error:
        raise ConfigError(f"No rule can be like this: {error}") from error
    with opened(store, "rw" if yes else "ro") as bank:
        plan = forget_plan(bank, policy, time())
        if yes:
            carry_out(bank, plan, actor=ACTOR)
        texts = {case.case_id: said(bank.get(case.case_id)) for case in plan.archive}
    if json:
        console.print_json({"done": yes, "archive": plan.archive, "over": plan.over})
        return
    rows = [(c.case_id, c.reason, excerpt(texts[c.case_id])) for c in plan.archive]
    console.show(listing(("archive", "because", "what"), rows, texts=2))
    for ns, excess in plan.over.items():
        console.note(f"{console.safe(ns)} keeps {excess} too many, because they are protected.")
    preview(yes, rows)
