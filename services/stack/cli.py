"""The `sampan` command."""

from __future__ import annotations

import typer

from services.stack.commands import (
    banking,
    benchmark,
    chatting,
    checking,
    data,
    delivery,
    events,
    infra,
    keeping,
    lifecycle,
    measuring,
    money,
    people,
    reviewing,
    seeding,
    serving,
    statistics,
    testing,
    trying,
    watching,
)

app = typer.Typer(
    name="sampan",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help: it starts faster than the decorated one, and pipes and terminals show the same.
    rich_markup_mode=None,
    help="Sampan on this machine: start, stop, look after, mend.",
    context_settings={"help_option_names": ["--help", "-h"]},
)

for command in (
    lifecycle.up,
    lifecycle.down,
    lifecycle.status,
    watching.health,
    watching.logs,
    measuring.top,
    measuring.metrics,
    serving.serve,
    delivery.outbox,
    benchmark.bench,
    lifecycle.reset,
    seeding.seed,
    chatting.chat,
    checking.doctor,
    keeping.backup,
    keeping.restore,
):
    app.command()(command)
app.command("try")(trying.try_)
app.command("test")(testing.run_tests)
app.add_typer(infra.infra, name="infra")
app.add_typer(data.migrate, name="migrate")
app.add_typer(data.db, name="db")
app.add_typer(events.events, name="events")
app.add_typer(people.admin, name="admin")
app.add_typer(statistics.analytics, name="analytics")
app.add_typer(people.identity, name="identity")
app.add_typer(money.payment, name="payment")
app.add_typer(banking.bank, name="bank")
money.payment.command()(reviewing.held)
money.payment.command()(reviewing.resolve)


if __name__ == "__main__":
    app(prog_name="sampan")
